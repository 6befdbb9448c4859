"""The sampling and the origin of a model, by the settings of its run, for a policy that is opened by its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molrl.runs.folder import SETTINGS, load_plain_yaml

NUMBERS = {"num_steps": 10_000, "grid_power": 100, "eta": 1, "guidance_scale": 1000}  # with the largest that is taken


def run_sampling(source: str) -> dict[str, int | float]:
    """Return the numbers of the policy of a run by which it sampled; none of what is no run.

    A model is best at the chain that it was trained on: one of 25 steps is another model in 50. The folder is not
    trusted, so that only plausible numbers are taken of it.

    Args:
        source: the folder of a run, or that of a model directly in it.
    """
    policy = run_settings(source, "policy")
    return {name: policy[name] for name, most in NUMBERS.items() if is_number(policy.get(name), most)}


def run_origin(source: str) -> str | None:
    """Return the policy that a run trained, or the kind of model that it pretrained, by name; None: it is no run.

    Args:
        source: the folder of a run, or that of a model directly in it.
    """
    chosen = run_settings(source, "chosen")
    name = chosen.get("policy", chosen.get("model"))
    return name if isinstance(name, str) else None


def run_settings(source: str, node: str) -> Mapping[Any, Any]:
    """Return one table of a run's settings; an empty one where there is none that can be read."""
    folder = next((one for one in (Path(source), Path(source).parent) if (one / SETTINGS).is_file()), None)
    if folder is None:
        return {}
    try:
        saved = load_plain_yaml(folder / SETTINGS)
    except (OSError, ValueError):
        return {}
    table = saved.get(node) if isinstance(saved, dict) else None
    return table if isinstance(table, dict) else {}


def is_number(value: object, most: float) -> bool:
    """Tell whether a value is a number from 0 to some largest one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
