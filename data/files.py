"""Read files within bounds: streams of lines, arrays that are written whole or not at all, and what was skipped."""

import gzip
import hashlib
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 4 << 30  # of a file, after decompression
MAX_LINE = 1 << 20  # bytes kept of a line
CACHE = Path(
    os.environ.get("MOLRL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "molrl"
)

Progress: TypeAlias = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


class Skipped(NamedTuple):
    """A record that gave no molecule."""

    where: str
    reason: str


class BrokenStreamError(Exception):
    """The rest of a file cannot be read; the message says why."""


def suffix(path: str | Path) -> str:
    """The suffix that tells the format, in lower case, without .gz."""
    name = Path(path).name.lower().removesuffix(".gz")
    return Path(name).suffix


def open_file(path: str | Path) -> IO[bytes]:
    """Open a text file, decompressed if its name ends in .gz; ValueError if it is missing, empty or binary."""
    try:
        with unchecked(path) as file:
            start = file.read(4096)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read: {reason_of(error)}") from None
    if not start.strip(b"\xef\xbb\xbf \t\r\n"):
        raise ValueError(f"{path}: empty file")
    if b"\0" in start:
        raise ValueError(f"{path}: a binary file (or UTF-16), expected UTF-8 text")
    return unchecked(path)


def unchecked(path: str | Path) -> IO[bytes]:
    """Open a file for reading bytes, decompressed if its name ends in .gz."""
    if str(path).lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return Path(path).open("rb")


def text_lines(path: str | Path, max_bytes: int = MAX_BYTES) -> Iterator[str]:
    """Yield the lines without their ends (LF, CRLF) and byte order mark; bytes that are not UTF-8 become U+FFFD.

    Of a line that is too long the first `MAX_LINE` bytes are kept, so that memory stays bounded whatever the file
    holds. Raises BrokenStreamError for a damaged compressed stream and for a file of more than `max_bytes`.
    """
    with open_file(path) as file:
        total = 0
        while True:
            try:
                line, length = bounded_line(file, max_bytes - total)
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


def bounded_line(file: IO[bytes], most: int) -> tuple[bytes, int]:
    """The start of the next line, `MAX_LINE` bytes at most, and how many bytes were read: to its end, or over most."""
    line = piece = file.readline(MAX_LINE)
    length = len(line)
    while len(piece) == MAX_LINE and not piece.endswith(b"\n") and length <= most:
        piece = file.readline(MAX_LINE)
        length += len(piece)
    return line, length


def reason_of(error: BaseException) -> str:
    """The message of an error without its path and number."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def digest(*parts: bytes | str) -> str:
    """Short name of some content, for a cache."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()[:32]


def save_arrays(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Write an npz file whole or not at all; a folder that cannot be written to is a warning."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staging.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        staging.replace(path)
    except OSError as error:
        with suppress(OSError):
            staging.unlink(missing_ok=True)
        warnings.warn(f"{path}: not cached: {reason_of(error)}", stacklevel=2)


def load_arrays(path: Path) -> dict[str, NDArray[np.generic]] | None:
    """Read an npz file that `save_arrays` wrote; None when there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None  # RuntimeError: flags that say encrypted, or compressed by something else


def pack_texts(texts: Iterable[str]) -> NDArray[np.uint8]:
    """Texts as one array of UTF-8 bytes, each ended by a line feed; line feeds inside become spaces."""
    joined = "".join(text.replace("\n", " ") + "\n" for text in texts)
    return np.frombuffer(joined.encode("utf-8", errors="replace"), dtype=np.uint8)


def unpack_texts(array: NDArray[np.generic]) -> list[str]:
    """The texts that `pack_texts` packed."""
    return array.tobytes().decode("utf-8").split("\n")[:-1]
