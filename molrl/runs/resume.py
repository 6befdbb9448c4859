"""Continuing a run from its folder, as `molrl train resume=RUN` does, with the settings of its config.yaml as data.

A run folder is not trusted. The names that its config.yaml chose from each group are composed again from our own YAML;
then plain values are compared and taken over. Values that name code must be equal to the composed ones.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from molrl.composition import MISSING, Composition, names
from molrl.config import PLAIN, ConfigError, dotted
from molrl.override import as_value, command_line, unquoted
from molrl.plugins import is_code
from molrl.renamed import with_moved_targets
from molrl.runs.folder import FREE_SETTINGS, SETTINGS, is_later, load_plain_yaml

RESUME_PREFIX = "resume="
NOTHING = "none"  # the choice that leaves a run as it was before the group existed
CHANGEABLE_SETTINGS = tuple(name for name in FREE_SETTINGS if name not in ("run", "chosen.tracker"))
LENGTH = re.compile(r"\+?[0-9]{1,9}")
LENGTHS = {"train": "iterations", "pretrain": "training.steps"}  # the setting of each command that makes a run longer


def compose_resumed(command: str, arguments: Sequence[str], folders: Sequence[Path] = ()) -> dict[str, Any]:
    """Return the configuration of the run that `resume=RUN` names, with other settings where those are free.

    `iterations=+20` (in pretraining `training.steps=+2000`) adds to the rounds that the run was to have. Code that the
    run was given, such as reward=my_rewards.py:name, must be named again: none is taken from a file.

    Raises:
        ConfigError: there is no such run, it belongs to another command, or it names code that our YAML does not.
    """
    named = [item.removeprefix(RESUME_PREFIX) for item in arguments if item.startswith(RESUME_PREFIX)]
    others = [item for item in arguments if not item.startswith(RESUME_PREFIX)]
    if len(named) > 1:
        raise ConfigError(f"resume: got {len(named)} runs, one at a time")
    folder = Path(unquoted(named[0])).expanduser()
    saved = read_settings(folder)
    chosen = saved.pop("chosen", None)
    if not isinstance(chosen, dict) or not all(isinstance(name, str) for name in chosen.values()):
        raise ConfigError(f"resume={folder}: its {SETTINGS} does not say what was chosen")
    others = drop_code(others, chosen, command, folder)
    others = [longer(item, LENGTHS[command], saved, folder) for item in others]
    refuse_changes(command, others)
    if isinstance(saved.get("reward"), dict) and "function" in saved["reward"]:
        raise ConfigError(f"resume={folder}: its reward is a Python function; call molrl.train with it again")
    overrides = [f"{group}={as_value(name)}" for group, name in chosen.items()]
    composition = Composition(command, overrides, folders)
    later = {group for group, name in composition.chosen.items() if group not in chosen and name == NOTHING}
    if set(chosen) | later != set(composition.choices):
        raise ConfigError(f"resume={folder} is no run of molrl {command}: it has chosen {', '.join(chosen)}")
    placeholders = [f"{name}=0" for name, value in names(composition.base).items() if value == MISSING]
    placeholders = [item for item in placeholders if not item.startswith(("policy.weights", "reward.source"))]
    fresh = Composition(command, [*overrides, *others, *placeholders], folders).config
    kept = fresh.pop("chosen")
    added = {name: fresh[name] for name in (*CHANGEABLE_SETTINGS, *later) if name in fresh}  # by a later version
    free = {item.partition("=")[0] for item in others}
    return {"chosen": kept, **added, **merge_settings(saved, fresh, folder, free), "run": str(folder)}


def longer(item: str, setting: str, saved: Mapping[str, Any], folder: Path) -> str:
    """Return a setting as it is, but the length of the run in full: `iterations=80` for +20 of a run that has 60.

    Raises:
        ConfigError: the run would get shorter, or does not say how long it is.
    """
    name, _, value = item.partition("=")
    if name != setting or not LENGTH.fullmatch(value):
        return item
    length = names(saved).get(setting)
    if type(length) is not int:
        raise ConfigError(f"resume={folder}: its {SETTINGS} has no {setting}")
    total = length + int(value) if value.startswith("+") else int(value)
    if total < length:
        raise ConfigError(f"{item}: the run has {length} already; {setting}=+MORE adds to them")
    return f"{setting}={total}"


def refuse_added_length(command: str, settings: Sequence[str]) -> None:
    """Raise ConfigError for `iterations=+20` of a new run, which has none to add them to."""
    for item in settings:
        name, _, value = item.partition("=")
        if name == LENGTHS[command] and value.startswith("+"):
            raise ConfigError(f"{item}: adds to what a run has, so name the run: molrl {command} resume=RUN {item}")


def refuse_changes(command: str, others: Sequence[str]) -> None:
    """Raise ConfigError for a setting that a run cannot change when it goes on."""
    allowed = (*CHANGEABLE_SETTINGS, LENGTHS[command])
    for item in others:
        if item.partition("=")[0] not in allowed:
            raise ConfigError(f"{item}: a run goes on with its own settings; only {', '.join(allowed)} may change")


def drop_code(others: Sequence[str], chosen: Mapping[str, str], command: str, folder: Path) -> list[str]:
    """Return the other settings without those that name the run's code again.

    Raises:
        ConfigError: the run was given code that these settings do not name.
    """
    code = {group: name for group, name in chosen.items() if is_code(name)}
    given = {name: unquoted(value) for name, _, value in (item.partition("=") for item in others)}
    if lacking := [group for group, name in code.items() if given.get(group) != name]:
        again = command_line(command, {"resume": folder, **code})
        raise ConfigError(f"resume={folder}: its {' and '.join(lacking)} is code of yours; name it again: {again}")
    return [item for item in others if item.partition("=")[0] not in code]


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings in the config.yaml of a run as plain data.

    Raises:
        ConfigError: there is no such file, or it is not a table of plain data.
    """
    try:
        saved = with_moved_targets(load_plain_yaml(folder / SETTINGS))
    except OSError as error:
        raise ConfigError(f"resume={folder}: no run is there ({SETTINGS}: {error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"resume={folder}: its {SETTINGS} cannot be read: {error}") from None
    if not isinstance(saved, dict):
        raise ConfigError(f"resume={folder}: its {SETTINGS} is no table of settings")
    return saved


def merge_settings(saved: Any, fresh: Any, folder: Path, free: set[str], where: str = "") -> Any:
    """Return the composed settings with the saved plain values; those of a later version have the composed ones.

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
        missing = [str(name) for name in composed if name not in saved]
        if not any(name.startswith("_") for name in missing):
            return result | {name: composed[name] for name in missing if is_later(name, saved, composed, where)}
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
