"""Charts of a report: metrics over the iterations, of one run or of several, each line with a band, thinned to fit."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from molrl.glossary import Term, find_term
from molrl.runs.report.curves import KL_TITLE, capitalize, column, finite_number

MAX_POINTS = 400  # of a line: more rounds are averaged in groups
MAX_BANDED = 8  # lines of a chart; more bands hide each other
WINDOW = 5  # rounds around one, whose noise is the band of a metric without a standard error of its own
OWN_BAND = "band: ± standard error of the mean of a round's samples"
WINDOW_BAND = "band: ± the noise of one round, estimated from the rounds around it"
SEEDS_BAND = "line: mean of the seeds; band: ± its standard error"
LEFT_OUT = {"iteration", "reward_std", "reward_sem", "reward_before"}  # shown with the reward
TITLES = {"reward": "Reward", "held_out": "Held-out reward", "kl": KL_TITLE}  # of the metrics that are shown first

Array = NDArray[np.float64]


class Line(NamedTuple):
    """The line of one run.

    Attributes:
        label: name of the run.
        y: values [n], NaN where there is none.
        low, high: the band around it [n]; None: none.
        run: number of the run, which has one colour in all charts; None: the line is a mark and no run.
    """

    label: str
    y: Array
    low: Array | None = None
    high: Array | None = None
    run: int | None = None

    def mapped(self, function: Callable[[Array], Array]) -> "Line":
        """Return the line with a function applied to each of its arrays."""
        low, high = (None if part is None else function(part) for part in (self.low, self.high))
        return Line(self.label, function(self.y), low, high, self.run)

    def as_json(self) -> dict[str, Any]:
        """Return the line for JSON, with six significant digits and None for NaN."""
        arrays = {"y": self.y, "low": self.low, "high": self.high}
        return {"label": self.label, "run": self.run, **{name: numbers(part) for name, part in arrays.items()}}


class Chart(NamedTuple):
    """A metric over the iterations.

    Attributes:
        title: its heading.
        meaning: what the metric is.
        note: meaning of the band.
        x: iterations [n].
        lines: one for each run.
        first: it is shown at once, not on demand.
    """

    title: str
    meaning: str
    note: str
    x: Array
    lines: Sequence[Line]
    first: bool

    def as_json(self) -> dict[str, Any]:
        """Return the chart for JSON, with six significant digits and None for NaN."""
        return {"title": self.title, "x": numbers(self.x), "lines": [line.as_json() for line in self.lines]}

    @property
    def summary(self) -> str:
        """Return the first and the last value of each line in words, for those who cannot see it."""
        changes = []
        for line in self.lines:
            values = line.y[np.isfinite(line.y)]
            changes.append(f"{line.label}: from {values[0]:.4g} to {values[-1]:.4g}")
        return f"{self.title}. {'; '.join(changes)}"


class Rounds(NamedTuple):
    """The rounds of one run, or of several that differ in the seed alone.

    Attributes:
        label: name of the run or of the group.
        seeds: rows of each run, one mapping per round.
        labels: metric -> label of the domain's metrics, the most important first.
        terms: what the metrics mean.
    """

    label: str
    seeds: Sequence[Sequence[Mapping[str, Any]]]
    labels: Mapping[str, str]
    terms: Mapping[str, Term]


def make_charts(groups: Sequence[Rounds]) -> list[Chart]:
    """Return a chart for each metric that a round of any run has: reward, KL and labelled metrics first."""
    measured = {
        name: None
        for group in groups
        for rows in group.seeds
        for row in rows
        for name, value in row.items()
        if finite_number(value) is not None and name not in LEFT_OUT
    }
    labels = {name: label for group in groups for name, label in group.labels.items()}
    terms = {name: term for group in groups for name, term in group.terms.items()}
    first = {**TITLES, **labels}
    names = [*(name for name in first if name in measured), *sorted(measured.keys() - first.keys())]
    found = {name: find_term(name, terms) for name in names}
    titles = {name: TITLES.get(name) or capitalize(term.label) for name, term in found.items()}
    return [make_chart(name, titles[name], found[name].meaning, groups, name in first) for name in names]


def make_chart(metric: str, title: str, meaning: str, groups: Sequence[Rounds], first: bool) -> Chart:
    """Return the chart of one metric, over the iterations of all runs that have it."""
    having = [(number, group) for number, group in enumerate(groups) if has_metric(group, metric)]
    x = np.unique(np.concatenate([iterations(rows) for _, group in having for rows in group.seeds]))
    lines, notes = [], list[str]()
    for number, group in having:
        y, half, note = middle_and_band(metric, group, x)
        banded = len(having) <= MAX_BANDED and bool(np.isfinite(half).any())
        notes += [note] if banded else []
        lines.append(Line(group.label, y, y - half if banded else None, y + half if banded else None, number))
        before = [values_at("reward_before", rows, x) for rows in group.seeds] if metric == "reward" else []
        if len(groups) == 1 and before and np.isfinite(before).any():
            lines.append(Line("before training", mean_over_seeds(before)[0]))
    return thin(Chart(title, meaning, "; ".join(dict.fromkeys(notes)), x, lines, first))


def middle_and_band(metric: str, group: Rounds, x: Array) -> tuple[Array, Array, str]:
    """Return the values of a line at the iterations x [n], half the height of its band [n], and what the band is."""
    values = [values_at(metric, rows, x) for rows in group.seeds]
    if len(values) > 1:
        return (*mean_over_seeds(values), SEEDS_BAND)
    (rows,) = group.seeds
    error = values_at("reward_sem", rows, x) if metric == "reward" else np.full(len(x), np.nan)
    if np.isfinite(error).any():
        return values[0], error, OWN_BAND
    own = column([row.get(metric) for row in rows])
    return values[0], place(noise_around(own), iterations(rows), x), WINDOW_BAND


def mean_over_seeds(values: Sequence[Array]) -> tuple[Array, Array]:
    """Return the mean of each iteration [n] and its standard error, NaN where not all of those with values have one."""
    known = np.stack([one for one in values if np.isfinite(one).any()])
    if len(known) < 2:
        return known[0], np.full(known.shape[1], np.nan)
    with np.errstate(over="ignore", invalid="ignore"):  # of rewards beyond 1e154
        return known.mean(0), known.std(0, ddof=1) / math.sqrt(len(known))


def values_at(metric: str, rows: Sequence[Mapping[str, Any]], x: Array) -> Array:
    """Return a metric of a run at the iterations x [n], NaN where it has none."""
    return place(column([row.get(metric) for row in rows]), iterations(rows), x)


def has_metric(group: Rounds, metric: str) -> bool:
    """Tell whether any round of any seed has a value of a metric."""
    return any(finite_number(row.get(metric)) is not None for rows in group.seeds for row in rows)


def iterations(rows: Sequence[Mapping[str, Any]]) -> Array:
    """Return the number of each round [n]; its place among them where it has none."""
    given = [finite_number(row.get("iteration")) for row in rows]
    return np.array([index if number is None else number for index, number in enumerate(given)], np.float64)


def place(values: Array, own: Array, x: Array) -> Array:
    """Return the values at their own iterations among all iterations x, NaN elsewhere."""
    placed = np.full(len(x), np.nan)
    known = np.isfinite(values)
    placed[np.searchsorted(x, own[known])] = values[known]
    return placed


def noise_around(y: Array) -> Array:
    """Return the standard deviation of one round's value about the trend [n], NaN where too few rounds are around it.

    It is that of the second differences of the `WINDOW` rounds around, over sqrt(6): a straight line has none, and
    those of independent values have six times their variance (Gasser et al. 1986, doi:10.1093/biomet/73.3.625).
    """
    if len(y) < WINDOW:
        return np.full(len(y), np.nan)
    with np.errstate(over="ignore"):  # of rewards beyond 1e154
        squares = np.pad((y[:-2] - 2 * y[1:-1] + y[2:]) ** 2, 1 + WINDOW // 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(squares, WINDOW)
    n = np.isfinite(windows).sum(1)
    variance = np.nansum(windows, 1) / (6 * np.maximum(n, 1))
    return np.where(n >= 2, np.sqrt(variance), np.nan)


def thin(chart: Chart) -> Chart:
    """Return a chart of at most `MAX_POINTS` points, each the mean of as many rounds in a row."""
    size = math.ceil(len(chart.x) / MAX_POINTS)
    if size < 2:
        return chart
    lines = [line.mapped(lambda values: means(values, size)) for line in chart.lines]
    note = f"{chart.note}; each point is the mean of {size} rounds".removeprefix("; ")
    return chart._replace(x=means(chart.x, size), lines=lines, note=note)


def means(values: Array, size: int) -> Array:
    """Return the means of groups of `size` values [ceil(n / size)], without those that are NaN."""
    padded = np.pad(values, (0, -len(values) % size), constant_values=np.nan).reshape(-1, size)
    n = np.isfinite(padded).sum(1)
    return np.where(n > 0, np.nansum(padded, 1) / np.maximum(n, 1), np.nan)


def numbers(values: Array | None) -> list[float | None] | None:
    """Return values with six significant digits, None for NaN."""
    if values is None:
        return None
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
