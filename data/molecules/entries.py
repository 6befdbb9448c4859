"""Entries of molecule files: a molecule for each record, or the reason why there is none, within shared limits."""

from collections.abc import Collection, Iterable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from molrl.data.files import ReadReport, Skipped
from molrl.data.molecules.molecule import Hydrogens, Molecule, count_hydrogens

MAX_HEAVY = 512  # heavy atoms of a molecule
MAX_RECORDS = 1_000_000
NO_LIMIT = 1 << 62  # for callers that hold one record at a time
MAX_COORDINATE = 1e5  # angstrom

Entry: TypeAlias = Molecule | Skipped
"""The result of reading one record."""


def collect(entries: Iterable[Entry], source: str) -> tuple[list[Molecule], ReadReport]:
    """Separate the molecules from the skipped records."""
    molecules: list[Molecule] = []
    skipped: list[Skipped] = []
    for entry in entries:
        if isinstance(entry, Skipped):
            skipped.append(entry)
        else:
            molecules.append(entry)
    return molecules, report_of(molecules, skipped, source)


def report_of(molecules: Collection[Molecule], skipped: Iterable[Skipped], source: str) -> ReadReport:
    """Return the account of a source from which molecules were read."""
    return ReadReport(source, len(molecules), tuple(skipped), "molecules")


def keep_elements(molecules: Iterable[Molecule], elements: Collection[int]) -> tuple[list[Molecule], ReadReport]:
    """Keep the molecules made of these elements (atomic numbers) only, and report the first foreign one of the rest."""
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


def make_entry(molecule: Molecule, hydrogens: Hydrogens, max_heavy: int, where: str) -> Entry:
    """Return a molecule without a graph in the requested hydrogen setting, or the reason why that is impossible."""
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
    """Return why coordinates in angstrom [n, 3] are unusable, or "" if they are fine."""
    if not np.isfinite(positions).all():
        return "non-finite positions"
    return "positions out of range" if np.abs(positions).max(initial=0.0) > MAX_COORDINATE else ""
