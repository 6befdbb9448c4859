"""Molecular graphs without geometries: files read as such, and canonical SMILES with their parsed molecules."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rdkit import Chem, rdBase

from molrl.data.files import ReadReport, Skipped, suffix
from molrl.data.molecules.bonds import Reading
from molrl.data.molecules.entries import collect
from molrl.data.molecules.files import read
from molrl.data.molecules.graphs import constitution
from molrl.data.molecules.molecule import Hydrogens, Molecule
from molrl.data.molecules.quality import fragment_smiles
from molrl.data.molecules.records import molecule_of, parse_graph, records
from molrl.data.molecules.sdf import EMBEDDED, blocks, stream_sdf
from molrl.data.molecules.smiles import SMILES_SUFFIXES, smiles_lines, treat_line
from molrl.data.molecules.standardise import AS_IT_IS, Treatment

SDF_SUFFIXES = (".sdf", ".mol")


@dataclass(frozen=True)
class Graphs:
    """Molecules as canonical SMILES, and parsed from these, so that nothing depends on how they were read.

    Attributes:
        smiles: one for each molecule.
        mols: RDKit molecules, in the same order.
    """

    smiles: tuple[str, ...]
    mols: tuple[Chem.Mol, ...]

    @classmethod
    def parse(cls, smiles: Iterable[str]) -> "Graphs":
        """Parse SMILES that RDKit wrote; the few that it cannot read back are left out."""
        with rdBase.BlockLogs():
            pairs = [(text, mol) for text in smiles if (mol := Chem.MolFromSmiles(text)) is not None]
        return cls(tuple(text for text, _ in pairs), tuple(mol for _, mol in pairs))

    def __len__(self) -> int:
        return len(self.smiles)


def read_unembedded(
    path: str | Path, hydrogens: Hydrogens, treatment: Treatment = AS_IT_IS
) -> tuple[list[Molecule], ReadReport]:
    """Read every molecule of a file; those of SMILES and 2D drawings are graphs with all atoms at the origin.

    Args:
        hydrogens: as for `molrl.data.molecules.files.read`; SMILES keep theirs as counts.
        treatment: of molecules that come with bonds.
    """
    if suffix(path) in SDF_SUFFIXES:
        return collect(stream_sdf(path, hydrogens, treatment=treatment, flat=True), str(path))
    if suffix(path) not in SMILES_SUFFIXES:
        return read(path, hydrogens, treatment=treatment)
    entries = (molecule_of(record, embedded=False, treatment=treatment) for record in records(path))
    return collect(entries, str(path))


def count_embedded(path: str | Path) -> int:
    """Return how many records of a file have coordinates that molrl computed itself, as `molrl score` marks them."""
    if suffix(path) not in SDF_SUFFIXES:
        return 0
    return sum(f"<{EMBEDDED}>" in block.text for block in blocks(path))


def read_canonical_smiles(path: str | Path, treatment: Treatment = AS_IT_IS) -> tuple[list[str], ReadReport]:
    """Read a file of SMILES, of each the largest fragment without stereo marks, and report the lines that are none.

    The texts are those that `fragment_smiles` gives for the molecules of `read_unembedded`, in a third of the time.
    """
    graphs = [parse_graph(treat_line(line, treatment)) for line in smiles_lines(path)]
    texts = [canonical_smiles(graph) for graph in graphs if not isinstance(graph, Skipped)]
    skipped = tuple(graph for graph in graphs if isinstance(graph, Skipped))
    return texts, ReadReport(str(path), len(texts), skipped, "molecules")


def canonical_smiles(mol: Chem.Mol) -> str:
    """Return what `fragment_smiles` gives for a parsed SMILES."""
    text = constitution(mol)
    return fragment_smiles(Reading(mol, "")) if "." in text else text
