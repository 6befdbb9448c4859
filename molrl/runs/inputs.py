"""Fingerprints of a run's inputs: the files and folders that its settings name, such as prompts, targets, receptors,
data and weights. A run that goes on must find them as it left them.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from molrl.config import ConfigError, dotted
from molrl.machine.files import read_bounded

INPUTS = "inputs.json"
NO_INPUTS = ("chosen", "run", "cache", "out")  # names of settings; what a cache holds may grow
MAX_BYTES = 1 << 20  # of INPUTS
BLOCK = 1 << 20  # bytes that are read at a time


def fingerprints(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of every file or folder that a setting names, by the setting's dotted name."""
    run = Path(config["run"]).resolve()
    return {name: fingerprint(path, run) for name, path in named_paths(config)}


def named_paths(node: Any, where: str = "") -> Iterator[tuple[str, Path]]:
    """Yield the settings that name a file or a folder, with its path."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name not in NO_INPUTS:
                yield from named_paths(value, dotted(where, str(name)))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from named_paths(value, dotted(where, str(index)))
    elif isinstance(node, str) and (path := existing(node, where)) is not None:
        yield where, path


def existing(value: str, name: str) -> Path | None:
    """Return the file or folder that a setting's value stands for, of a run its model; None for any other text."""
    try:
        path = Path(value).expanduser()
        if path.is_file():
            return path
        named = os.sep in value or name.endswith("weights")  # else it may be any word
        return (path / "model" if (path / "model").is_dir() else path) if named and path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long a text for a path, no such user, a zero byte
        return None


def fingerprint(path: Path, apart: Path) -> str:
    """Return the SHA-256 of a file, or of all names and contents in a folder except those below `apart`."""
    if path.is_file():
        return digest(path)
    state = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        if not file.resolve().is_relative_to(apart):
            state.update(f"{file.relative_to(path).as_posix()}\0{digest(file)}\n".encode("utf-8", "surrogateescape"))
    return state.hexdigest()


def digest(file: Path) -> str:
    """Return the SHA-256 of a file's contents."""
    state = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            state.update(block)
    return state.hexdigest()


def check_inputs(folder: Path, config: Mapping[str, Any], free: Collection[str] = ()) -> dict[str, str]:
    """Return the fingerprints of a run's inputs, after comparing them with those that its folder has.

    Args:
        free: settings, by their dotted names, that may differ, and so may what they name.

    Raises:
        ConfigError: an input has changed or is gone, or the fingerprints cannot be read.
    """
    found, path = fingerprints(config), folder / INPUTS
    if not path.exists():  # a new run, or one of a version without fingerprints
        return found
    try:
        saved = dict[str, str](json.loads(read_bounded(path, MAX_BYTES)))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"run={folder}: its {INPUTS} cannot be read ({error!r:.80}); name another folder") from None
    if changed := sorted(name for name in saved if name not in free and found.get(name) != saved[name]):
        raise ConfigError(
            f"run={folder}: what {', '.join(changed)} names is not what the run began with: it has changed or is "
            "gone; put it back, or name another folder"
        )
    return found
