"""Where commands write. One rule: what is there already stays, unless `overwrite=true` says otherwise.

A name that the user gave is refused if something has it; a name that molrl chose gets a number.
"""

import os
from itertools import count
from pathlib import Path

from molrl.config import ConfigError


def output_file(out: str, *, overwrite: bool, source: str | None = None) -> Path:
    """Return the file to write, after making its folder.

    Args:
        out: its name.
        overwrite: replace a file of this name.
        source: a file that the command reads, which is never replaced.

    Raises:
        ConfigError: something of this name is not to be replaced, or it cannot be written.
    """
    path = Path(out)
    if source is not None and path.exists() and path.samefile(source):
        raise ConfigError(f"out={path}: is the file that is read; name another file")
    if os.path.lexists(path) and not overwrite:
        raise ConfigError(f"out={path}: exists; name another file, or replace it with overwrite=true")
    if path.is_dir():
        raise ConfigError(f"out={path}: is a folder; name a file")
    make_folder(path.parent, "out")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"out={path}: cannot be written: permission denied")
    return path


def unused(path: Path) -> Path:
    """Return a path, with a number before its suffixes if something has that name."""
    stem, dot, suffixes = path.name.partition(".")
    numbered = (path.with_name(f"{stem}_{number}{dot}{suffixes}") for number in count(2))
    return path if not os.path.lexists(path) else next(other for other in numbered if not os.path.lexists(other))


def make_folder(folder: Path, setting: str) -> None:
    """Make a folder with its parents; raise ConfigError, with the name of the setting, where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{setting}={folder}: the folder cannot be made: {error.strerror}") from error
