"""Algorithms that move a diffusion policy toward a reward: one paper, one file.

Every algorithm is a frozen dataclass with two verbs. `collect` makes a table of reverse steps from fresh rollouts;
`loss` says how good a policy is on some rows of it.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from molrl.noise import Key
from molrl.policy import Policy
from molrl.task import Metrics, Rollouts, Task
from molrl.trajectory import Transitions

__all__ = ["Algorithm", "Collected"]


@dataclass(frozen=True)
class Collected:
    """What one iteration learns from.

    Attributes:
        table: reverse steps.
        rollouts: where they came from; the loop reports on these.
        reward_queries: how often the reward was asked.
        seconds_reward: time spent in it beyond the scoring of the rollouts.
        metrics: what the algorithm wants logged.
    """

    table: Transitions
    rollouts: Rollouts
    reward_queries: int
    seconds_reward: float
    metrics: Metrics


class Algorithm(Protocol):
    """The smallest interface that every method of the field fits."""

    def collect(self, task: Task, samples: list[int], key: Key) -> Collected:
        """Roll out, score, and lay out the reverse steps to learn from."""
        ...

    def loss(self, policy: Policy, reference: Policy, batch: Transitions) -> tuple[Float[Tensor, ""], dict[str, Any]]:
        """A scalar to be minimised, and what to log about it."""
        ...
