"""Training sets of molecules, and where they come from."""

from collections.abc import Sequence
from dataclasses import dataclass

from molrl.data.files import ReadReport
from molrl.data.molecules.enumerated import enumerate_molecules
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Hydrogens, Molecule
from molrl.data.molecules.qm9 import Half, load_pyg_qm9, load_qm9


@dataclass(frozen=True)
class MoleculeSet:
    """Molecules to learn from, with their hydrogens all as atoms or all as counts.

    Attributes:
        skipped: one line for each record of the source that became no molecule.
    """

    molecules: Sequence[Molecule]
    skipped: Sequence[str] = ()


def enumerated_set(*, n: int, max_heavy: int, seed: int, hydrogens: Hydrogens) -> MoleculeSet:
    """Return small molecules that are enumerated and embedded with RDKit."""
    return MoleculeSet(enumerate_molecules(n, max_heavy, seed, counts=hydrogens == "counts", workers=2))


def qm9_set(*, path: str, hydrogens: Hydrogens, half: Half | None = None) -> MoleculeSet:
    """Return QM9, or one half of it, from a local npz file."""
    molecules, report = load_qm9(path, hydrogens, half)
    return MoleculeSet(molecules, skipped_lines(report))


def pyg_qm9_set(*, root: str, hydrogens: Hydrogens, half: Half | None = None) -> MoleculeSet:
    """Return QM9, or one half of it, as PyTorch Geometric has it."""
    molecules, report = load_pyg_qm9(root, hydrogens, half)
    return MoleculeSet(molecules, skipped_lines(report))


def file_set(*, path: str, hydrogens: Hydrogens) -> MoleculeSet:
    """Return the molecules of any file that `molrl.data.molecules.files` reads."""
    molecules, report = read(path, hydrogens)
    return MoleculeSet(molecules, skipped_lines(report))


def skipped_lines(report: ReadReport) -> list[str]:
    """Return one line for each skipped record: its place and the reason."""
    return [f"{item.where}: {item.reason}" for item in report.skipped]
