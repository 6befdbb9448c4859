"""Files read within bounds, and an account of what could not be read."""

import contextlib
import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias, cast

from molrl.machine.files import open_regular
from molrl.machine.printable import printable

MAX_BYTES = 4 << 30  # of a file, after decompression
MAX_LINE = 1 << 20  # bytes kept of a line
EXAMPLE = "example:"  # before the name of a file that comes with the package
EXAMPLES = Path(__file__).parent / "examples"

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of records done and their total number."""


class Skipped(NamedTuple):
    """A record that gave no sample: its place in the source and the reason."""

    where: str
    reason: str

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.reason}")


@dataclass(frozen=True)
class ReadReport:
    """An account of the records of a source.

    Attributes:
        source: the file or folder, for messages.
        count: the number of samples that were read.
        skipped: the records that gave none.
        noun: the plural of what a sample is called.
    """

    source: str
    count: int
    skipped: tuple[Skipped, ...]
    noun: str

    def reasons(self) -> dict[str, int]:
        """Return how often each kind of reason occurred, most frequent first."""
        return count_reasons(self.skipped)

    def __str__(self) -> str:
        text = f"{self.source}: {self.count} {self.noun}"
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons().items())
            text += f", {len(self.skipped)} skipped ({reasons}; first at {self.skipped[0].where})"
        return printable(text)


def count_reasons(skipped: Iterable[Skipped]) -> dict[str, int]:
    """Return how often each kind of reason occurs, which ends at its colon, most frequent first."""
    return dict(Counter(entry.reason.partition(":")[0] for entry in skipped).most_common())


class BrokenStreamError(Exception):
    """An error for a file whose rest cannot be read; the message says why."""


class InputError(ValueError):
    """An error for a file or folder that is missing, damaged or of a kind that is not read, not for a setting."""


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Raise InputError within the block for what is wrong with a file that a setting names."""
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error


def suffix(path: str | Path) -> str:
    """Return the suffix that names the format, in lower case and without .gz."""
    name = Path(path).name.lower().removesuffix(".gz")
    return Path(name).suffix


def locate(path: str | Path) -> Path:
    """Return the path of a file that a user names; `example:NAME` is one that comes with the package.

    Raises:
        ValueError: there is no example of this name.
    """
    if not str(path).startswith(EXAMPLE):
        return Path(path)
    name = str(path).removeprefix(EXAMPLE)
    names = sorted(file.name for file in EXAMPLES.iterdir() if file.suffix not in ("", ".md"))
    if name not in names:
        raise ValueError(f"{path}: no such example, allowed: {', '.join(names)}")
    return EXAMPLES / name


def open_file(path: str | Path) -> IO[bytes]:
    """Open a text file, decompressed if its name ends in .gz.

    Raises ValueError for a file that is missing, empty or binary.
    """
    try:
        with open_unchecked(path) as file:
            start = file.read(4096)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read: {reason_of(error)}") from None
    if not start.strip(b"\xef\xbb\xbf \t\r\n"):
        raise ValueError(f"{path}: empty file")
    if b"\0" in start:
        raise ValueError(f"{path}: a binary file (or UTF-16), expected UTF-8 text")
    return open_unchecked(path)


def open_unchecked(path: str | Path) -> IO[bytes]:
    """Open a file for reading bytes, decompressed if its name ends in .gz.

    Raises ValueError for a pipe, a device, a folder or an unknown example.
    """
    path = locate(path)
    file = open_regular(path, follow=True)
    if not str(path).lower().endswith(".gz"):
        return file
    file.close()
    return cast(IO[bytes], gzip.open(path, "rb"))


def text_lines(path: str | Path, max_bytes: int = MAX_BYTES) -> Iterator[str]:
    """Yield the lines without their ends (LF, CRLF) and byte order mark; bytes that are not UTF-8 become U+FFFD.

    Only the first `MAX_LINE` bytes of a longer line are kept, so that memory stays bounded for any file.

    Raises BrokenStreamError for a damaged compressed stream and for a file of more than `max_bytes`.
    """
    with open_file(path) as file:
        total = 0
        while True:
            try:
                line, length = read_bounded_line(file, max_bytes - total)
            except (OSError, EOFError, zlib.error) as error:
                raise BrokenStreamError(f"the rest cannot be read: {reason_of(error)}") from None
            if not line:
                return
            if total == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")
            total += length
            if total > max_bytes:
                raise BrokenStreamError(f"the rest is not read: more than {max_bytes} bytes")
            yield line.rstrip(b"\r\n").decode("utf-8", errors="replace")


def read_bounded_line(file: IO[bytes], max_bytes: int) -> tuple[bytes, int]:
    """Read to the end of a line, or just past `max_bytes`.

    Returns the first `MAX_LINE` bytes of the line and the number of bytes read.
    """
    line = piece = file.readline(MAX_LINE)
    length = len(line)
    while len(piece) == MAX_LINE and not piece.endswith(b"\n") and length <= max_bytes:
        piece = file.readline(MAX_LINE)
        length += len(piece)
    return line, length


def reason_of(error: BaseException) -> str:
    """Return the message of an error without its path and number."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def identity_of_files(files: Iterable[tuple[Path, str]]) -> dict[str, Any]:
    """Return JSON that tells these files from others, and from themselves after a change.

    Args:
        files: paths, each with its name among them.
    """
    names = hashlib.sha256()
    count, total, changed = 0, 0, 0
    for path, name in files:
        stat = path.stat()
        names.update(f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
        count, total, changed = count + 1, total + stat.st_size, max(changed, stat.st_mtime_ns)
    latest = datetime.fromtimestamp(changed / 1e9, UTC).isoformat()
    return {"files": count, "bytes": total, "changed": latest, "head": names.hexdigest()[:16]}
