"""The interface of the methods of guided sampling, and the samples that they return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from molrl.noise import Key
from molrl.task import Task


@dataclass(frozen=True)
class GuidedSamples:
    """Finished samples and what they took.

    Attributes:
        samples: one for each index.
        reward_queries: samples and clean estimates that the reward has scored.
        facts: what the method reports of the draw, by a name in words: a divergence in nats, an effective sample size.
    """

    samples: list[Any]
    reward_queries: int
    facts: Mapping[str, float] = field(default_factory=dict)


class Guidance(Protocol):
    """A way of drawing samples that queries the reward of the task."""

    def draw(self, task: Task, samples: Sequence[int], key: Key) -> GuidedSamples:
        """Draw one finished sample for each index; it does not depend on the others in the batch."""
        ...
