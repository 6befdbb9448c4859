"""Measured numbers as desirabilities in [0, 1] (Derringer and Suich 1980, Journal of Quality Technology 12, 214)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from molrl.rewards.scores import Explained, PerSample, Scored, Scorer
from molrl.rewards.wrapping import explanation, part_names, parts_of

Kind: TypeAlias = Literal["larger", "smaller", "window"]
KINDS = ("larger", "smaller", "window")


@dataclass(frozen=True, kw_only=True)
class Desirability(PerSample[Any]):
    """How desirable what a scorer measures is, in [0, 1]; 0 for a bad sample, whatever floor the scorer has.

    Ranges are given, not taken from running statistics: the reward of a molecule must not depend on what was drawn
    before it.

    Attributes:
        scorer: measures.
        low, high: the range. Larger is better: 0 up to `low`, 1 from `high`. Smaller is better: 1 up to `low`, 0 from
            `high`. Window: 1 from `low` to `high`, a single best value if these are equal.
        kind: "larger", "smaller" or "window".
        slack: how far outside a window the desirability has fallen to 0; null for the other kinds.
        power: bends the slope: above 1 most of the way to the goal counts little, below 1 it counts much.
    """

    scorer: Scorer[Any]
    low: float
    high: float
    kind: Kind
    slack: float | None = None
    power: float = 1.0
    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: got {self.kind!r}, allowed are {', '.join(KINDS)}")
        window = self.kind == "window"
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
        """What is wrapped."""
        return (self.scorer,)

    @property
    def parts(self) -> tuple[str, ...]:
        """What `explain` gives: the number that was measured."""
        return part_names({"measured": self.scorer})

    def score_one(self, sample: Any, /) -> Scored:
        measured = self.scorer.score_one(sample)
        value, reason = measured
        parts = explanation(self.parts, {"measured": measured})
        if not math.isfinite(value):
            return Explained(math.nan, reason or f"non-finite: {value}", parts)
        return Explained(self.floor if reason else self.desirable(value), reason, parts)

    def explain(self, sample: Any, /) -> dict[str, float]:
        """What was measured; NaN where there is no measurement."""
        return dict(parts_of(self.score_one(sample)))

    def desirable(self, value: float) -> float:
        """The share of the way from worthless to good, to the power."""
        if self.slack is not None:
            outside = max(self.low - value, value - self.high, 0.0)
            share = 1.0 - outside / self.slack
        else:
            share = (value - self.low) / (self.high - self.low)
            share = 1.0 - share if self.kind == "smaller" else share
        return float(min(1.0, max(0.0, share)) ** self.power)
