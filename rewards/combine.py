"""Combinations of several rewards into one: a weighted sum, or a weighted geometric mean.

Ranges are made comparable by `Desirability`, with limits that are given, not by running statistics.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from molrl.rewards.scores import (
    Explained,
    PerSample,
    Scored,
    Scorer,
    gradient_of,
    has_gradient,
    is_discrete,
    score_safely,
)
from molrl.rewards.wrapping import Reader, ReadOnce, explanation, part_names, parts_of, share_readers


@dataclass(frozen=True, kw_only=True)
class Term:
    """One part of a combination.

    Attributes:
        scorer: gives the value.
        weight: not 0.
        threshold: of the value before its weight; below it the combination has its floor. None: no threshold.
    """

    scorer: Scorer[Any]
    weight: float
    threshold: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or self.weight == 0:
            raise ValueError(f"weight: got {self.weight}, need a finite number other than 0")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"threshold: got {self.threshold}, need a finite number or null")


@dataclass(frozen=True, kw_only=True)
class Combination(PerSample[Any]):
    """One value made of several, which are computed together so that a reader that they share reads the sample once.

    In this order: a part that could not be scored makes the whole NaN, never zero; a part that calls the sample bad or
    is below its threshold gives the whole its floor, with that reason. All parts are always computed, so that they can
    be reported. The order of the terms changes only that of the report.
    """

    terms: Mapping[str, Term]

    def __post_init__(self) -> None:
        if not self.terms:
            raise ValueError("terms: got none, need at least one")
        if odd := [name for name in self.terms if not str(name).replace("_", "").isalnum()]:
            raise ValueError(f"terms: got the name {odd[0]!r}; letters, digits and _ are allowed")
        self.scorers  # noqa: B018  # made now, so that a combination around this one finds and shares their readers

    @cached_property
    def readers(self) -> dict[Reader, ReadOnce]:
        """Return the readers that the scorers share, by the plain reader."""
        return {}

    @cached_property
    def scorers(self) -> Mapping[str, Scorer[Any]]:
        """Return copies of the scorers, by term, that share their readers."""
        return {name: share_readers(term.scorer, self.readers) for name, term in self.terms.items()}

    @abstractmethod
    def worst(self) -> float:
        """Return the floor, the value of a bad sample."""

    @abstractmethod
    def combine(self, values: Mapping[str, float]) -> float:
        """Return the value of the whole from those of its parts, none of which is lost or a floor."""

    @abstractmethod
    def slopes(self, values: Mapping[str, float]) -> Mapping[str, float]:
        """Return the derivatives of `combine` by the values of the parts."""

    @property
    def has_gradient(self) -> bool:
        """Tell whether the gradient of the whole follows from those of its parts: discrete ones have that of zero."""
        return any(map(has_gradient, self.inner)) and all(has_gradient(one) or is_discrete(one) for one in self.inner)

    @property
    def is_discrete(self) -> bool:
        """Tell whether all parts are discrete."""
        return all(map(is_discrete, self.inner))

    @property
    def inner(self) -> tuple[Scorer[Any], ...]:
        """Return the scorers that are wrapped."""
        return tuple(term.scorer for term in self.terms.values())

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the columns of the report: the terms and, with a dot, their own parts."""
        return part_names({name: term.scorer for name, term in self.terms.items()})

    def score_one(self, sample: Any, /) -> Scored:
        try:
            scored = {name: score_safely(scorer, sample) for name, scorer in self.scorers.items()}
        finally:
            for reader in self.readers.values():
                reader.forget()
        value, reason = self.combine_scored(scored)
        gradient = None if reason else self.gradient(scored)
        return Explained(value, reason, explanation(self.parts, scored), gradient)

    def explain(self, sample: Any, /) -> dict[str, float]:
        """Return the value of each part before its weight; NaN where it has none or the sample is bad."""
        return dict(parts_of(self.score_one(sample)))

    def gradient(self, scored: Mapping[str, Scored]) -> NDArray[np.float64] | None:
        """Return the gradient of the whole from those of its parts, none of which is lost; None: zero."""
        gradients = {name: found for name, one in scored.items() if (found := gradient_of(one)) is not None}
        if not gradients:
            return None
        slopes = self.slopes({name: value for name, (value, _) in scored.items()})
        whole: NDArray[np.float64] = np.sum([slopes[name] * one for name, one in gradients.items()], axis=0)
        return whole

    def combine_scored(self, scored: Mapping[str, Scored]) -> Scored:
        """Return the value of the whole and its reason from those of the parts."""
        if lost := {name: reason for name, (value, reason) in scored.items() if math.isnan(value)}:
            return Scored(math.nan, join_reasons(lost, len(scored)))
        if bad := {name: reason for name, (_, reason) in scored.items() if reason}:
            return Scored(self.worst(), join_reasons(bad, len(scored)))
        values = {name: value for name, (value, _) in scored.items()}
        low = {
            name: f"below threshold: {values[name]:.4g}, at least {term.threshold:g}"
            for name, term in self.terms.items()
            if term.threshold is not None and values[name] < term.threshold
        }
        return Scored(self.worst(), join_reasons(low, len(scored) + 1)) if low else Scored(self.combine(values))


@dataclass(frozen=True, kw_only=True)
class WeightedSum(Combination):
    """The sum of w_i r_i over the terms; weights may be negative.

    Attributes:
        floor: the value of a bad sample; should be at most the smallest sum that a good one can have.
    """

    floor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.floor):
            raise ValueError(f"floor: got {self.floor}, need a finite number")

    def worst(self) -> float:
        return self.floor

    def combine(self, values: Mapping[str, float]) -> float:
        return math.fsum(term.weight * values[name] for name, term in self.terms.items())

    def slopes(self, values: Mapping[str, float]) -> Mapping[str, float]:
        return {name: self.terms[name].weight for name in values}


@dataclass(frozen=True, kw_only=True)
class WeightedProduct(Combination):
    """The weighted geometric mean, (prod_i r_i^w_i)^(1 / sum_i w_i): 0 where any part is 0 and for a bad sample.

    Weights are positive and only their ratios count. Parts must not be negative: one that is makes the whole NaN.
    """

    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, term in self.terms.items():
            if term.weight < 0:
                raise ValueError(f"{name}: got weight {term.weight}, a product needs positive ones")

    def worst(self) -> float:
        return self.floor

    def combine(self, values: Mapping[str, float]) -> float:
        for name, value in values.items():
            if value < 0:
                raise ValueError(f"{name} is {value:.4g}, a product needs parts of at least 0: wrap it in Desirability")
        if min(values.values()) == 0:
            return 0.0
        weights = math.fsum(term.weight for term in self.terms.values())
        return math.exp(math.fsum(term.weight * math.log(values[name]) for name, term in self.terms.items()) / weights)

    def slopes(self, values: Mapping[str, float]) -> Mapping[str, float]:
        """Return the derivatives by the parts; zeros where the whole is 0, so that it is not drawn out of there."""
        whole, weights = self.combine(values), math.fsum(term.weight for term in self.terms.values())
        if whole == 0:
            return dict.fromkeys(values, 0.0)
        return {name: self.terms[name].weight / weights * whole / value for name, value in values.items()}


def join_reasons(reasons: Mapping[str, str], parts: int) -> str:
    """Join the reasons of some of so many parts, each followed by its parts unless it is the reason of all."""
    by_reason: dict[str, list[str]] = {}
    for name in sorted(reasons):
        by_reason.setdefault(reasons[name], []).append(name)
    return "; ".join(
        reason if len(names) == parts else f"{reason} ({', '.join(names)})"
        for reason, names in sorted(by_reason.items())
    )
