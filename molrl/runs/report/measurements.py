"""The table of a run's measurements: each figure before and after the training, and its change."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from molrl.runs.report.curves import finite_number
from molrl.runs.report.wording import format_decimal, key_to_words, measurements

LEFT_OUT = ("n", "reward_mean", "reward_sem")  # of a measurement; the row of the reward has them


class Cell(NamedTuple):
    """A figure and its standard error as text; "" for no error."""

    value: str
    error: str = ""


class Figure(NamedTuple):
    """A row of the table: a figure before, after, and its change."""

    name: str
    before: Cell
    after: Cell
    change: Cell


def measured_rows(summary: Mapping[str, Any], labels: Mapping[str, str]) -> list[Figure]:
    """Return the rows of the table, the reward first, then labelled metrics, then the others; none without figures."""
    ends = [measurements(summary, when) for when in ("before", "after")]
    if not any(ends):
        return []
    means, errors = ([finite_number(end.get(f"reward_{name}")) for end in ends] for name in ("mean", "sem"))
    both = None if None in errors else math.hypot(*(float(error or 0) for error in errors))
    rows = [Figure("reward", cell(means[0], errors[0]), cell(means[1], errors[1]), change(means[0], means[1], both))]
    names = dict.fromkeys([*labels, *(name for end in ends for name in end)])
    for name in names:
        old, new = (finite_number(end.get(name)) for end in ends)
        measured = any(name in end and not isinstance(end[name], Mapping | list | str) for end in ends)
        if name not in LEFT_OUT and measured:
            rows.append(Figure(labels.get(name, key_to_words(name)), *number_cells(old, new)))
    return rows


def number_cells(old: float | None, new: float | None) -> tuple[Cell, Cell, Cell]:
    """Return two figures and their change as text; counts, which are whole and not only 0 and 1, without decimals."""
    known = [value for value in (old, new) if value is not None]
    if not (all(value.is_integer() for value in known) and any(value > 1 for value in known)):
        return cell(old), cell(new), change(old, new)
    before, after = ("–" if value is None else f"{value:,.0f}" for value in (old, new))
    difference = f"{known[1] - known[0]:+,.0f}".replace("-", "−") if len(known) > 1 else "–"
    return Cell(before), Cell(after), Cell(difference)


def cell(value: float | None, error: float | None = None) -> Cell:
    """Return a figure with its standard error as text."""
    return Cell(format_decimal(value), "" if error is None else f"± {format_decimal(error)}")


def change(old: float | None, new: float | None, error: float | None = None) -> Cell:
    """Return the change of a figure as text; an en dash where one of the two is not known."""
    difference = None if old is None or new is None else round(new - old, 12)
    return Cell(format_decimal(difference, "+"), "" if error is None else f"± {format_decimal(error)}")
