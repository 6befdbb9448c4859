"""What a reward says of a batch: one value for each sample, and the reason behind every floor and every gap.

Worker processes import this module, so it must not import torch: that would cost each of them seconds and 200 MB.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, Self, TypeAlias, TypeVar

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    Values: TypeAlias = Float[Tensor, " b"]
else:
    Values = Any

Sample = TypeVar("Sample")
Judged = TypeVar("Judged", contravariant=True)

LARGEST_FLOAT32 = 3.4028235e38


class Scored(NamedTuple):
    """The value of one sample.

    Attributes:
        value: a finite number, or NaN when the sample could not be scored.
        reason: "" for a good sample. With a finite value: why the sample is bad and got the floor. With NaN: what went
            wrong. Written "category" or "category: detail".
    """

    value: float
    reason: str = ""


class Explained(Scored):
    """The value of one sample with those that it was made of: NaN where a part has none or has its floor."""

    parts: Mapping[str, float]

    def __new__(cls, value: float, reason: str = "", parts: Mapping[str, float] | None = None) -> Self:
        self = super().__new__(cls, value, reason)
        self.parts = parts or {}
        return self


@dataclass(frozen=True)
class Scores:
    """The values of a batch, in its order.

    A floor is the sample's fault and should be learned away; NaN ("timeout", "crash", "error", "non-finite") is a lost
    measurement and belongs in no mean and no gradient.
    """

    scored: tuple[Scored, ...]

    @property
    def values(self) -> list[float]:
        return [value for value, _ in self.scored]

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason in self.scored]

    def tensor(self) -> Values:
        """The values as float32."""
        import torch

        return torch.tensor(self.values, dtype=torch.float32)

    def counts(self) -> dict[str, int]:
        """How many samples each category of reason has, most frequent first; good samples are "ok"."""
        return dict(Counter(category(reason) for reason in self.reasons).most_common())


class Scorer(Protocol[Judged]):
    """Whatever scores one sample at a time; to run in a worker process it must be picklable."""

    def score_one(self, sample: Judged, /) -> Scored:
        """The value of one sample; may raise, which is a lost measurement."""
        ...


class PerSample(ABC, Generic[Sample]):
    """A reward that looks at one sample at a time: `score_one` is the science, the batch forms follow."""

    @abstractmethod
    def score_one(self, sample: Sample, /) -> Scored:
        """The value of one sample; may raise, which is a lost measurement."""

    def score(self, samples: Sequence[Sample]) -> Scores:
        """Values and reasons, in the order of the samples, computed in this process."""
        return scores(score_safely(self, sample) for sample in samples)

    def __call__(self, samples: Sequence[Sample]) -> Values:
        """One float32 for each sample; NaN where a sample could not be scored."""
        return self.score(samples).tensor()


def scores(scored: Iterable[Scored]) -> Scores:
    """Gather the values of single samples."""
    return Scores(tuple(scored))


def score_safely(scorer: Scorer[Sample], sample: Sample) -> Scored:
    """What the judge says, with exceptions and non-finite numbers turned into NaN and a reason."""
    try:
        judged = scorer.score_one(sample)
        value, reason = judged
        value = float(value)
    except Exception as error:  # whatever a plug-in raises, the other samples keep their values
        return Scored(math.nan, f"error: {type(error).__name__}: {error}".rstrip(": "))
    if not abs(value) <= LARGEST_FLOAT32:
        value, reason = math.nan, reason or f"non-finite: {value}"
    return Explained(value, reason, judged.parts) if isinstance(judged, Explained) else Scored(value, reason)


def category(reason: str) -> str:
    """The part of a reason that is worth counting; "ok" for none."""
    return reason.partition(":")[0] or "ok"


def isolated(scorer: Any) -> str:
    """The name of a scorer, this one or one that it wraps, that must not run in this process (`isolated`); or ""."""
    if getattr(scorer, "isolated", False):
        return type(scorer).__name__
    return next(filter(None, map(isolated, getattr(scorer, "inner", ()))), "")
