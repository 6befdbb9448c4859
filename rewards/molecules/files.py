"""Molecule files as something to score: their records, and the SMILES of each.

Worker processes import this module, so it must not import torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor

from molrl.data.files import Skipped, suffix
from molrl.data.molecules.bonds import BondReader, Reading, attach_bonds
from molrl.data.molecules.files import SUFFIXES as READ
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import Record, has_geometry, molecule_of, records
from molrl.data.molecules.sdf import Block, record_text
from molrl.rewards.scores import Scorer
from molrl.rewards.scoring.journal import description, identity
from molrl.rewards.scoring.record import RecordRequest, RecordResult, asked, unread
from molrl.rewards.scoring.table import SUFFIXES

LONGEST_SMILES = 10_000  # that a table shows


@dataclass(frozen=True, kw_only=True)
class MoleculeFiles:
    """Files of molecules.

    Attributes:
        reader: gives the SMILES of molecules that come without bonds.
        embed: make geometries for SMILES and 2D drawings.
        smiles_column: of a .csv file; None takes smiles or canonical_smiles.
    """

    reader: BondReader
    embed: bool
    smiles_column: str | None
    domain: ClassVar[str] = "molecules"
    column: ClassVar[str] = "smiles"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    def records(self, path: str | Path) -> Iterator[Record]:
        """Those of a file in order; ValueError, at once, for what has none."""
        if suffix(path) not in READ:
            kind = "a folder" if Path(path).is_dir() else repr(suffix(path))
            raise ValueError(f"{path}: the reward scores molecules, got {kind}, allowed are {', '.join(READ)}")
        return records(path, self.smiles_column)

    def record_scorer(
        self, scorers: Mapping[str, Scorer[Any]], others: tuple[str, ...], *, texts: bool
    ) -> "MoleculeRecordScorer":
        """Who reads them and asks the scorers."""
        return MoleculeRecordScorer(
            scorers=scorers, reader=self.reader, embedded=self.embed, texts=texts, others=others
        )

    def identity(self, path: str | Path) -> Mapping[str, Any]:
        """What tells a file from another one."""
        return identity(path)

    def settings(self) -> Mapping[str, Any]:
        """How it reads."""
        own = {"reader": description(self.reader), "embed": self.embed, "smiles_column": self.smiles_column}
        return {**own, "version": {"rdkit": rdBase.rdkitVersion}}


@dataclass(frozen=True, kw_only=True)
class MoleculeRecordScorer:
    """Reads records and scores them.

    Attributes:
        scorers: by reward.
        reader: gives the SMILES of molecules that come without bonds.
        embedded: make geometries for those that have none.
        texts: write SDF records.
        others: rewards that are not asked here, but need the record to be readable and the molecule handed back.
    """

    scorers: Mapping[str, Scorer[Molecule]]
    reader: BondReader
    embedded: bool
    texts: bool
    others: tuple[str, ...]

    def __call__(self, request: RecordRequest) -> RecordResult:
        record: Record = request.record
        entry = molecule_of(record, embedded=self.embedded)
        if isinstance(entry, Skipped):
            smiles = getattr(record.content, "smiles", "")[:LONGEST_SMILES]
            return unread(record, entry.reason, smiles, (*request.rewards, *self.others))
        reading = self.reader(entry)
        smiles = "" if reading.mol is None else Chem.MolToSmiles(reading.mol)
        scored, parts = asked(self.scorers, request.rewards, entry)
        text = written(record, entry, reading) if self.texts else ""
        return RecordResult(record.name, smiles, scored, parts, text, entry if self.others else None)


def written(record: Record, molecule: Molecule, reading: Reading) -> str:
    """The SDF record of a molecule: the file's own where it is one, else the bonds as read, drawn if nowhere placed."""
    if isinstance(record.content, Block):
        return record.content.text
    if has_geometry(molecule) or molecule.graph is None:
        mol, _ = attach_bonds(molecule, lambda _: reading)
    else:
        mol = Chem.Mol(molecule.graph)
        rdDepictor.Compute2DCoords(mol)
        Chem.Kekulize(mol, clearAromaticFlags=True)
    return record_text(mol, record.name, {}).removesuffix("$$$$\n")
