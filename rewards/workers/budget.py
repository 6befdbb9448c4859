"""A limit on the number of samples that a reward is asked to score, for rewards that cost money or days."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from molrl.rewards.scores import Scores, Values


class BatchScorer(Protocol):
    """A reward that gives reasons with its values: `Pooled`, or any single scorer."""

    def score(self, samples: Sequence[Any]) -> Scores:
        """Return values and reasons in the order of the samples."""
        ...


class BudgetError(RuntimeError):
    """The error of a reward whose budget of calls is spent."""


@dataclass(eq=False)
class Capped:
    """A reward that scores at most `calls` samples in all and then raises `BudgetError`.

    It stops the run instead of giving NaN: a spent budget is no lost measurement, and training on would only run into
    the limit on those. A batch that exceeds the budget is not begun, so nothing is paid for in vain, and what was
    trained until then is in the run's checkpoint. Every sample counts, also a bad or repeated one and those of the
    evaluations. The count belongs to the process: a run that is resumed starts with all its calls.
    """

    reward: BatchScorer
    calls: int

    def __post_init__(self) -> None:
        if self.calls < 1:
            raise ValueError(f"calls: got {self.calls}, need at least 1")
        self.spent = 0

    @property
    def inner(self) -> tuple[BatchScorer, ...]:
        """Return the reward that is wrapped."""
        return (self.reward,)

    def __call__(self, samples: Sequence[Any]) -> Values:
        """Return one float32 for each sample; NaN where a sample could not be scored."""
        return self.score(samples).tensor()

    def score(self, samples: Sequence[Any]) -> Scores:
        """Return values and reasons in the order of the samples."""
        if self.spent + len(samples) > self.calls:
            raise BudgetError(
                f"the reward's budget is {self.calls} samples (calls): {self.spent} are spent, "
                f"a batch of {len(samples)} exceeds it"
            )
        self.spent += len(samples)
        return self.reward.score(samples)

    def start(self) -> None:
        """Start the reward's workers, if it has any."""
        getattr(self.reward, "start", lambda: None)()

    def close(self) -> None:
        """End the reward's workers, if it has any."""
        getattr(self.reward, "close", lambda: None)()
