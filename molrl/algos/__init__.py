"""Algorithms that move a diffusion policy toward a reward: one paper, one file.

Every algorithm is a frozen dataclass with two verbs. `collect` makes a table to learn from out of fresh rollouts;
`loss` says how good the policy is on some rows of it.
"""

from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.noise import Key
from molrl.policy import Policy
from molrl.task import Metrics, Rollouts, Task

Facts = dict[str, Tensor]
"""What a loss tells about each row of its batch: `log_ratio` in nats, `clipped`, and whatever else is worth a mean."""


class Table(Protocol):
    """Rows to learn from, in any order; `step` is the grid point each belongs to, `sample` the sample."""

    @property
    def step(self) -> Int[Tensor, " m"]:
        """Grid points: 0 is the prior."""
        ...

    @property
    def sample(self) -> Int[Tensor, " m"]:
        """Which of the samples of this process."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Self:
        """Some of the rows."""
        ...


@dataclass(frozen=True)
class Learner:
    """What is trained: the task's policy, the pretrained one it is compared with, and what the algorithm owns.

    Attributes:
        task: with the policy in training.
        reference: the policy as it was.
        modules: value networks (optimised beside the policy), running statistics; all of it is in the checkpoints.
    """

    task: Task
    reference: Policy
    modules: nn.ModuleDict = field(default_factory=nn.ModuleDict)

    @property
    def policy(self) -> Policy:
        """The policy in training."""
        return self.task.policy


T = TypeVar("T", bound=Table, covariant=True)


@dataclass(frozen=True)
class Collected(Generic[T]):
    """What one round learns from.

    Attributes:
        table: rows to learn from, those of this process's samples.
        row_order: numbers that the rows rise with, and within equal numbers with the sample: so the rows of all
            processes
            have the order they would have in one.
        rollouts: where they came from; the loop reports on these.
        behaviour: the policy that made the rollouts.
        reward_queries: how often the reward was asked, by all processes.
        seconds_reward: time spent in it beyond the scoring of the rollouts.
        metrics: what the algorithm wants logged.
    """

    table: T
    row_order: Int[Tensor, " m"]
    rollouts: Rollouts
    behaviour: Policy
    reward_queries: int
    seconds_reward: float = 0.0
    metrics: Metrics = field(default_factory=dict)


class Algorithm(Protocol):
    """The smallest interface that every method of the field fits."""

    def modules(self, task: Task) -> nn.ModuleDict:
        """What the algorithm learns or remembers besides the policy; refuses a task that it cannot serve."""
        ...

    def learning_rate(self, name: str) -> float:
        """Of one of these modules."""
        ...

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Table]:
        """Roll out, score, and lay out what to learn from."""
        ...

    def loss(self, learner: Learner, batch: Any) -> tuple[Float[Tensor, ""], Facts]:
        """A mean over the rows, to be minimised, and what to tell of each row."""
        ...
