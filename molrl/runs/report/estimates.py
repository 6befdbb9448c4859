"""Figures of a measurement with their standard errors: of a mean, of a share, of a change, and over seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from molrl.glossary import Term
from molrl.runs.report.curves import finite_number


class Estimate(NamedTuple):
    """A figure with its standard error; None for what is not known."""

    value: float | None
    error: float | None = None


UNKNOWN = Estimate(None)


def estimate_reward(figures: Mapping[str, Any]) -> Estimate:
    """Return the mean reward of a measurement with its standard error."""
    return Estimate(finite_number(figures.get("reward_mean")), finite_number(figures.get("reward_sem")))


def estimate(figures: Mapping[str, Any], name: str, term: Term) -> Estimate:
    """Return a figure of a measurement; a share of samples has an error, as if each were drawn by itself.

    Args:
        figures: of the measurement.
        name: of the figure.
        term: says what the figure is a share of, if it is one.
    """
    value = finite_number(figures.get(name))
    if value is None or not term.of:
        return Estimate(value)
    counts = [finite_number(figures.get(part)) for part in term.of]
    if None in counts or not 0 <= value <= 1:
        return Estimate(value)
    n = math.prod(float(count or 0) for count in counts)
    return Estimate(value, share_error(value, min(n, term.most or n)))


def share_error(share: float, n: float) -> float | None:
    """Return the standard error of a share of n samples; None for n < 1.

    It is half the width of the interval of Agresti and Coull (1998, doi:10.1080/00031305.1998.10480550) at one standard
    error: the binomial error, but not zero for a share of 0 or 1.
    """
    if n < 1:
        return None
    centre = (share * n + 0.5) / (n + 1)
    return math.sqrt(centre * (1 - centre) / (n + 1))


def difference(before: Estimate, after: Estimate) -> Estimate:
    """Return the change of a figure; its error takes the two measurements as independent."""
    if before.value is None or after.value is None:
        return UNKNOWN
    known = before.error is not None and after.error is not None
    error = math.hypot(before.error or 0.0, after.error or 0.0) if known else None
    return Estimate(after.value - before.value, error)


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of the same figure of several seeds, with the standard error that their spread gives it.

    The figure of one seed keeps its own error. Seeds without the figure are left out.
    """
    known = [one for one in estimates if one.value is not None]
    if len(known) < 2:
        return known[0] if known else UNKNOWN
    values = np.array([one.value for one in known], np.float64)
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)))
