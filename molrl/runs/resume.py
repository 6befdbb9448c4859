"""`molrl train resume=RUN`: a run's own settings once more, as data.

A run folder may come from somebody else. Of its config.yaml the names chosen from each group are taken and composed
anew from our own YAML; then plain values are compared and taken over. What names code must be as it is composed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from molrl.composition import MISSING, Composition, names
from molrl.config import PLAIN, ConfigError, dotted
from molrl.plugins import is_code
from molrl.runs.folder import FREE, SETTINGS, plain_yaml

ASKED = "resume="
OWN = tuple(name for name in FREE if name != "run")


def resumed(command: str, arguments: Sequence[str], folders: Sequence[Path] = ()) -> dict[str, Any]:
    """Return the configuration of the run that `resume=RUN` names, with other settings where those are free.

    Code that the run was given, such as reward=my_rewards.py:name, must be named once more: none is taken from a file.

    Raises:
        ConfigError: no run is there, it is none of this command, or it names code that its YAML does not.
    """
    named = [item.removeprefix(ASKED) for item in arguments if item.startswith(ASKED)]
    others = [item for item in arguments if not item.startswith(ASKED)]
    if len(named) > 1:
        raise ConfigError(f"resume: got {len(named)} runs, one at a time")
    folder = Path(named[0].strip("'\"")).expanduser()
    saved = read_settings(folder)
    chosen = saved.pop("chosen", None)
    if not isinstance(chosen, dict) or not all(isinstance(name, str) for name in chosen.values()):
        raise ConfigError(f"resume={folder}: its {SETTINGS} does not say what was chosen")
    others = without_code(others, chosen, folder)
    for item in others:
        if item.partition("=")[0] not in OWN:
            raise ConfigError(f"{item}: a run goes on with its own settings; only {', '.join(OWN)} may change")
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
    return {"chosen": kept, **{**merged(saved, fresh, folder, free), "run": str(folder)}}


def without_code(others: Sequence[str], chosen: Mapping[str, str], folder: Path) -> list[str]:
    """Return the other settings without those that name the run's own code once more.

    Raises:
        ConfigError: the run was given code that is not named here, or other code.
    """
    for group, name in chosen.items():
        if is_code(name) and f"{group}={name}" not in others:
            raise ConfigError(f"resume={folder}: its {group} is code of yours; name it once more: {group}={name}")
    return [
        item for item in others if item not in {f"{group}={name}" for group, name in chosen.items() if is_code(name)}
    ]


def read_settings(folder: Path) -> dict[str, Any]:
    """A run's config.yaml as plain data.

    Raises:
        ConfigError: there is none, or it is no table of plain data.
    """
    try:
        saved = plain_yaml(folder / SETTINGS)
    except OSError as error:
        raise ConfigError(f"resume={folder}: no run is there ({SETTINGS}: {error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"resume={folder}: its {SETTINGS} cannot be read: {error}") from None
    if not isinstance(saved, dict):
        raise ConfigError(f"resume={folder}: its {SETTINGS} is no table of settings")
    return saved


def merged(saved: Any, fresh: Any, folder: Path, free: set[str], where: str = "") -> Any:
    """The composed settings with the saved plain values.

    Raises:
        ConfigError: what is saved names code that was not composed, or is no plain data where that is.
    """
    if where in free:
        return fresh
    if isinstance(saved, Mapping) and (isinstance(fresh, Mapping) or not has_code(saved)):
        own = fresh if isinstance(fresh, Mapping) else {}
        found = {
            str(name): merged(value, own.get(name), folder, free, dotted(where, str(name)))
            for name, value in saved.items()
        }
        gone = [dotted(where, str(name)) for name in own if str(name).startswith("_") and name not in saved]
        if not gone:
            return found
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
    """Whether a key in it speaks to `build`."""
    if isinstance(node, Mapping):
        return any(str(key).startswith("_") or has_code(value) for key, value in node.items())
    return isinstance(node, list) and any(map(has_code, node))
