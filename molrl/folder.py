"""A run's folder: it belongs to one run, and at any time to one process."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from molrl.checkpoint import write_synced
from molrl.config import ConfigError

FREE = ("run", "device", "threads")  # settings that may differ when a run is continued


def dated(name: str) -> str:
    """A folder for a run that was given none."""
    return f"runs/{datetime.now().strftime('%Y-%m-%d_%H-%M-%S')}_{name}"


def claim(config: Mapping[str, Any]) -> Path:
    """The run's folder: a new one, or the one of this very run; never somebody else's.

    Raises:
        ConfigError: the folder holds another run or something else.
    """
    folder = Path(config["run"])
    path = folder / "config.yaml"
    if path.exists():
        try:
            old = dict(yaml.safe_load(path.read_text()))
        except (yaml.YAMLError, ValueError, TypeError):
            raise ConfigError(f"run={folder}: its config.yaml cannot be read; name another folder") from None
        if differing := differences(old, config):
            raise ConfigError(f"run={folder} holds another run ({'; '.join(differing)}); name another folder")
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"run={folder} exists and is not the folder of a run; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_synced(path, yaml.safe_dump(dict(config), sort_keys=False).encode())
    return folder


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Settings that differ, as `name: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [name for name in {**old, **new} if where or name not in FREE]
        return [
            line
            for name in names
            for line in differences(old.get(name), new.get(name), f"{where}.{name}" if where else str(name))
        ]
    return [] if old == new else [f"{where}: {old!r} -> {new!r}"]


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """One process per run folder; the lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise ConfigError(f"run={folder} is in use by process {file.read().strip() or '?'}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
