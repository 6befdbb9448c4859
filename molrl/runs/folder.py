"""The folder of a run, which belongs to one run, and at any time to one process."""

import contextlib
import json
import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from molrl.config import PLAIN, ConfigError, dotted
from molrl.machine.files import (
    SpecialFileError,
    open_in_place,
    open_regular,
    read_bounded,
    read_text,
    refuse_special_files,
    replace_file,
)
from molrl.outputs import make_folder, unused
from molrl.override import command_line
from molrl.plugins import is_code
from molrl.renamed import with_moved_targets
from molrl.runs.inputs import INPUTS, check_inputs

FREE_SETTINGS = (
    "run",
    "device",
    "threads",
    "wait",
    "minutes",
    "tracker",
    "chosen.tracker",
)  # they may differ when a run is continued
GROWING_SETTINGS = ("iterations",)  # they may be larger
AUTO = "auto"
AUTOMATIC_SETTINGS: Mapping[str, Collection[Any]] = {  # `auto` stands for what the run has, see `molrl.runs.automatic`
    "precision": (None, "float32", "bfloat16"),
    "training.bf16": (False, True),
}
SETTINGS, SUMMARY = "config.yaml", "summary.json"  # the summary is written last
MAX_BYTES, MAX_DEPTH = 1 << 18, 32  # of a file of settings
CARD = "README.md"  # of a model
MAX_SUMMARY_BYTES = 1 << 20


def dated_folder(name: str) -> str:
    """Return a new folder named after date and time, for a run that was given none."""
    return str(unused(Path(f"runs/{datetime.now().strftime('%Y-%m-%d_%H-%M-%S')}_{name}")))


def describe_finished(config: Mapping[str, Any]) -> str | None:
    """Return the result of a run whose folder says that it is complete, as one line; None for any other run.

    A run that ended early, or is to be longer than it was, is not complete.

    Raises:
        ConfigError: the folder holds another run, or an input of the run has changed.
    """
    if config["run"] is None or not (path := Path(config["run"]) / SUMMARY).exists():
        return None
    check_inputs(refuse_another(config), config)
    try:
        summary = read_summary(path.parent)
        if summary.get("iterations", 0) < config["iterations"]:
            return None
        return f"{path.parent} is complete: {headline(summary)}; to go on: {resuming(config, summary['iterations'])}"
    except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: damaged ({error!r:.200}); without it the run is finished once more") from None


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the summary of a finished run; raises ValueError where the file is none."""
    summary = json.loads(read_bounded(folder / SUMMARY, MAX_SUMMARY_BYTES))
    if not isinstance(summary, dict):
        raise ValueError(f"{folder / SUMMARY}: no table of figures")
    return summary


def headline(summary: Mapping[str, Any]) -> str:
    """Return the reward before and after a run and its cost as one line."""
    before, after = (summary[when]["reward_mean"] for when in ("before", "after"))
    change = "" if before is None or after is None else f" ({after - before:+.4f})"
    means = " -> ".join("unknown" if mean is None else f"{mean:.4f}" for mean in (before, after))
    cost = f"{summary['reward_queries']} reward queries in {summary['wall_seconds'] / 60:.1f} minutes"
    return f"reward {means}{change} with {cost}"


def resuming(config: Mapping[str, Any], more: int = 0) -> str:
    """Return the command that goes on with a run of `molrl train`, for a number of rounds more than it was to have."""
    chosen = {group: name for group, name in config["chosen"].items() if is_code(name)}
    line = command_line("train", {"resume": config["run"], **chosen})
    if "function" in config["reward"]:
        line = "molrl.train, with the same settings and the same function"
    return f"{line} iterations=+{more}" if more else line


@contextlib.contextmanager
def claim(config: Mapping[str, Any], free: Collection[str] = ()) -> Iterator[Path]:
    """Hold the folder of a run for this process: a new one, or the one of the same run, never that of another.

    Its config.yaml has the settings with which the run was last continued, its inputs.json the fingerprints of what
    they name.

    Args:
        free: settings, by their dotted names, that may differ from those of the folder's config.yaml, besides
            `FREE_SETTINGS`.

    Raises:
        ConfigError: the folder holds another run or something else, is in use, or an input of the run has changed.
    """
    folder = refuse_another(config, free)
    inputs = check_inputs(folder, config, free)
    make_folder(folder, "run")
    refuse_special_files(folder)
    with lock(folder):
        files = {INPUTS: json.dumps(inputs, indent=1) + "\n", SETTINGS: yaml.safe_dump(dict(config), sort_keys=False)}
        for name, text in files.items():
            path, data = folder / name, text.encode()
            if not path.exists() or read_bounded(path, MAX_BYTES) != data:
                replace_file(path, data)
        yield folder


def refuse_another(config: Mapping[str, Any], free: Collection[str] = ()) -> Path:
    """Return a run's folder unchanged; raise ConfigError where it holds another run or something else."""
    folder = Path(config["run"])
    path = folder / SETTINGS
    if path.exists():
        try:
            old = dict(with_moved_targets(load_plain_yaml(path)))
        except SpecialFileError as error:
            raise ConfigError(f"run={folder}: {error}") from None
        except (ValueError, TypeError):
            raise ConfigError(f"run={folder}: its {SETTINGS} cannot be read; name another folder") from None
        differing = differences(old.get("chosen", {}), config.get("chosen", {})) or differences(old, config, free)
        if differing:
            raise ConfigError(f"run={folder} holds another run ({'; '.join(differing)}); name another folder")
        for name, value in later_settings(old, config).items():
            warnings.warn(f"{path} has no {name}, as of an earlier molrl; the run goes on with {value}", stacklevel=2)
    elif folder.exists() and (not folder.is_dir() or any(not entry.name.startswith(".") for entry in folder.iterdir())):
        raise ConfigError(f"run={folder} exists and is not the folder of a run; name another folder")
    return folder


def load_plain_yaml(path: Path) -> Any:
    """Load plain data from a YAML file that is not trusted.

    Raises:
        ValueError: the file is too large or no YAML of plain data, has aliases, which may expand to any size, or is
            nested too deeply, which may take any time.
    """
    text, depth = read_text(path, MAX_BYTES), 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
                raise ValueError(f"it has aliases or more than {MAX_DEPTH} levels, which a run never writes")
        return yaml.safe_load(text)
    except (yaml.YAMLError, AttributeError, IndexError, KeyError, TypeError) as error:  # from malformed tags and dates
        raise ValueError(f"no YAML of plain data ({type(error).__name__})") from None


def differences(old: Any, new: Any, free: Collection[str] = (), where: str = "") -> list[str]:
    """Return the settings that differ and must not, each as `name: old -> new`."""
    if where in (*FREE_SETTINGS, *free) or (where in GROWING_SETTINGS and type(old) is type(new) is int and new > old):
        return []
    if new == AUTO and old in AUTOMATIC_SETTINGS.get(where, ()):
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            line
            for name in {**old, **new}
            if not is_later(str(name), old, new, where)
            for line in differences(old.get(name), new.get(name), free, dotted(where, str(name)))
        ]
    return [] if old == new else [f"{where}: {old!r} -> {new!r}"]


def later_settings(old: Any, new: Any, where: str = "") -> dict[str, Any]:
    """Return the settings in `new`, by dotted names, that the settings of a run lack (`is_later`)."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return {}
    found = {dotted(where, str(name)): new[name] for name in new if is_later(str(name), old, new, where)}
    for name in old:
        found |= later_settings(old[name], new.get(name), dotted(where, str(name)))
    return found


def is_later(name: str, old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> bool:
    """Tell whether `old` lacks a plain setting of the run, or of an object, as where a later version added it."""
    return name not in old and isinstance(new[name], PLAIN) and (not where or "_target_" in new)


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Lock a run folder for this process; the lock ends with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open_in_place(folder / ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = file.read(20).decode(errors="replace").strip()
            raise ConfigError(f"run={folder} is in use by process {holder or '?'}") from None
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def in_use(folder: Path) -> bool:
    """Tell whether a process holds a run folder; nothing is changed. Where locks are not known, none does."""
    try:
        import fcntl

        with open_regular(folder / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError, ValueError):
        return False
    return False
