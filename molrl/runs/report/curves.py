"""Curves of a run: one metric over the iterations, taken from the rows of metrics.jsonl."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from molrl.runs.tracking import first_labels

REWARD_TITLE = "Reward: mean ± standard error"
KL_TITLE = "KL to the start, nats"


class Curve(NamedTuple):
    """A metric over the run.

    Attributes:
        metric: its key in the rows.
        title: heading of its panel.
        x: iterations, [n].
        y: values, [n]; NaN where a row has none.
        spread: half the height of a band around the values, [n]; None for no band.
    """

    metric: str
    title: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    spread: NDArray[np.float64] | None = None


def collect_curves(metrics: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> list[Curve]:
    """Return the curves of a run that have any values: the reward, the KL, then the first labelled metrics.

    Args:
        metrics: one mapping per round.
        labels: metric -> label, the most important first.
    """
    measured = {name for row in metrics for name, value in row.items() if finite_number(value) is not None}
    titles = {"kl": KL_TITLE, **{name: capitalize(label) for name, label in first_labels(measured, labels).items()}}
    reward = curve(metrics, "reward", REWARD_TITLE, "reward_sem")
    others = [curve(metrics, name, title) for name, title in titles.items()]
    return [line for line in (reward, *others) if len(line.x)]


def curve(metrics: Sequence[Mapping[str, Any]], metric: str, title: str, spread: str = "") -> Curve:
    """Return one metric of the run as a curve; it is empty where no round has the metric."""
    x = column([row.get("iteration", index) for index, row in enumerate(metrics)])
    y, band = column([row.get(metric) for row in metrics]), column([row.get(spread) for row in metrics])
    if not np.isfinite(x + y).any():
        return Curve(metric, title, x[:0], y[:0])
    return Curve(metric, title, x, y, band if np.isfinite(band).any() else None)


def column(values: Sequence[object]) -> NDArray[np.float64]:
    """Return values as an array, with NaN for all that is not a finite number."""
    numbers = map(finite_number, values)
    return np.array([math.nan if number is None else number for number in numbers], np.float64)


def finite_number(value: object) -> float | None:
    """Return a finite number as a float, and None for anything else, such as an integer that is too large for one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def capitalize(text: str) -> str:
    """Return a text with a capital first letter, its other letters as they are."""
    return text[:1].upper() + text[1:]
