"""Molecule files for `molrl score`: their records, and the SMILES of each.

Worker processes import this module, so it must not import torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor

from molrl.data.files import Skipped, locate, suffix
from molrl.data.molecules.bonds import BondReader, Reading, attach_bonds
from molrl.data.molecules.files import SUFFIXES, require_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import Record, has_geometry, molecule_of, records
from molrl.data.molecules.sdf import EMBEDDED, Block, record_text
from molrl.data.molecules.smiles import Line
from molrl.data.molecules.standardise import Fragments, Treatment
from molrl.rewards.molecules.sdf_table import TABLES
from molrl.rewards.scores import Scorer
from molrl.rewards.scoring.journal import description, identity
from molrl.rewards.scoring.record import RecordRequest, RecordResult, score_sample, unreadable
from molrl.rewards.scoring.table import Table

MAX_SMILES_LENGTH = 10_000  # characters of an unreadable SMILES in a table


@dataclass(frozen=True, kw_only=True)
class MoleculeFiles:
    """The source of records in molecule files.

    Attributes:
        reader: gives the SMILES of molecules that come without bonds.
        embed: make geometries for SMILES and 2D drawings.
        smiles_column: of a .csv file; None takes smiles or canonical_smiles.
        fragments: see `Treatment`.
    """

    reader: BondReader
    embed: bool
    smiles_column: str | None
    fragments: Fragments = "keep"
    kind: ClassVar[str] = "molecules"
    column: ClassVar[str] = "smiles"
    tables: ClassVar[Mapping[str, type[Table]]] = TABLES

    @property
    def treatment(self) -> Treatment:
        """Return the treatment of every molecule."""
        return Treatment(self.fragments)

    def records(self, path: str | Path) -> Iterator[Record]:
        """Yield the records of a file in order; raise ValueError, at once, for a file without any."""
        if suffix(path) not in SUFFIXES:
            given = "a folder" if Path(path).is_dir() else repr(suffix(path))
            raise ValueError(f"{path}: the reward scores molecules, got {given}, allowed are {', '.join(SUFFIXES)}")
        require_bonds(path, self.treatment)
        return records(path, self.smiles_column)

    def record_scorer(
        self, scorers: Mapping[str, Scorer[Any]], others: tuple[str, ...], *, texts: bool
    ) -> "MoleculeRecordScorer":
        """Return a function that reads and scores records."""
        return MoleculeRecordScorer(
            scorers=scorers,
            reader=self.reader,
            embedded=self.embed,
            treatment=self.treatment,
            texts=texts,
            others=others,
        )

    def identity(self, path: str | Path) -> Mapping[str, Any]:
        """Return JSON that tells a file from another one."""
        return identity(locate(path))

    def settings(self) -> Mapping[str, Any]:
        """Return the settings of the reader, with RDKit's version."""
        return {
            "reader": description(self.reader),
            "embed": self.embed,
            "smiles_column": self.smiles_column,
            "fragments": self.fragments,
            "version": {"rdkit": rdBase.rdkitVersion},
        }


@dataclass(frozen=True, kw_only=True)
class MoleculeRecordScorer:
    """A function that reads a record of a molecule file and scores the molecule.

    Attributes:
        scorers: by reward.
        reader: gives the SMILES of molecules that come without bonds.
        embedded: make geometries for those that have none.
        treatment: of every molecule.
        texts: write SDF records.
        others: rewards that are computed elsewhere and need the molecule in the result.
    """

    scorers: Mapping[str, Scorer[Molecule]]
    reader: BondReader
    embedded: bool
    treatment: Treatment
    texts: bool
    others: tuple[str, ...]

    def __call__(self, request: RecordRequest) -> RecordResult:
        record: Record = request.record
        entry = molecule_of(record, embedded=self.embedded, treatment=self.treatment)
        if isinstance(entry, Skipped):
            smiles = getattr(record.content, "smiles", "")[:MAX_SMILES_LENGTH]
            return unreadable(record, entry.reason, smiles, (*request.rewards, *self.others))
        reading = self.reader(entry)
        smiles = "" if reading.mol is None else Chem.MolToSmiles(reading.mol)
        scored, parts = score_sample(self.scorers, request.rewards, entry)
        text = sdf_text(record, entry, reading) if self.texts else ""
        return RecordResult(record.name, smiles, scored, parts, text, entry if self.others else None)


def sdf_text(record: Record, molecule: Molecule, reading: Reading) -> str:
    """Return the SDF record of a molecule without its end mark.

    It is that of the file where that is an SDF file; else it has the bonds as read, and 2D coordinates where the
    molecule has no geometry.
    """
    if isinstance(record.content, Block):
        return record.content.text
    if has_geometry(molecule) or molecule.graph is None:
        mol, _ = attach_bonds(molecule, lambda _: reading)
    else:
        mol = Chem.Mol(molecule.graph)
        rdDepictor.Compute2DCoords(mol)
        Chem.Kekulize(mol, clearAromaticFlags=True)
    marks = {EMBEDDED: "ETKDGv3"} if isinstance(record.content, Line) and molecule.positions.any() else {}
    return record_text(mol, record.name, marks).removesuffix("$$$$\n")
