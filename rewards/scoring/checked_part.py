"""The part of an output that grows row by row, each row with a checksum in a file beside it.

A kill or a power failure leaves a part that is cut off, ends in zeros, or lacks blocks in its middle. Only rows whose
checksums hold are taken up again.
"""

import hashlib
import os
import struct
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from molrl.machine.files import naming, open_in_place

ENTRY = struct.Struct("<Q8s")  # the offset of a row's end, and the first bytes of the row's hash
MAX_ROW_BYTES = 1 << 27


def digest(row: bytes) -> bytes:
    """Return the first eight bytes of the BLAKE2b hash of a row."""
    return hashlib.blake2b(row, digest_size=8).digest()


class CheckedPart:
    """A file of rows, and the file of their checksums, both opened for appending.

    The checksum of a row is written before the row, so that each row that is there has one.

    Args:
        part: the file of rows; the first is the header.
        sums: the file of checksums.
    """

    def __init__(self, part: Path, sums: Path) -> None:
        self.path = part
        with ExitStack() as opened:
            self.part = opened.enter_context(open_in_place(part))
            self.sums = opened.enter_context(open_in_place(sums))
            self.closing = opened.pop_all()
        self.end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.close()

    def keep_intact(self) -> int:
        """Cut off everything behind the last row up to which all checksums hold, and return the number of rows."""
        end = rows = 0
        while len(entry := self.sums.read(ENTRY.size)) == ENTRY.size:
            stop, expected = ENTRY.unpack(entry)
            if not 0 <= stop - end <= MAX_ROW_BYTES:
                break
            row = self.part.read(stop - end)
            if len(row) != stop - end or digest(row) != expected:
                break
            end, rows = stop, rows + 1
        self.cut(end, rows)
        return rows

    def cut(self, end: int, rows: int) -> None:
        """Cut off what is behind an offset, which is the end of so many rows."""
        self.end = end
        for file, size in ((self.part, end), (self.sums, rows * ENTRY.size)):
            file.truncate(size)
            file.seek(size)

    def append(self, row: bytes) -> None:
        """Write a row at the end."""
        self.end += len(row)
        with naming(self.path):
            self.sums.write(ENTRY.pack(self.end, digest(row)))
            self.sums.flush()
            self.part.write(row)
            self.part.flush()

    def sync(self) -> None:
        """Wait until the rows are on the disk."""
        with naming(self.path):
            os.fsync(self.part.fileno())
