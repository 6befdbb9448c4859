"""Measured numbers as desirabilities in [0, 1] (Derringer and Suich 1980, Journal of Quality Technology 12, 214)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from molrl.rewards.scores import Explained, PerSample, Scored, Scorer, gradient_of, has_gradient, is_discrete
from molrl.rewards.wrapping import explanation, part_names, parts_of

Goal: TypeAlias = Literal["larger", "smaller", "window"]
GOALS = ("larger", "smaller", "window")


@dataclass(frozen=True, kw_only=True)
class Desirability(PerSample[Any]):
    """The desirability in [0, 1] of a scorer's value; 0 for a bad sample, whatever floor the scorer has.

    Ranges are given, not taken from running statistics: the reward of a sample must not depend on those drawn before.

    Attributes:
        scorer: gives the value.
        low, high: the range. Larger is better: 0 up to `low`, 1 from `high`. Smaller is better: 1 up to `low`, 0 from
            `high`. Window: 1 from `low` to `high`, a single best value if these are equal.
        goal: "larger", "smaller" or "window".
        slack: distance outside a window at which the desirability reaches 0; null for the other goals.
        power: exponent of the linear ramp: values between the limits count less above 1, more below 1.
    """

    scorer: Scorer[Any]
    low: float
    high: float
    goal: Goal
    slack: float | None = None
    power: float = 1.0
    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise ValueError(f"goal: got {self.goal!r}, allowed are {', '.join(GOALS)}")
        window = self.goal == "window"
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"desirability: got low {self.low}, high {self.high}; both must be finite")
        if not (self.low <= self.high if window else self.low < self.high):
            rule = "must not exceed" if window else "must be smaller than"
            raise ValueError(f"desirability: got low {self.low}, high {self.high}; low {rule} high")
        if window and (self.slack is None or not 0 < self.slack < math.inf):
            raise ValueError(f"slack: got {self.slack}, a window needs a positive number")
        if not window and self.slack is not None:
            raise ValueError(f"slack: got {self.slack}, only a window has one")
        if not 0 < self.power < math.inf:
            raise ValueError(f"power: got {self.power}, need a positive number")

    @property
    def inner(self) -> tuple[Scorer[Any], ...]:
        """Return the scorer that is wrapped."""
        return (self.scorer,)

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of what `explain` gives: the measured value and its own parts."""
        return part_names({"measured": self.scorer})

    def score_one(self, sample: Any, /) -> Scored:
        measured = self.scorer.score_one(sample)
        value, reason = measured
        parts = explanation(self.parts, {"measured": measured})
        if not math.isfinite(value):
            return Explained(math.nan, reason or f"non-finite: {value}", parts)
        if reason:
            return Explained(self.floor, reason, parts)
        gradient = gradient_of(measured)
        return Explained(self.desirable(value), "", parts, None if gradient is None else self.slope(value) * gradient)

    def explain(self, sample: Any, /) -> dict[str, float]:
        """Return the measured value and its parts; NaN where there is no measurement."""
        return dict(parts_of(self.score_one(sample)))

    @property
    def has_gradient(self) -> bool:
        """Tell whether the scorer has a gradient."""
        return has_gradient(self.scorer)

    @property
    def is_discrete(self) -> bool:
        """Tell whether the scorer is discrete."""
        return is_discrete(self.scorer)

    def desirable(self, value: float) -> float:
        """Return the desirability of a value: the linear ramp between the limits, raised to `power`."""
        return float(min(1.0, max(0.0, self.ramp(value))) ** self.power)

    def ramp(self, value: float) -> float:
        """Return the linear ramp, which goes on beyond 0 and 1."""
        if self.slack is not None:
            return 1.0 - max(self.low - value, value - self.high, 0.0) / self.slack
        ramp = (value - self.low) / (self.high - self.low)
        return 1.0 - ramp if self.goal == "smaller" else ramp

    def slope(self, value: float) -> float:
        """Return the derivative of the desirability by the value; 0 at the ends of the ramp and beyond them."""
        ramp = self.ramp(value)
        if not 0.0 < ramp < 1.0:
            return 0.0
        if self.slack is not None:
            rise = (1.0 if value < self.low else -1.0) / self.slack
        else:
            rise = (-1.0 if self.goal == "smaller" else 1.0) / (self.high - self.low)
        return float(self.power * ramp ** (self.power - 1.0) * rise)
