"""Molecule files: dispatch by suffix, bounded streams of lines, and an account of what was skipped and why."""

import gzip
import hashlib
import os
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from molrl.data.molecule import Hydrogens, Molecule, count_hydrogens

MAX_HEAVY = 512
MAX_RECORDS = 1_000_000
MAX_BYTES = 4 << 30  # of a file, after decompression
MAX_LINE = 1 << 20  # bytes kept of a line
NO_LIMIT = 1 << 62  # for those who hold one record at a time
MAX_COORDINATE = 1e5  # angstrom
SUFFIXES = (".sdf", ".mol", ".xyz", ".smi", ".txt", ".csv", ".npz")
HYDROGENS = ("atoms", "counts", "file")
CACHE = Path(
    os.environ.get("MOLRL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "molrl"
)

Progress: TypeAlias = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


class Skipped(NamedTuple):
    """A record that gave no molecule."""

    where: str
    reason: str


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


class BrokenStreamError(Exception):
    """The rest of a file cannot be read; the message says why."""


def stream(path: str | Path, hydrogens: Hydrogens = "file", max_heavy: int = MAX_HEAVY) -> Iterator[Entry]:
    """Yield one entry per record of an SDF, XYZ, SMILES or npz file, in order.

    Raises ValueError, before anything is yielded, for an unknown suffix and for a missing, empty or binary file.
    """
    if hydrogens not in HYDROGENS:
        raise ValueError(f"hydrogens: got {hydrogens!r}, allowed: {', '.join(HYDROGENS)}")
    match suffix(path):
        case ".sdf" | ".mol":
            from molrl.data.sdf import stream_sdf

            return stream_sdf(path, hydrogens, max_heavy)
        case ".xyz":
            from molrl.data.xyz import stream_xyz

            return stream_xyz(path, hydrogens, max_heavy)
        case ".smi" | ".txt" | ".csv":
            from molrl.data.smiles import stream_smiles

            return stream_smiles(path, hydrogens, max_heavy)
        case ".npz":
            from molrl.data.qm9 import load_qm9

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


def suffix(path: str | Path) -> str:
    """The suffix that tells the format, in lower case, without .gz."""
    name = Path(path).name.lower().removesuffix(".gz")
    return Path(name).suffix


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
