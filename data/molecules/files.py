"""Molecule files of every format that is read: the suffix selects the reader."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from molrl.data.files import ReadReport, suffix
from molrl.data.molecules.entries import MAX_HEAVY, Entry, collect, make_entry
from molrl.data.molecules.molecule import Hydrogens, Molecule
from molrl.data.molecules.qm9 import load_qm9
from molrl.data.molecules.sdf import stream_sdf
from molrl.data.molecules.smiles import stream_smiles
from molrl.data.molecules.standardise import AS_IT_IS, Treatment
from molrl.data.molecules.xyz import stream_xyz

SUFFIXES = (".sdf", ".mol", ".xyz", ".smi", ".txt", ".csv", ".npz")
WITHOUT_BONDS = (".xyz", ".npz")
HYDROGENS = ("atoms", "counts", "file")


def stream(
    path: str | Path,
    hydrogens: Hydrogens = "file",
    max_heavy: int = MAX_HEAVY,
    treatment: Treatment = AS_IT_IS,
) -> Iterator[Entry]:
    """Yield one entry per record of an SDF, XYZ, SMILES or npz file, in order.

    Args:
        hydrogens: how hydrogens are represented; see `Hydrogens`. For an npz file "file" means "atoms".
        max_heavy: molecules with more heavy atoms are skipped.
        treatment: of molecules that come with bonds: SDF and SMILES.

    Raises ValueError, before anything is yielded, for an unknown suffix, for a missing, empty or binary file, and for a
    treatment of a file without bonds.
    """
    require_bonds(path, treatment)
    if hydrogens not in HYDROGENS:
        raise ValueError(f"hydrogens: got {hydrogens!r}, allowed: {', '.join(HYDROGENS)}")
    match suffix(path):
        case ".sdf" | ".mol":
            return stream_sdf(path, hydrogens, max_heavy, treatment=treatment)
        case ".xyz":
            return stream_xyz(path, hydrogens, max_heavy)
        case ".smi" | ".txt" | ".csv":
            return stream_smiles(path, hydrogens, max_heavy, treatment=treatment)
        case ".npz":
            molecules, report = load_qm9(path, "atoms" if hydrogens == "file" else hydrogens)
            entries = (make_entry(molecule, "file", max_heavy, molecule.name) for molecule in molecules)
            return chain(entries, report.skipped)
        case other:
            raise ValueError(
                f"{path}: unknown suffix {other!r}, allowed: {', '.join(SUFFIXES)}, each also with .gz but .npz"
            )


def read(
    path: str | Path, hydrogens: Hydrogens = "file", max_heavy: int = MAX_HEAVY, treatment: Treatment = AS_IT_IS
) -> tuple[list[Molecule], ReadReport]:
    """Read every molecule of a file, and report the records that were skipped; see `stream`."""
    return collect(stream(path, hydrogens, max_heavy, treatment), str(path))


def require_bonds(path: str | Path, treatment: Treatment) -> None:
    """Raise ValueError if molecules are to be changed that come without bonds."""
    if treatment and (kind := suffix(path)) in WITHOUT_BONDS:
        raise ValueError(
            f"{path}: fragments and charges are those of bonds, which {kind} files do not have; "
            "allowed: fragments=keep without neutralise"
        )
