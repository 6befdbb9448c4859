"""XYZ files of one or many frames."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rdkit import Chem

from molrl.data.files import MAX_BYTES, BrokenStreamError, ReadReport, Skipped, open_file, text_lines
from molrl.data.molecules.entries import (
    MAX_HEAVY,
    MAX_RECORDS,
    NO_LIMIT,
    Entry,
    collect,
    make_entry,
    position_problem,
)
from molrl.data.molecules.molecule import Hydrogens, Molecule

MAX_ATOMS = 10_000
ATOMIC_NUMBERS = {Chem.GetPeriodicTable().GetElementSymbol(number): number for number in range(1, 119)}


def read_xyz(path: str | Path, hydrogens: Hydrogens = "file") -> tuple[list[Molecule], ReadReport]:
    """Read every frame of an XYZ file; see `stream_xyz`."""
    return collect(stream_xyz(path, hydrogens), str(path))


def stream_xyz(
    path: str | Path,
    hydrogens: Hydrogens = "file",
    max_heavy: int = MAX_HEAVY,
    max_records: int = MAX_RECORDS,
    max_bytes: int = MAX_BYTES,
) -> Iterator[Entry]:
    """Yield a molecule, or the reason why there is none, per frame: a count, a comment, `element x y z` in angstrom.

    After a bad line, reading goes on at the next line with a single whole number, which opens a frame. Hydrogens are
    atoms unless "counts" are requested.

    Raises ValueError, before the first frame, for a file that is missing, empty or binary.
    """
    open_file(path).close()
    return stream_frames(path, hydrogens, max_heavy, max_records, max_bytes)


def stream_frames(
    path: str | Path, hydrogens: Hydrogens, max_heavy: int, max_records: int, max_bytes: int
) -> Iterator[Entry]:
    """Yield one entry per frame of a file that can be opened."""
    for _, entry in frames(path, hydrogens, max_heavy, max_records, max_bytes):
        yield entry


def frames(
    path: str | Path,
    hydrogens: Hydrogens = "file",
    max_heavy: int = MAX_HEAVY,
    max_records: int = NO_LIMIT,
    max_bytes: int = NO_LIMIT,
) -> Iterator[tuple[int, Entry]]:
    """Yield the frames of a file that can be opened, one at a time, each with the number of its first line."""
    number = 0
    frame: Frame | None = None
    count = 0
    lost = False  # True between a bad line and the next frame
    try:
        for number, line in enumerate(text_lines(path, max_bytes), 1):
            if frame is not None:
                problem = frame.add(line)
                if not problem:
                    if frame.full:
                        yield frame.line, make_entry(frame.molecule(), hydrogens, max_heavy, frame.where)
                        frame = None
                    continue
                yield frame.line, Skipped(frame.where, f"{problem} in line {number}")
                frame, lost = None, True  # the line may still open the next frame
            if count >= max_records and line.strip():
                yield number, Skipped(f"line {number}", f"the rest is not read: more than {max_records} frames")
                return
            opened = open_frame(line, count + 1, number)
            if isinstance(opened, Frame):
                frame, count, lost = opened, count + 1, False
            elif opened and not lost:
                yield number, Skipped(f"line {number}", opened)
                lost = True
    except BrokenStreamError as error:
        yield number + 1, Skipped(f"line {number + 1}", str(error))
        return
    if frame is not None:
        yield frame.line, Skipped(frame.where, "the file ends inside the frame")


def open_frame(line: str, number: int, place: int) -> "Frame | str":
    """Return the frame that a line with a number of atoms opens, or the problem; "" for an empty line.

    Args:
        number: of the frame, from 1.
        place: the number of the line.
    """
    text = line.strip()
    if not text:
        return ""
    if not (text.isascii() and text.isdigit()):
        return "expected the number of atoms"
    if not 1 <= (count := int(text[:9])) <= MAX_ATOMS:
        return f"{count} atoms, allowed: 1 to {MAX_ATOMS}"
    return Frame(count, number, place)


class Frame:
    """A frame of an XYZ file that is being read."""

    def __init__(self, count: int, number: int, line: int) -> None:
        self.count = count
        self.line = line
        self.where = f"frame {number}, line {line}"
        self.name: str | None = None
        self.numbers: list[int] = []
        self.rows: list[list[float]] = []

    @property
    def full(self) -> bool:
        """Return whether all atoms have been read."""
        return self.count == len(self.rows)

    def add(self, line: str) -> str:
        """Take the line as the comment or as an atom; otherwise return the problem."""
        if self.name is None:
            self.name = line.strip()
            return ""
        words = line.split()
        if len(words) < 4:
            return "expected an element and three coordinates"
        atom = (
            int(words[0][:4])
            if words[0].isascii() and words[0].isdigit()
            else ATOMIC_NUMBERS.get(words[0].capitalize(), 0)
        )
        if not 1 <= atom <= 118:
            return f"unknown element {words[0][:20]!r}"
        try:
            row = [float(word.replace("*^", "e").replace("D", "e").replace("d", "e")) for word in words[1:4]]
        except ValueError:
            return "coordinates are not numbers"
        if problem := position_problem(np.array(row)):
            return problem
        self.numbers.append(atom)
        self.rows.append(row)
        return ""

    def molecule(self) -> Molecule:
        """Return the molecule of a full frame."""
        positions = np.array(self.rows, dtype=np.float32)
        return Molecule(np.array(self.numbers, dtype=np.int64), positions, None, self.name or self.where)
