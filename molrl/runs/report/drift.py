"""Warnings of a report in plain words: what a mean reward does not show."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from molrl.exhibit import Counts
from molrl.runs.report.curves import finite_number
from molrl.runs.report.sheet import Sheet
from molrl.runs.report.wording import format_decimal, measurements
from molrl.runs.tracking import find_problems

MIN_SHIFT = 0.1  # of a share, below which a change needs no word
MIN_Z = 4.0  # standard errors, below which it may be chance: dozens of shares are looked at
MAX_LOST = 0.05  # share of the samples without a reward


def warnings(
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    sheets: Mapping[str, Sheet],
    labels: Mapping[str, str],
) -> list[str]:
    """Return what a reader of a run's report should know, the most important first.

    Args:
        rows: one mapping per round.
        summary: of the run; may be empty.
        sheets: of the samples, by "before" and "after", or "in the last round".
        labels: metric -> label.
    """
    found = [*reward_warnings(summary), *metric_warnings(summary, labels)]
    if (before := sheets.get("before")) is not None:
        found += [sentence for when in sheets if when != "before" for sentence in drifts(before, sheets[when], when)]
    found += [f"{str(change)[:1].upper()}{str(change)[1:]}." for change in summary.get("changes") or ()]
    return [*found, *round_warnings(rows)]


def reward_warnings(summary: Mapping[str, Any]) -> list[str]:
    """Return warnings of a reward that did not rise by more than chance, and of samples without a reward."""
    ends = [measurements(summary, when) for when in ("before", "after")]
    means, errors = ([finite_number(end.get(f"reward_{name}")) for end in ends] for name in ("mean", "sem"))
    found = []
    if None not in means and None not in errors:
        change, error = float(means[1] or 0) - float(means[0] or 0), math.hypot(*(float(one or 0) for one in errors))
        if change <= 2 * error:
            found.append(
                f"The reward did not rise by more than chance: {format_decimal(change, '+')} ± {format_decimal(error)}."
            )
    for when, end in zip(("before", "after"), ends, strict=True):
        n, lost = finite_number(end.get("n")) or 0.0, finite_number(end.get("lost")) or 0.0
        if lost > MAX_LOST * n:
            found.append(
                f"{lost:.0f} of {n:.0f} samples {when} training could not be scored; the means leave them out."
            )
    return found


def metric_warnings(summary: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Return warnings of labelled shares of samples, such as those that are valid, that fell by more than chance."""
    before, after = (measurements(summary, when) for when in ("before", "after"))
    counts = [finite_number(end.get("n")) or 0.0 for end in (before, after)]
    found = []
    for name, label in labels.items():
        old, new = finite_number(before.get(name)), finite_number(after.get(name))
        if old is None or new is None or not (0 <= old <= 1 and 0 <= new <= 1):
            continue
        if is_shift(old, new, *counts) and new < old:
            found.append(f"Fewer samples are {label}: {old:.0%} before, {new:.0%} after.")
    return found


def drifts(before: Sheet, after: Sheet, when: str) -> list[str]:
    """Return a sentence for each distribution with a share that moved by more than `MIN_SHIFT` and than chance.

    Args:
        before, after: sheets of samples.
        when: in words, the later ones were drawn.
    """
    found = []
    for title, old in before.makeup.items():
        new = after.makeup.get(title)
        moved = largest_shift(old, new, before.n, after.n) if new is not None else None
        if moved is not None:
            name, p, q = moved
            found.append(f"Drift in {title}: “{name}” is {p:.0%} of the {old.of} before, {q:.0%} {when}.")
    return found


def largest_shift(before: Counts, after: Counts, n: int, m: int) -> tuple[str, float, float] | None:
    """Return the outcome whose share moved most, with its two shares; None where none moved by more than chance.

    Args:
        before, after: distributions of the same property.
        n, m: independent samples behind them; things counted within one sample, such as its atoms, are not independent.
    """
    if not before.total or not after.total:
        return None
    shares = {
        name: (before.counts.get(name, 0) / before.total, after.counts.get(name, 0) / after.total)
        for name in {**before.counts, **after.counts}
    }
    sizes = min(n, before.total), min(m, after.total)
    moved = {name: abs(q - p) for name, (p, q) in shares.items() if is_shift(p, q, *sizes)}
    if not moved:
        return None
    name = max(moved, key=lambda one: moved[one])
    return (name, *shares[name])


def is_shift(p: float, q: float, n: float, m: float) -> bool:
    """Tell whether two shares, of n and of m samples, differ by more than `MIN_SHIFT` and `MIN_Z` standard errors."""
    if not n or not m:
        return False
    pooled = (p * n + q * m) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return abs(q - p) > max(MIN_SHIFT, MIN_Z * error)


def round_warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the problems that rounds showed, each once, with the first round and the number of rounds that had it."""
    first: dict[str, tuple[object, str]] = {}
    times: dict[str, int] = {}
    for index, row in enumerate(rows):
        numbers = {name: finite_number(value) for name, value in row.items()}
        for metric, problem in find_problems(numbers).items():
            first.setdefault(metric, (row.get("iteration", index), problem))
            times[metric] = times.get(metric, 0) + 1
    return [
        f"Iteration {iteration}{f' and {times[metric] - 1} more' if times[metric] > 1 else ''}: {problem}."
        for metric, (iteration, problem) in first.items()
    ]
