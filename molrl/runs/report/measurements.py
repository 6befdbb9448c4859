"""The table of a run's measurements, or of those of several seeds: each figure before and after, and its change."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from molrl.glossary import Term, find_key, find_term
from molrl.runs.report.curves import capitalize
from molrl.runs.report.estimates import Estimate, difference, estimate, estimate_reward, over_seeds
from molrl.runs.report.wording import format_decimal, measurements

LEFT_OUT = ("n", "reward_mean", "reward_sem")  # of a measurement; the row of the reward has them


class Cell(NamedTuple):
    """A figure and its standard error as text; "" for no error."""

    value: str
    error: str = ""


class Figure(NamedTuple):
    """A row of the table: the name and the meaning of a figure, the figure before, after, and its change."""

    name: str
    meaning: str
    before: Cell
    after: Cell
    change: Cell


def measured_rows(summaries: Sequence[Mapping[str, Any]], terms: Mapping[str, Term]) -> list[Figure]:
    """Return the rows of the table, the reward first, then metrics in the order of the terms, then the others.

    Args:
        summaries: of the runs, which differ in the seed alone; of several the means are shown.
        terms: what the metrics mean.
    """
    ends = [(measurements(one, "before"), measurements(one, "after")) for one in summaries]
    figures = [figures for pair in ends for figures in pair]
    if not any(figures):
        return []
    names = dict.fromkeys(name for one in figures for name in one if name not in LEFT_OUT)
    measured = [name for name in names if not all(isinstance(one.get(name), Mapping | list | str) for one in figures)]
    places = {key: place for place, key in enumerate(terms)}
    measured.sort(key=lambda name: places.get(find_key(name, terms) or "", len(places)))
    rows = [Figure("Reward", "mean of the samples", *cells([tuple(map(estimate_reward, pair)) for pair in ends]))]
    for name in measured:
        term = find_term(name, terms)
        found = cells([(estimate(old, name, term), estimate(new, name, term)) for old, new in ends])
        rows.append(Figure(capitalize(term.label), term.meaning, *found))
    return rows


def cells(ends: Sequence[tuple[Estimate, ...]]) -> tuple[Cell, Cell, Cell]:
    """Return a figure before and after of each run, and its change, as text: of several runs the means."""
    before, after = (over_seeds([pair[place] for pair in ends]) for place in (0, 1))
    change = over_seeds([difference(*pair) for pair in ends])
    known = [one.value for one in (before, after) if one.value is not None]
    is_count = all(value.is_integer() for value in known) and any(value > 1 for value in known)
    return cell(before, is_count), cell(after, is_count), cell(change, is_count, "+")


def cell(figure: Estimate, is_count: bool = False, sign: str = "") -> Cell:
    """Return a figure with its standard error as text; a count without decimals, an en dash for what is not known."""
    value = None if figure.value is None else round(figure.value, 12)
    text = format_decimal(value, sign) if value is None or not is_count else f"{value:{sign},.0f}".replace("-", "−")
    return Cell(text, "" if figure.error is None else f"± {format_decimal(figure.error)}")
