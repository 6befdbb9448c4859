"""Runs side by side: what each came to, and the settings that differ."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from molrl.override import as_value
from molrl.runs.folder import FREE_SETTINGS
from molrl.runs.report.contents import Contents
from molrl.runs.report.curves import finite_number
from molrl.runs.report.wording import format_decimal, format_duration, measurements

NONE = "–"
MAX_LETTERS = 200  # of a setting's value


class Setting(NamedTuple):
    """A setting with its value in each run; an en dash where a run has none."""

    name: str
    values: Sequence[str]


def differing_settings(runs: Sequence[Contents]) -> list[Setting]:
    """Return the settings that are not the same in all runs, apart from those that change no result."""
    flat = [flatten(run.settings) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    rows = [Setting(name, [one.get(name, NONE) for one in flat]) for name in names if name not in FREE_SETTINGS]
    return [row for row in rows if len(set(row.values)) > 1]


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


def results(run: Contents) -> dict[str, str]:
    """Return what a run came to, by the heading of a column."""
    ends = [measurements(run.summary, when) for when in ("before", "after")]
    means = [finite_number(end.get("reward_mean")) for end in ends]
    errors = [finite_number(end.get("reward_sem")) for end in ends]
    change = None if None in means else float(means[1] or 0) - float(means[0] or 0)
    best = run.summary.get("best")
    value = finite_number(best.get("value")) if isinstance(best, Mapping) else None
    queries = sum(finite_number(row.get("reward_queries")) or 0.0 for row in run.rows)
    seconds = finite_number(run.summary.get("wall_seconds"))
    if seconds is None:
        seconds = sum(finite_number(row.get("seconds")) or 0.0 for row in run.rows)
    return {
        "before": with_error(means[0], errors[0]),
        "after": with_error(means[1], errors[1]),
        "change": format_decimal(change, "+"),
        "best": format_decimal(value),
        "reward queries": f"{queries:,.0f}",
        "time": format_duration(seconds),
        "state": run.state,
    }


def with_error(value: float | None, error: float | None) -> str:
    """Return a number with its standard error."""
    return format_decimal(value) + ("" if error is None else f" ± {format_decimal(error)}")
