"""The numbers by which a run drew its samples, for a policy that is opened by the folder of the run."""

from pathlib import Path

from molrl.runs.folder import SETTINGS, load_plain_yaml

NUMBERS = {"num_steps": 10_000, "grid_power": 100, "eta": 1, "guidance_scale": 1000}  # with the largest that is taken


def run_sampling(source: str) -> dict[str, int | float]:
    """Return the numbers of the policy of a run by which it sampled; none of what is no run.

    A model is best at the chain that it was trained on: one of 25 steps is another model in 50. The folder is not
    trusted, so that only plausible numbers are taken of it.

    Args:
        source: the folder of a run, or that of a model directly in it.
    """
    folder = next((one for one in (Path(source), Path(source).parent) if (one / SETTINGS).is_file()), None)
    if folder is None:
        return {}
    try:
        saved = load_plain_yaml(folder / SETTINGS)
    except (OSError, ValueError):
        return {}
    policy = saved.get("policy") if isinstance(saved, dict) else None
    if not isinstance(policy, dict):
        return {}
    return {name: policy[name] for name, most in NUMBERS.items() if is_number(policy.get(name), most)}


def is_number(value: object, most: float) -> bool:
    """Tell whether a value is a number from 0 to some largest one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
