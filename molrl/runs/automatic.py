"""Settings that are `auto` until a run begins: a run keeps what was decided, whatever machine it goes on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from molrl.runs.folder import AUTO, AUTOMATIC_SETTINGS, SETTINGS, load_plain_yaml


def decide(config: Mapping[str, Any], name: str, choose: Callable[[], Any]) -> dict[str, Any]:
    """Return the settings of a run with one of them decided, if it is `auto`: as the run has it, or else as chosen.

    Args:
        config: settings of the run, whose folder is `run`.
        name: dotted name of the setting, one of `AUTOMATIC_SETTINGS`.
        choose: called for a new run.
    """
    if lookup(config, name) != AUTO:
        return dict(config)
    kept = lookup(saved_settings(config["run"]), name)
    return replaced(config, name, kept if kept in AUTOMATIC_SETTINGS[name] else choose())


def saved_settings(run: str | None) -> Any:
    """Return the settings in the folder of a run; an empty table where there are none that can be read."""
    try:
        return {} if run is None else load_plain_yaml(Path(run) / SETTINGS)
    except (OSError, ValueError):  # whoever claims the folder says what is wrong with it
        return {}


def lookup(node: Any, name: str) -> Any:
    """Return the value of a dotted name in nested tables; `auto` where there is none."""
    for part in name.split("."):
        node = node.get(part, AUTO) if isinstance(node, Mapping) else AUTO
    return node


def replaced(config: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return nested tables with another value of a dotted name."""
    first, _, rest = name.partition(".")
    return {**config, first: replaced(config[first], rest, value) if rest else value}
