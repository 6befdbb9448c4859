"""XYZ files of one or many frames."""

import re
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
from molrl.data.molecules.xyz_comment import PLAIN, charge_problem, columns_of, trailer_of

MAX_ATOMS = 10_000
MAX_ATOMIC_NUMBER = 118
ATOMIC_NUMBERS = {
    Chem.GetPeriodicTable().GetElementSymbol(number): number for number in range(1, MAX_ATOMIC_NUMBER + 1)
}
REAL_MARKS = re.compile(r"\*\^|[Dd]")  # of an exponent, in QM9 and Fortran


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

    `Properties=` in the comment (extended XYZ) names other columns; the three lines that QM9 has after the atoms belong
    to the frame. A frame whose comment states a charge is refused.

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
    reader = FrameReader(hydrogens, max_heavy, max_records)
    number = 0
    try:
        for number, line in enumerate(text_lines(path, max_bytes), 1):
            yield from reader.take(number, line)
            if reader.stopped:
                return
    except BrokenStreamError as error:
        yield number + 1, Skipped(f"line {number + 1}", str(error))
        return
    if reader.frame is not None:
        yield reader.frame.line, Skipped(reader.frame.where, "the file ends inside the frame")


class FrameReader:
    """The place between the frames of a file that is read line by line.

    Attributes:
        frame: the one that is being read, or None.
        done: the last complete one.
        count: how many were opened.
        lost: a bad line came, and no frame since.
        stopped: there are more frames than may be read.
    """

    def __init__(self, hydrogens: Hydrogens, max_heavy: int, max_records: int) -> None:
        self.hydrogens: Hydrogens = hydrogens
        self.max_heavy, self.max_records = max_heavy, max_records
        self.frame: Frame | None = None
        self.done: Frame | None = None
        self.count = 0
        self.lost = self.stopped = False

    def take(self, number: int, line: str) -> Iterator[tuple[int, Entry]]:
        """Yield the entry that a line completes, if it does."""
        if self.frame is None:
            yield from self.begin(number, line)
        elif problem := self.frame.add(line):
            yield self.frame.line, Skipped(self.frame.where, f"{problem} in line {number}")
            self.frame, self.lost = None, True
            yield from self.begin(number, line)
        elif self.frame.full:
            yield self.frame.line, make_entry(self.frame.molecule(), self.hydrogens, self.max_heavy, self.frame.where)
            self.frame, self.done = None, self.frame

    def begin(self, number: int, line: str) -> Iterator[tuple[int, Entry]]:
        """Open a frame with a line, or yield why that is impossible."""
        if self.done is not None and self.done.continues(line):
            return
        if self.count >= self.max_records and line.strip():
            self.stopped = True
            yield number, Skipped(f"line {number}", f"the rest is not read: more than {self.max_records} frames")
            return
        opened = open_frame(line, self.count + 1, number)
        if isinstance(opened, Frame):
            self.frame, self.count, self.lost = opened, self.count + 1, False
        elif opened and not self.lost:
            self.lost = True
            yield number, Skipped(f"line {number}", opened)


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


def atomic_number(word: str) -> int:
    """Return the atomic number of a symbol or a number; 0 for no element."""
    if not (word.isascii() and word.isdigit()):
        return ATOMIC_NUMBERS.get(word.capitalize(), 0)
    number = int(word[:4])
    return number if number <= MAX_ATOMIC_NUMBER else 0


class Frame:
    """A frame of an XYZ file that is being read."""

    def __init__(self, count: int, number: int, line: int) -> None:
        self.count = count
        self.line = line
        self.where = f"frame {number}, line {line}"
        self.name: str | None = None
        self.numbers: list[int] = []
        self.rows: list[list[float]] = []
        self.columns = PLAIN
        self.trailer: tuple[re.Pattern[str], ...] = ()

    @property
    def full(self) -> bool:
        """Return whether all atoms have been read."""
        return self.count == len(self.rows)

    def add(self, line: str) -> str:
        """Take the line as the comment or as an atom; otherwise return the problem."""
        if self.name is None:
            return self.take_comment(line.strip())
        words = line.split()
        element, start = self.columns
        if len(words) <= max(element, start + 2):
            return "expected an element and three coordinates"
        if not (atom := atomic_number(words[element])):
            return f"unknown element {words[element][:20]!r}"
        try:
            row = [float(REAL_MARKS.sub("e", word)) for word in words[start : start + 3]]
        except ValueError:
            return "coordinates are not numbers"
        if problem := position_problem(np.array(row)):
            return problem
        self.numbers.append(atom)
        self.rows.append(row)
        return ""

    def take_comment(self, comment: str) -> str:
        """Take the comment, or return why the frame cannot be read."""
        self.name, self.trailer = comment, trailer_of(comment)
        columns = columns_of(comment)
        if isinstance(columns, str):
            return columns
        self.columns = columns
        return charge_problem(comment)

    def continues(self, line: str) -> bool:
        """Tell whether a line after the atoms belongs to the frame as well; each can be the next one only."""
        expected, self.trailer = self.trailer[:1], self.trailer[1:]
        return bool(expected) and expected[0].fullmatch(line.strip()) is not None

    def molecule(self) -> Molecule:
        """Return the molecule of a full frame."""
        positions = np.array(self.rows, dtype=np.float32)
        return Molecule(np.array(self.numbers, dtype=np.int64), positions, None, self.name or self.where)
