"""Several rewards as one: a weighted sum, or a weighted geometric mean.

Ranges are made comparable by `Desirability`, with limits that are given, not by running statistics.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from molrl.data.molecules.bonds import BondReader
from molrl.rewards.scores import Explained, PerSample, Scored, Scorer, score_safely
from molrl.rewards.wrapping import ReadOnce, explanation, part_names, parts_of, sharing


@dataclass(frozen=True, kw_only=True)
class Term:
    """One part of a combination.

    Attributes:
        scorer: measures.
        weight: not 0.
        threshold: below it the whole has its floor; null for none. It is of the part's value before its weight.
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
    """One value made of several, all of one sample, worked out together so that its bonds are read once.

    In this order: a part that could not be scored makes the whole NaN, never zero; a part that calls the sample bad or
    is below its threshold gives the whole its floor, with that reason. All parts are always asked, so that they can be
    reported. The order of the terms changes nothing but that of the report.
    """

    terms: Mapping[str, Term]

    def __post_init__(self) -> None:
        if not self.terms:
            raise ValueError("terms: got none, need at least one")
        if odd := [name for name in self.terms if not str(name).replace("_", "").isalnum()]:
            raise ValueError(f"terms: got the name {odd[0]!r}; letters, digits and _ are allowed")
        self.asked  # noqa: B018  # there before this one becomes a part of another, which then shares its readers

    @cached_property
    def readers(self) -> dict[BondReader, ReadOnce]:
        """What the scorers share."""
        return {}

    @cached_property
    def asked(self) -> Mapping[str, Scorer[Any]]:
        """The scorers, with shared readers."""
        return {name: sharing(term.scorer, self.readers) for name, term in self.terms.items()}

    @abstractmethod
    def worst(self) -> float:
        """The floor."""

    @abstractmethod
    def combined(self, values: Mapping[str, float]) -> float:
        """The whole from the values of sound parts."""

    @property
    def inner(self) -> tuple[Scorer[Any], ...]:
        """What is wrapped."""
        return tuple(term.scorer for term in self.terms.values())

    @property
    def parts(self) -> tuple[str, ...]:
        """The columns of the report: the terms and, with a dot, their own parts."""
        return part_names({name: term.scorer for name, term in self.terms.items()})

    def score_one(self, sample: Any, /) -> Scored:
        try:
            scored = {name: score_safely(scorer, sample) for name, scorer in self.asked.items()}
        finally:
            for reader in self.readers.values():
                reader.forget()
        return Explained(*self.result(scored), explanation(self.parts, scored))

    def explain(self, sample: Any, /) -> dict[str, float]:
        """The value of each part before its weight; NaN where it has none or the sample is bad."""
        return dict(parts_of(self.score_one(sample)))

    def result(self, scored: Mapping[str, Scored]) -> Scored:
        """The whole and its reason."""
        if lost := {name: reason for name, (value, reason) in scored.items() if math.isnan(value)}:
            return Scored(math.nan, joint(lost, len(scored)))
        if bad := {name: reason for name, (_, reason) in scored.items() if reason}:
            return Scored(self.worst(), joint(bad, len(scored)))
        values = {name: value for name, (value, _) in scored.items()}
        low = {
            name: f"below threshold: {values[name]:.4g}, at least {term.threshold:g}"
            for name, term in self.terms.items()
            if term.threshold is not None and values[name] < term.threshold
        }
        return Scored(self.worst(), joint(low, len(scored) + 1)) if low else Scored(self.combined(values))


@dataclass(frozen=True, kw_only=True)
class WeightedSum(Combination):
    """sum_i w_i r_i; weights may be negative. `floor`, for bad samples, should be at most the least it can come to."""

    floor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.floor):
            raise ValueError(f"floor: got {self.floor}, need a finite number")

    def worst(self) -> float:
        return self.floor

    def combined(self, values: Mapping[str, float]) -> float:
        return math.fsum(term.weight * values[name] for name, term in self.terms.items())


@dataclass(frozen=True, kw_only=True)
class WeightedProduct(Combination):
    """(prod_i r_i^w_i)^(1 / sum_i w_i), the weighted geometric mean: 0 where any part is 0; 0 for a bad sample.

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

    def combined(self, values: Mapping[str, float]) -> float:
        for name, value in values.items():
            if value < 0:
                raise ValueError(f"{name} is {value:.4g}, a product needs parts of at least 0: wrap it in Desirability")
        if min(values.values()) == 0:
            return 0.0
        weights = math.fsum(term.weight for term in self.terms.values())
        return math.exp(math.fsum(term.weight * math.log(values[name]) for name, term in self.terms.items()) / weights)


def joint(reasons: Mapping[str, str], parts: int) -> str:
    """The reasons of some parts as one, each with the parts it is of unless it is of all."""
    by_reason: dict[str, list[str]] = {}
    for name in sorted(reasons):
        by_reason.setdefault(reasons[name], []).append(name)
    return "; ".join(
        reason if len(names) == parts else f"{reason} ({', '.join(names)})"
        for reason, names in sorted(by_reason.items())
    )
