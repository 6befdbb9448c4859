"""Tables of distributions: what samples are made of, side by side, in rows that fit a narrow page."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from molrl.exhibit import Counts
from molrl.runs.report.estimates import share_error
from molrl.runs.report.sheet import Sheet

MAX_ROWS = 14  # of a table
REWARD_BINS = 10
NUMBER = re.compile(r"-?\d+(\.\d+)?")


class Row(NamedTuple):
    """An outcome with its share in each set of samples.

    Attributes:
        name: of the outcome.
        shares: in [0, 1]; None where a set has nothing to take shares of.
        errors: standard errors of the shares; None where there is none.
        rest: it stands for several outcomes, and has no bar.
    """

    name: str
    shares: Sequence[float | None]
    errors: Sequence[float | None]
    rest: bool = False


class Table(NamedTuple):
    """The distributions of one property in several sets of samples.

    Attributes:
        title: the property.
        of: what shares are taken of.
        totals: their number in each set.
        rows: the outcomes.
    """

    title: str
    of: str
    totals: Sequence[int]
    rows: Sequence[Row]

    @property
    def longest(self) -> float:
        """Return the largest share, which the longest bar stands for; 1 where there is none."""
        return max((share for row in self.rows if not row.rest for share in row.shares if share), default=1.0)


def make_tables(sheets: Sequence[Sheet]) -> list[Table]:
    """Return a table of the rewards and one for each property that any sheet has."""
    titles = dict.fromkeys(title for sheet in sheets for title in sheet.makeup)
    sizes = [sheet.n for sheet in sheets]
    counts = {title: [sheet.makeup.get(title, Counts({}, 0, "")) for sheet in sheets] for title in titles}
    counts = {"reward": count_rewards([sheet.rewards for sheet in sheets]), **counts}
    tables = [tabulate(title, found, sizes) for title, found in counts.items() if found]
    return [table for table in tables if table.rows]


def tabulate(title: str, counts: Sequence[Counts], sizes: Sequence[int]) -> Table:
    """Return the table of one property: numbers in order, names by their largest share, the rest together.

    Args:
        title: the property.
        counts: its distribution in each set.
        sizes: independent samples of each set; things counted within one, such as its atoms, are not independent.
    """
    names = list(dict.fromkeys(name for one in counts for name in one.counts))
    numeric = all(NUMBER.fullmatch(name) for name in names)
    if numeric:
        names = sorted(names, key=float)
        if len(names) > MAX_ROWS:
            counts, names = grouped(counts, names)
    elif title != "reward":
        names = sorted(names, key=lambda name: -max(share(one, [name]) or 0.0 for one in counts))
    rows = [make_row(name, [name], counts, sizes) for name in names[:MAX_ROWS]]
    if rest := names[MAX_ROWS:]:
        whole = all(sum(one.counts.values()) <= one.total for one in counts)  # else one thing may have several outcomes
        rows += [make_row(f"{len(rest):,} others", rest, counts, sizes)._replace(rest=True)] if whole else []
    of = next((one.of for one in counts if one.of), "")
    return Table(title, of, [one.total for one in counts], rows)


def make_row(title: str, names: Sequence[str], counts: Sequence[Counts], sizes: Sequence[int]) -> Row:
    """Return the shares of some outcomes together in each set, with their errors."""
    shares = [share(one, names) for one in counts]
    errors = [
        None if part is None else share_error(part, min(n, one.total))
        for part, one, n in zip(shares, counts, sizes, strict=True)
    ]
    return Row(title, shares, errors)


def share(counts: Counts, names: Sequence[str]) -> float | None:
    """Return the share of some outcomes together; None where there is no total."""
    return sum(counts.counts.get(name, 0) for name in names) / counts.total if counts.total else None


def grouped(counts: Sequence[Counts], names: Sequence[str]) -> tuple[list[Counts], list[str]]:
    """Return distributions over sorted numbers, and the numbers, in at most `MAX_ROWS` ranges of one width."""
    low, high = float(names[0]), float(names[-1])
    width = -(-(high - low + 1) // MAX_ROWS)
    labels = {name: range_label(low + (float(name) - low) // width * width, width) for name in names}
    merged = []
    for one in counts:
        sums = dict.fromkeys(labels.values(), 0)
        for name, number in one.counts.items():
            sums[labels[name]] += number
        merged.append(one._replace(counts=sums))
    return merged, list(dict.fromkeys(labels.values()))


def range_label(start: float, width: float) -> str:
    """Return a range of whole numbers as text."""
    return f"{start:g} to {start + width - 1:g}" if width > 1 else f"{start:g}"


def count_rewards(rewards: Sequence[Sequence[float]]) -> list[Counts]:
    """Return how many rewards of each set lie in each of `REWARD_BINS` equal ranges of all of them."""
    found = [value for values in rewards for value in values]
    if not found:
        return []
    edges = np.linspace(min(found), max(found), REWARD_BINS + 1 if min(found) < max(found) else 2) + 0.0  # no -0
    names = [f"{a:.3g} to {b:.3g}" for a, b in pairwise(edges)]
    if len(set(names)) < len(names):
        names = [f"{a:.8g} to {b:.8g}" for a, b in pairwise(edges)]
    numbers: list[Mapping[str, int]] = [
        dict(zip(names, np.histogram(values, edges)[0].tolist(), strict=True)) for values in rewards
    ]
    return [Counts(one, sum(one.values()), "scored samples") for one in numbers]
