"""Algorithms that move a diffusion policy toward a reward: one paper, one file.

Every algorithm is a frozen dataclass with two methods. `collect` turns fresh rollouts into a table of rows to learn
from; `loss` is what is minimised on some of these rows.
"""

from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.noise import Key
from molrl.policy import Policy
from molrl.task import Metrics, Rollouts, Task

RowMetrics = dict[str, Tensor]
"""Numbers [m] about the rows of a batch, to be averaged and logged: `log_ratio` in nats, `clipped`, and others."""


class Table(Protocol):
    """A table of rows to learn from, in any order."""

    @property
    def step(self) -> Int[Tensor, " m"]:
        """Return the grid point that each row belongs to: 0 is the prior."""
        ...

    @property
    def sample(self) -> Int[Tensor, " m"]:
        """Return the sample that each row belongs to, counted within this process."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Self:
        """Return some of the rows."""
        ...


@dataclass(frozen=True)
class Learner:
    """The state of training: the task's policy, the pretrained one, and the modules of the algorithm.

    Attributes:
        task: has the policy in training.
        reference: the pretrained policy.
        modules: value networks (optimised beside the policy) and running statistics; checkpoints hold all of them.
    """

    task: Task
    reference: Policy
    modules: nn.ModuleDict = field(default_factory=nn.ModuleDict)

    @property
    def policy(self) -> Policy:
        """Return the policy in training."""
        return self.task.policy


T = TypeVar("T", bound=Table, covariant=True)


@dataclass(frozen=True)
class Collected(Generic[T]):
    """The data that one round learns from.

    Attributes:
        table: rows to learn from, those of this process's samples.
        row_order: sort key of each row; ties are sorted by sample. The rows of all processes, sorted by it, have the
            order that they would have in one process.
        rollouts: where the rows came from; the loop reports on these.
        behaviour: the policy that made the rollouts.
        reward_queries: samples that the reward has scored to make the table, for all processes.
        seconds_reward: time spent in the reward beyond the scoring of the rollouts.
        metrics: what the algorithm logs.
        queries_per_row: samples that the reward scores again for one row of the table in each pass over it.
    """

    table: T
    row_order: Int[Tensor, " m"]
    rollouts: Rollouts
    behaviour: Policy
    reward_queries: int
    seconds_reward: float = 0.0
    metrics: Metrics = field(default_factory=dict)
    queries_per_row: int = 0


class Algorithm(Protocol):
    """The interface of a fine-tuning algorithm.

    One that has no use for the densities of reverse steps says so with `needs_densities = False`, and may then run on a
    deterministic chain (eta = 0). One that learns from finished samples alone says `needs_steps = False` as well, and
    may run on a chain of second order.
    """

    def modules(self, task: Task) -> nn.ModuleDict:
        """Return what is learned or remembered besides the policy.

        Raises:
            ValueError: the task lacks something that the settings need.
        """
        ...

    def learning_rate(self, name: str) -> float:
        """Return the learning rate of one of these modules."""
        ...

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Table]:
        """Roll out, score, and make the table to learn from."""
        ...

    def loss(self, learner: Learner, batch: Any) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute the loss, a mean over the rows that is minimised, and metrics of each row."""
        ...
