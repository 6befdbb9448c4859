"""Runs side by side: what each came to, and the settings that differ."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from molrl.override import as_value
from molrl.runs.folder import FREE_SETTINGS
from molrl.runs.report.contents import Contents
from molrl.runs.report.curves import finite_number
from molrl.runs.report.estimates import Estimate, difference, estimate_reward, over_seeds
from molrl.runs.report.wording import format_decimal, format_duration, measurements

NONE = "–"
MAX_LETTERS = 200  # of a setting's value


class Setting(NamedTuple):
    """A setting with its value in each run; an en dash where a run has none."""

    name: str
    values: Sequence[str]


def differing_settings(runs: Sequence[Contents]) -> list[Setting]:
    """Return the settings that are not the same in all runs, apart from those that change no result."""
    known = [comparable_settings(run) for run in runs]
    names = dict.fromkeys(name for one in known for name in one)
    rows = [Setting(name, [one.get(name, NONE) for one in known]) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


def comparable_settings(run: Contents) -> dict[str, str]:
    """Return the settings of a run as text, by their dotted names, without those that change no result."""
    return {
        name: text
        for name, text in flatten(run.settings).items()
        if name not in FREE_SETTINGS and name.partition(".")[0] not in FREE_SETTINGS
    }


def flatten(node: Any, prefix: str = "") -> dict[str, str]:
    """Return the values of nested settings as text, by their dotted names; not those that say what is built of them."""
    if isinstance(node, Mapping) and node:
        parts = [
            flatten(value, f"{prefix}.{name}" if prefix else str(name))
            for name, value in node.items()
            if not str(name).startswith("_")
        ]
        return {name: text for part in parts for name, text in part.items()}
    text = as_value(node) if isinstance(node, str | int | float | bool | None) else str(node)
    return {prefix: text if len(text) <= MAX_LETTERS else f"{text[:MAX_LETTERS]}…"}


def results(runs: Sequence[Contents]) -> dict[str, str]:
    """Return what a run came to, by the heading of a column; of several seeds the means and the sums of costs."""
    ends = [tuple(estimate_reward(measurements(run.summary, when)) for when in ("before", "after")) for run in runs]
    before, after = (over_seeds([pair[place] for pair in ends]) for place in (0, 1))
    return {
        "before": with_error(before),
        "after": with_error(after),
        "change": with_error(over_seeds([difference(*pair) for pair in ends]), "+"),
        "best": with_error(over_seeds([Estimate(best_value(run)) for run in runs])),
        "reward queries": f"{sum(map(reward_queries, runs)):,.0f}",
        "time": format_duration(sum(map(seconds, runs))),
        "state": describe_states([run.state for run in runs]),
    }


def describe_states(states: Sequence[str]) -> str:
    """Return the state of a run, or how many runs are in which, without details."""
    if len(states) == 1:
        return states[0]
    numbers = Counter(state.partition(":")[0] for state in states)
    return ", ".join(f"{number} {state}" for state, number in numbers.items())


def best_value(run: Contents) -> float | None:
    """Return the figure by which the best checkpoint of a run was chosen."""
    best = run.summary.get("best")
    return finite_number(best.get("value")) if isinstance(best, Mapping) else None


def reward_queries(run: Contents) -> float:
    """Return the samples that the reward has scored in training."""
    return sum(finite_number(row.get("reward_queries")) or 0.0 for row in run.rows)


def seconds(run: Contents) -> float:
    """Return the time that a run took, or has taken so far."""
    total = finite_number(run.summary.get("wall_seconds"))
    return sum(finite_number(row.get("seconds")) or 0.0 for row in run.rows) if total is None else total


def with_error(figure: Estimate, sign: str = "") -> str:
    """Return a figure with its standard error as text."""
    error = "" if figure.error is None else f" ± {format_decimal(figure.error)}"
    return format_decimal(figure.value, sign) + error
