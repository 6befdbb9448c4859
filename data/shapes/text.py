"""Lines and numbers of the text formats of shapes."""

import codecs
import io
from collections.abc import Iterable, Iterator

from molrl.data.shapes.mesh import ShapeError

BYTE_ORDER_MARK = "\ufeff"
PADDING = b"\0\x1a"  # at the end of text from DOS, or of a fixed size
MAX_LINE = 8 << 20  # characters
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_lines(data: bytes) -> Iterator[str]:
    """Yield the lines (LF, CRLF or CR) of a text file without their ends and byte order marks.

    Bytes that are not UTF-8 may occur in names and comments. UTF-16 is read where it begins with its mark.

    Raises ShapeError for a binary file and for a line that is too long.
    """
    wide = data.startswith(UTF_16)
    content = data if wide else data.rstrip(PADDING)
    if not wide and b"\0" in content[:4096]:
        raise ShapeError("a binary file, expected text")
    file = io.TextIOWrapper(io.BytesIO(content), "utf-16" if wide else "utf-8", errors="replace", newline=None)
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise ShapeError(f"a line of more than {MAX_LINE} characters")
        yield line.rstrip("\n").lstrip(BYTE_ORDER_MARK)


def words_of(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the words of each line up to a #; lines without any are left out."""
    return (words for line in lines if (words := line.partition("#")[0].split()))


def parse_point(words: list[str]) -> list[float]:
    """Parse the three coordinates of a point.

    Raises ShapeError for other words and for fewer than three.
    """
    values = parse_numbers(words[:3], "a point")
    if len(values) != 3:
        raise ShapeError(f"{len(values)} coordinates, need three for each point")
    return values


def parse_numbers(words: list[str], what: str) -> list[float]:
    """Parse numbers; `what` names them in the error."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ShapeError(f"not numbers ({what}): {' '.join(words)[:40]!r}") from None
    if any("_" in word for word in words):  # Python alone reads 1_0 as 10
        raise ShapeError(f"not numbers ({what}): {' '.join(words)[:40]!r}")
    return values


def parse_integers(words: list[str], what: str) -> list[int]:
    """Parse whole numbers; `what` names them in the error."""
    try:
        if any("_" in word or len(word) > 18 for word in words):
            raise ValueError
        return [int(word) for word in words]
    except ValueError:
        raise ShapeError(f"not whole numbers ({what}): {' '.join(words)[:40]!r}") from None
