"""Files of folders that may have come from someone else: regular ones, within bounds, never through a link.

A link may stand for any file of yours, and a pipe or a device may hold a reader for ever. Each is refused before it is
opened for reading or written through.
"""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from molrl.config import ConfigError

KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither
NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for its other end
MAX_ENTRIES = 100_000  # of a folder, those of its folders included


class SpecialFileError(ValueError):
    """A link, a pipe, a device or a folder in the place of a file."""


def check_regular(path: Path, status: os.stat_result) -> None:
    """Raise SpecialFileError unless the status is that of a regular file."""
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
        raise SpecialFileError(f"{path}: {kind}, expected a regular file")


def open_regular(path: str | Path, *, follow: bool = False) -> IO[bytes]:
    """Open a regular file for reading bytes, without waiting.

    Args:
        path: the file.
        follow: allow a link to a regular file, for a path that the user named.

    Raises:
        OSError: it is missing or may not be read.
        SpecialFileError: it is a link, a pipe, a device or a folder.
    """
    path = Path(path)
    check_regular(path, path.stat() if follow else path.lstat())
    handle = os.open(path, os.O_RDONLY | NO_WAITING | getattr(os, "O_BINARY", 0) | (0 if follow else NO_FOLLOW))
    file = os.fdopen(handle, "rb")
    try:
        check_regular(path, os.fstat(handle))
    except SpecialFileError:
        file.close()
        raise
    return file


def read_bounded(path: str | Path, max_bytes: int, *, follow: bool = False) -> bytes:
    """Return the bytes of a regular file of at most `max_bytes`.

    Raises:
        OSError: it is missing or may not be read, or memory is not enough (ENOMEM).
        ValueError: it is larger, or no regular file.
    """
    with open_regular(path, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ValueError(f"{path}: {size} bytes, more than the {max_bytes} allowed")
        with naming(path):
            return file.read(size)


def read_text(path: str | Path, max_bytes: int, *, errors: str = "strict") -> str:
    """Return the text of a regular file of at most `max_bytes` bytes of UTF-8."""
    return read_bounded(path, max_bytes).decode("utf-8", errors=errors)


def open_in_place(path: str | Path) -> IO[bytes]:
    """Open a regular file for reading and writing where it is, or make it.

    Raises:
        SpecialFileError: it is a link, a pipe or a device, or a file that has a second name elsewhere (a hard link).
    """
    path = Path(path)
    with contextlib.suppress(FileNotFoundError):
        check_regular(path, path.lstat())
    flags = os.O_RDWR | os.O_CREAT | NO_FOLLOW | NO_WAITING | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags, 0o666), "r+b")
    try:
        check_regular(path, os.fstat(file.fileno()))
        if os.fstat(file.fileno()).st_nlink > 1:
            raise SpecialFileError(f"{path}: a hard link, expected a file with one name")
    except SpecialFileError:
        file.close()
        raise
    return file


@contextlib.contextmanager
def staged(path: str | Path) -> Iterator[IO[bytes]]:
    """Write a new file completely or not at all, in place of the one of that name, and wait until it is on the disk.

    A link of that name is replaced, and what it points to is left alone.
    """
    path = Path(path)
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with naming(path):
            staging.unlink(missing_ok=True)
            with staging.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            staging.replace(path)
    finally:
        with contextlib.suppress(OSError):
            staging.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(path: str | Path) -> Iterator[Path]:
    """Write a new folder completely or not at all, and wait until it is on the disk.

    Raises:
        OSError: it cannot be written, or something has its name by the end.
    """
    path = Path(path)
    staging = path.with_name(f".{path.name}.staging-{os.getpid()}")
    try:
        staging.mkdir()
        yield staging
        for file in staging.rglob("*"):
            if file.is_file():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
        if os.path.lexists(path):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        staging.rename(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replace_file(path: str | Path, data: bytes) -> None:
    """Replace a file atomically: a reader finds the old one or the new one."""
    with staged(path) as file:
        file.write(data)


def refuse_special_files(folder: Path) -> None:
    """Raise ConfigError where a folder that is going to be written into holds anything but folders and plain files.

    Args:
        folder: may be missing, and may itself be reached by a link, because the user named it.
    """
    waiting, seen = [folder] if folder.is_dir() else [], 0
    while waiting:
        for entry in os.scandir(waiting.pop()):
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                waiting.append(Path(entry.path))
                continue
            check_plain(Path(entry.path), status)
            seen += 1
            if seen > MAX_ENTRIES:
                raise ConfigError(f"{folder}: more than {MAX_ENTRIES} files, which no run writes")


def check_plain(path: Path, status: os.stat_result) -> None:
    """Raise ConfigError for anything but a regular file with one name."""
    try:
        check_regular(path, status)
    except SpecialFileError as error:
        raise ConfigError(f"{error}; nothing is written through it") from None
    if status.st_nlink > 1:
        raise ConfigError(f"{path}: a hard link, expected a file with one name; nothing is written through it")


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Give errors of the system within the block, and a full memory, the path that they are about."""
    try:
        yield
    except MemoryError as error:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(path)) from error
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
