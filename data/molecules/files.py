"""Molecule files: dispatch by suffix, and an account of what was skipped and why."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from molrl.data.files import Skipped, suffix
from molrl.data.molecules.molecule import Hydrogens, Molecule, count_hydrogens

MAX_HEAVY = 512
MAX_RECORDS = 1_000_000
NO_LIMIT = 1 << 62  # for those who hold one record at a time
MAX_COORDINATE = 1e5  # angstrom
SUFFIXES = (".sdf", ".mol", ".xyz", ".smi", ".txt", ".csv", ".npz")
HYDROGENS = ("atoms", "counts", "file")

Entry: TypeAlias = Molecule | Skipped
"""What one record of a file became."""


@dataclass(frozen=True)
class ReadReport:
    """What became of the records of a source."""

    source: str
    molecules: int
    skipped: tuple[Skipped, ...]

    def reasons(self) -> dict[str, int]:
        """How often each reason occurred, most frequent first."""
        return dict(Counter(entry.reason for entry in self.skipped).most_common())

    def __str__(self) -> str:
        text = f"{self.source}: {self.molecules} molecules"
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons().items())
            text += f", {len(self.skipped)} skipped ({reasons}; first at {self.skipped[0].where})"
        return text


def stream(path: str | Path, hydrogens: Hydrogens = "file", max_heavy: int = MAX_HEAVY) -> Iterator[Entry]:
    """Yield one entry per record of an SDF, XYZ, SMILES or npz file, in order.

    Raises ValueError, before anything is yielded, for an unknown suffix and for a missing, empty or binary file.
    """
    if hydrogens not in HYDROGENS:
        raise ValueError(f"hydrogens: got {hydrogens!r}, allowed: {', '.join(HYDROGENS)}")
    match suffix(path):
        case ".sdf" | ".mol":
            from molrl.data.molecules.sdf import stream_sdf

            return stream_sdf(path, hydrogens, max_heavy)
        case ".xyz":
            from molrl.data.molecules.xyz import stream_xyz

            return stream_xyz(path, hydrogens, max_heavy)
        case ".smi" | ".txt" | ".csv":
            from molrl.data.molecules.smiles import stream_smiles

            return stream_smiles(path, hydrogens, max_heavy)
        case ".npz":
            from molrl.data.molecules.qm9 import load_qm9

            molecules, report = load_qm9(path, "atoms" if hydrogens == "file" else hydrogens)
            checked = (wanted(molecule, "file", max_heavy, molecule.name) for molecule in molecules)
            return chain(checked, report.skipped)
        case other:
            raise ValueError(
                f"{path}: unknown suffix {other!r}, allowed: {', '.join(SUFFIXES)}, each also with .gz but .npz"
            )


def read(
    path: str | Path, hydrogens: Hydrogens = "file", max_heavy: int = MAX_HEAVY
) -> tuple[list[Molecule], ReadReport]:
    """Read every molecule of a file; `stream` with the skipped records put aside."""
    return collect(stream(path, hydrogens, max_heavy), str(path))


def collect(entries: Iterable[Entry], source: str) -> tuple[list[Molecule], ReadReport]:
    """Part the molecules from the skipped records."""
    molecules: list[Molecule] = []
    skipped: list[Skipped] = []
    for entry in entries:
        if isinstance(entry, Skipped):
            skipped.append(entry)
        else:
            molecules.append(entry)
    return molecules, ReadReport(source, len(molecules), tuple(skipped))


def keep_elements(molecules: Iterable[Molecule], elements: Collection[int]) -> tuple[list[Molecule], ReadReport]:
    """Keep the molecules made of these elements (atomic numbers) only, and name the first other one of the rest."""
    allowed = np.zeros(256, dtype=np.bool_)
    allowed[list(elements)] = True

    def entries() -> Iterator[Entry]:
        for row, molecule in enumerate(molecules, 1):
            foreign = molecule.numbers[~allowed[molecule.numbers]]
            if len(foreign):
                yield Skipped(molecule.name or f"molecule {row}", f"element {int(foreign[0])}")
            else:
                yield molecule

    return collect(entries(), "elements")


def wanted(molecule: Molecule, hydrogens: Hydrogens, max_heavy: int, where: str) -> Entry:
    """A molecule without a graph in the wanted setting, or why it cannot be had."""
    heavy = int((molecule.numbers > 1).sum())
    if heavy > max_heavy:
        return Skipped(where, f"more than {max_heavy} heavy atoms")
    if hydrogens != "counts":
        return molecule
    try:
        return count_hydrogens(molecule)
    except ValueError as error:
        return Skipped(where, str(error))


def position_problem(positions: NDArray[np.floating]) -> str:
    """Why coordinates in angstrom [n, 3] are not usable; "" when they are."""
    if not np.isfinite(positions).all():
        return "non-finite positions"
    return "positions out of range" if np.abs(positions).max(initial=0.0) > MAX_COORDINATE else ""
