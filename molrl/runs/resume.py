"""Continuing a run from its folder, as `molrl train resume=RUN` does, with the settings of its config.yaml as data.

A run folder is not trusted. The names that its config.yaml chose from each group are composed again from our own YAML;
then plain values are compared and taken over. Values that name code must be equal to the composed ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from molrl.composition import MISSING, Composition, names
from molrl.config import PLAIN, ConfigError, dotted
from molrl.plugins import is_code
from molrl.runs.folder import FREE_SETTINGS, SETTINGS, load_plain_yaml

RESUME_PREFIX = "resume="
CHANGEABLE_SETTINGS = tuple(name for name in FREE_SETTINGS if name != "run")


def compose_resumed(command: str, arguments: Sequence[str], folders: Sequence[Path] = ()) -> dict[str, Any]:
    """Return the configuration of the run that `resume=RUN` names, with other settings where those are free.

    Code that the run was given, such as reward=my_rewards.py:name, must be named again: none is taken from a file.

    Raises:
        ConfigError: there is no such run, it belongs to another command, or it names code that our YAML does not.
    """
    named = [item.removeprefix(RESUME_PREFIX) for item in arguments if item.startswith(RESUME_PREFIX)]
    others = [item for item in arguments if not item.startswith(RESUME_PREFIX)]
    if len(named) > 1:
        raise ConfigError(f"resume: got {len(named)} runs, one at a time")
    folder = Path(named[0].strip("'\"")).expanduser()
    saved = read_settings(folder)
    chosen = saved.pop("chosen", None)
    if not isinstance(chosen, dict) or not all(isinstance(name, str) for name in chosen.values()):
        raise ConfigError(f"resume={folder}: its {SETTINGS} does not say what was chosen")
    others = drop_code(others, chosen, folder)
    for item in others:
        if item.partition("=")[0] not in CHANGEABLE_SETTINGS:
            raise ConfigError(
                f"{item}: a run goes on with its own settings; only {', '.join(CHANGEABLE_SETTINGS)} may change"
            )
    if isinstance(saved.get("reward"), dict) and "function" in saved["reward"]:
        raise ConfigError(f"resume={folder}: its reward is a Python function; call molrl.run.train with it again")
    overrides = [f"{group}={name}" for group, name in chosen.items()]
    composition = Composition(command, overrides, folders)
    if set(chosen) != set(composition.choices):
        raise ConfigError(f"resume={folder} is no run of molrl {command}: it has chosen {', '.join(chosen)}")
    placeholders = [f"{name}=0" for name, value in names(composition.base).items() if value == MISSING]
    placeholders = [item for item in placeholders if not item.startswith(("policy.weights", "reward.source"))]
    fresh = Composition(command, [*overrides, *others, *placeholders], folders).config
    kept = fresh.pop("chosen")
    free = {item.partition("=")[0] for item in others}
    return {"chosen": kept, **{**merge_settings(saved, fresh, folder, free), "run": str(folder)}}


def drop_code(others: Sequence[str], chosen: Mapping[str, str], folder: Path) -> list[str]:
    """Return the other settings without those that name the run's code again.

    Raises:
        ConfigError: the run was given code that these settings do not name.
    """
    for group, name in chosen.items():
        if is_code(name) and f"{group}={name}" not in others:
            raise ConfigError(f"resume={folder}: its {group} is code of yours; name it again: {group}={name}")
    return [
        item for item in others if item not in {f"{group}={name}" for group, name in chosen.items() if is_code(name)}
    ]


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings in the config.yaml of a run as plain data.

    Raises:
        ConfigError: there is no such file, or it is not a table of plain data.
    """
    try:
        saved = load_plain_yaml(folder / SETTINGS)
    except OSError as error:
        raise ConfigError(f"resume={folder}: no run is there ({SETTINGS}: {error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"resume={folder}: its {SETTINGS} cannot be read: {error}") from None
    if not isinstance(saved, dict):
        raise ConfigError(f"resume={folder}: its {SETTINGS} is no table of settings")
    return saved


def merge_settings(saved: Any, fresh: Any, folder: Path, free: set[str], where: str = "") -> Any:
    """Return the composed settings with the saved plain values.

    Raises:
        ConfigError: a saved value names code that was not composed, or is not plain data where the composed one is.
    """
    if where in free:
        return fresh
    if isinstance(saved, Mapping) and (isinstance(fresh, Mapping) or not has_code(saved)):
        composed = fresh if isinstance(fresh, Mapping) else {}
        result = {
            str(name): merge_settings(value, composed.get(name), folder, free, dotted(where, str(name)))
            for name, value in saved.items()
        }
        missing = [dotted(where, str(name)) for name in composed if str(name).startswith("_") and name not in saved]
        if not missing:
            return result
    elif where.rpartition(".")[2].startswith("_") or isinstance(fresh, Mapping):
        if saved == fresh:
            return saved
    elif isinstance(saved, PLAIN) or (isinstance(saved, list) and not has_code(saved)):
        return saved
    raise ConfigError(
        f"resume={folder}: its {where} is {saved!r:.80}, which is not what molrl composes, and nothing is built from a "
        "file in a run's folder; give the run's own settings again, with run="
    )


def has_code(node: Any) -> bool:
    """Return whether any key in it is an instruction to `build`, such as `_target_`."""
    if isinstance(node, Mapping):
        return any(str(key).startswith("_") or has_code(value) for key, value in node.items())
    return isinstance(node, list) and any(map(has_code, node))
