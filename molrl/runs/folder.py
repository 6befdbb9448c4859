"""A run's folder: it belongs to one run, and at any time to one process."""

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from molrl.config import ConfigError

FREE = ("run", "device", "threads", "wait")  # settings that may differ when any run is continued
SETTINGS, SUMMARY = "config.yaml", "summary.json"  # the summary is written last
MAX_BYTES, MAX_DEPTH = 1 << 18, 32  # of a table of settings


def dated(name: str) -> str:
    """A folder for a run that was given none."""
    return f"runs/{datetime.now().strftime('%Y-%m-%d_%H-%M-%S')}_{name}"


def finished(config: Mapping[str, Any]) -> str | None:
    """What a run came to whose folder says that it is complete; None for one that is yet to be made or continued.

    Raises:
        ConfigError: the folder holds another run.
    """
    if config["run"] is None or not (path := Path(config["run"]) / SUMMARY).exists():
        return None
    refuse_another(config)
    try:
        return f"{path.parent} is complete: {headline(json.loads(path.read_text()))}"
    except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: damaged ({error!r:.80}); without it the run is finished once more") from None


def headline(summary: Mapping[str, Any]) -> str:
    """What a run achieved."""
    before, after = (summary[when]["reward_mean"] for when in ("before", "after"))
    change = "" if before is None or after is None else f" ({after - before:+.4f})"
    means = " -> ".join("unknown" if mean is None else f"{mean:.4f}" for mean in (before, after))
    cost = f"{summary['reward_queries']} reward queries in {summary['wall_seconds'] / 60:.1f} minutes"
    return f"reward {means}{change} with {cost}"


@contextlib.contextmanager
def claim(config: Mapping[str, Any], free: Collection[str] = ()) -> Iterator[Path]:
    """The run's folder for the time of a run: a new one, or the one of this very run; never somebody else's.

    Its config.yaml has the settings that the run was last continued with.

    Args:
        free: settings, by their dotted names, that may differ from those the folder was started with; so may `FREE`.

    Raises:
        ConfigError: the folder holds another run or something else, or is in use.
    """
    folder = refuse_another(config, free)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        path, text = folder / SETTINGS, yaml.safe_dump(dict(config), sort_keys=False).encode()
        if not path.exists() or path.read_bytes() != text:
            write_whole(path, text)
        yield folder


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file such that a reader finds the old one or the new one."""
    from molrl.runs.checkpoint import write_synced

    staging = path.with_name(f".{path.name}.{os.getpid()}")
    write_synced(staging, data)
    staging.replace(path)


def refuse_another(config: Mapping[str, Any], free: Collection[str] = ()) -> Path:
    """The run's folder, untouched, if there is none yet or it is the one of this very run: see `claim`."""
    folder = Path(config["run"])
    path = folder / SETTINGS
    if path.exists():
        try:
            old = dict(plain_yaml(path))
        except (ValueError, TypeError):
            raise ConfigError(f"run={folder}: its {SETTINGS} cannot be read; name another folder") from None
        differing = differences(old.get("chosen", {}), config.get("chosen", {})) or differences(old, config, free)
        if differing:
            raise ConfigError(f"run={folder} holds another run ({'; '.join(differing)}); name another folder")
    elif folder.exists() and (not folder.is_dir() or any(not entry.name.startswith(".") for entry in folder.iterdir())):
        raise ConfigError(f"run={folder} exists and is not the folder of a run; name another folder")
    return folder


def plain_yaml(path: Path) -> Any:
    """Plain data from a file that may come from somebody else.

    Raises:
        ValueError: it is too large or no YAML of plain data, has aliases, which may unfold to any size, or is nested
            too deeply, which may take any time.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    text, depth = path.read_text("utf-8"), 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
                raise ValueError(f"it has aliases or more than {MAX_DEPTH} levels, which a run never writes")
        return yaml.safe_load(text)
    except (yaml.YAMLError, AttributeError, IndexError, KeyError, TypeError) as error:  # of odd tags and dates
        raise ValueError(f"no YAML of plain data ({type(error).__name__})") from None


def differences(old: Any, new: Any, free: Collection[str] = (), where: str = "") -> list[str]:
    """Settings that differ, as `name: old -> new`, but those that may."""
    if where in (*FREE, *free):
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            line
            for name in {**old, **new}
            for line in differences(old.get(name), new.get(name), free, f"{where}.{name}" if where else str(name))
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
