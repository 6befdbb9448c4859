"""A limit on how often a reward may be asked, for rewards that cost money or days."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from molrl.rewards.scores import Scores, Values


class Scoring(Protocol):
    """A reward that gives reasons: `Pooled`, or any single scorer."""

    def score(self, samples: Sequence[Any]) -> Scores:
        """Values and reasons, in the order of the samples."""
        ...


class BudgetError(RuntimeError):
    """A reward has been asked as often as it may."""


@dataclass(eq=False)
class Capped:
    """A reward that may be asked for `calls` samples in all and then raises `BudgetError`.

    It stops the run instead of giving NaN: a reward that is gone is no lost measurement, and training on would only
    wait for the limit of those. A batch that goes over the limit is not begun, so nothing is paid for in vain, and
    what was trained until then is in the run's checkpoint. Every sample counts, also a bad or repeated one and those
    of the evaluations. The count belongs to the process: a run that is resumed starts with all its calls.
    """

    reward: Scoring
    calls: int

    def __post_init__(self) -> None:
        if self.calls < 1:
            raise ValueError(f"calls: got {self.calls}, need at least 1")
        self.spent = 0

    def __call__(self, samples: Sequence[Any]) -> Values:
        """One float32 for each sample; NaN where a sample could not be scored."""
        return self.score(samples).tensor()

    def score(self, samples: Sequence[Any]) -> Scores:
        """Values and reasons, in the order of the samples."""
        if self.spent + len(samples) > self.calls:
            raise BudgetError(
                f"the reward may be asked for {self.calls} samples (calls): {self.spent} are spent, "
                f"{len(samples)} more were asked for"
            )
        self.spent += len(samples)
        return self.reward.score(samples)

    def start(self) -> None:
        """Start the reward's workers, if it has any."""
        getattr(self.reward, "start", lambda: None)()

    def close(self) -> None:
        """End the reward's workers, if it has any."""
        getattr(self.reward, "close", lambda: None)()
