"""The result of a reward: one value for each sample of a batch, and the reason behind every floor and every gap.

Worker processes import this module, so it must not import torch: that would cost each of them seconds and 200 MB.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    Values: TypeAlias = Float[Tensor, " b"]
else:
    Values = Any

Sample = TypeVar("Sample")
Scorable = TypeVar("Scorable", contravariant=True)

MAX_FLOAT32 = 3.4028235e38


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
    """The value of one sample with what is known beside it.

    Attributes:
        parts: that it was made of, which are NaN where a part is lost or has its floor.
        gradient: of the value, by the continuous numbers of the sample, with what is discrete in it held; None: zero,
            or none is known (see `has_gradient`).
    """

    parts: Mapping[str, float]
    gradient: NDArray[np.float64] | None

    def __new__(
        cls,
        value: float,
        reason: str = "",
        parts: Mapping[str, float] | None = None,
        gradient: NDArray[np.float64] | None = None,
    ) -> Self:
        self = super().__new__(cls, value, reason)
        self.parts, self.gradient = parts or {}, gradient
        return self


@dataclass(frozen=True, eq=False)
class Traced(Generic[Sample]):
    """A sample that was decoded from a state with a gradient.

    Attributes:
        sample: without the gradient.
        numbers: the continuous numbers of the sample, such as positions, as a function of the state.
    """

    sample: Sample
    numbers: "Tensor"


@dataclass(frozen=True)
class Scores:
    """The values of a batch, in its order.

    A floor is the sample's fault and should be learned away; NaN ("timeout", "crash", "error", "non-finite") is a lost
    measurement and must not enter a mean or a gradient.
    """

    scored: tuple[Scored, ...]

    @property
    def values(self) -> list[float]:
        return [value for value, _ in self.scored]

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason in self.scored]

    def tensor(self) -> Values:
        """Return the values as a float32 tensor [b]."""
        import torch

        return torch.tensor(self.values, dtype=torch.float32)

    def traced(self, numbers: "Sequence[Tensor]") -> Values:
        """Return r + g . (x - sg(x)) for the numbers x of each sample, which has its value r and its gradient g."""
        import torch

        values = []
        for scored, x in zip(self.scored, numbers, strict=True):
            gradient = gradient_of(scored)
            slope = 0.0 if gradient is None else torch.from_numpy(gradient).to(x)
            values.append((scored.value + ((x - x.detach()) * slope).sum()).float())
        return torch.stack(values) if values else torch.zeros(0)

    def counts(self) -> dict[str, int]:
        """Count the samples by category of reason, most frequent first; good samples are "ok"."""
        return dict(Counter(category(reason) for reason in self.reasons).most_common())


class Scorer(Protocol[Scorable]):
    """An object that scores one sample at a time; to run in a worker process it must be picklable.

    It may state what it scores as an attribute `kind`, the name of a kind of samples; one that wraps others has them
    in `inner` instead. See `reward_kinds`. One whose values come with their gradient says so by `has_gradient = True`;
    one that depends on nothing continuous, so that its gradient is zero, by `is_discrete = True`. One that brings a
    judge along, another reward of the same samples that nothing is trained on, has it as `held_out_reward`.
    """

    def score_one(self, sample: Scorable, /) -> Scored:
        """Return the value of one sample; may raise, which is a lost measurement."""
        ...


class PerSample(ABC, Generic[Sample]):
    """A reward that scores samples one by one: subclasses define `score_one`, the batch methods follow from it."""

    @abstractmethod
    def score_one(self, sample: Sample, /) -> Scored:
        """Return the value of one sample; may raise, which is a lost measurement."""

    def score(self, samples: Sequence[Sample]) -> Scores:
        """Return values and reasons in the order of the samples, computed in this process."""
        return scores(score_safely(self, sample) for sample in samples)

    @property
    def differentiable(self) -> bool:
        """Tell whether the values of traced samples have a gradient."""
        return has_gradient(self)

    def __call__(self, samples: Sequence[Any]) -> Values:
        """Return one float32 for each sample; NaN where a sample could not be scored.

        Those of `Traced` samples have a gradient, where the scorer gives one.
        """
        return values_of(self, self.score, samples)


def has_gradient(scorer: Any) -> bool:
    """Tell whether the values of a scorer come with their gradient."""
    return bool(getattr(scorer, "has_gradient", False))


def is_discrete(scorer: Any) -> bool:
    """Tell whether the values of a scorer depend on nothing continuous."""
    return bool(getattr(scorer, "is_discrete", False))


def held_out_reward(scorer: Any) -> Any:
    """Return the judge that a scorer or, if it has none, the first of those that it wraps brings along; None: none."""
    own = getattr(scorer, "held_out_reward", None)
    parts = map(held_out_reward, getattr(scorer, "inner", ()))
    return own if own is not None else next((judge for judge in parts if judge is not None), None)


def gradient_of(scored: Scored) -> NDArray[np.float64] | None:
    """Return the gradient of a value; None: it is zero."""
    return scored.gradient if isinstance(scored, Explained) else None


def values_of(scorer: Any, score: Callable[[Sequence[Any]], Scores], samples: Sequence[Any]) -> Values:
    """Return the values of samples, with a gradient where these are traced and the scorer gives one."""
    if not samples or not isinstance(samples[0], Traced):
        return score(samples).tensor()
    found = score([sample.sample for sample in samples])
    return found.traced([sample.numbers for sample in samples]) if has_gradient(scorer) else found.tensor()


def scores(scored: Iterable[Scored]) -> Scores:
    """Gather the values of single samples into those of a batch."""
    return Scores(tuple(scored))


def score_safely(scorer: Scorer[Sample], sample: Sample) -> Scored:
    """Score one sample; exceptions and non-finite numbers become NaN with a reason."""
    try:
        scored = scorer.score_one(sample)
        value, reason = scored
        value = float(value)
    except Exception as error:  # whatever a plug-in raises, the other samples keep their values
        return Scored(math.nan, f"error: {type(error).__name__}: {error}".rstrip(": "))
    if not abs(value) <= MAX_FLOAT32:
        value, reason = math.nan, reason or f"non-finite: {value}"
    if not isinstance(scored, Explained):
        return Scored(value, reason)
    return Explained(value, reason, scored.parts, scored.gradient)


def category(reason: str) -> str:
    """Return the category of a reason, the part before its colon; "ok" for none."""
    return reason.partition(":")[0] or "ok"


def isolated(scorer: Any) -> str:
    """Return the name of a scorer, this one or a wrapped one, that needs a process of its own (`isolated`); or ""."""
    if getattr(scorer, "isolated", False):
        return type(scorer).__name__
    return next(filter(None, map(isolated, getattr(scorer, "inner", ()))), "")
