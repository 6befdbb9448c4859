"""A task: a policy, what it is asked for, and how its finished samples are judged."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context
from molrl.noise import Key
from molrl.policy import Policy
from molrl.trajectory import Trajectory

Metrics = dict[str, float]
CPU = torch.device("cpu")


class Reward(Protocol):
    """Finished samples in, one float each, in order; NaN: this one could not be scored (it is never trained on)."""

    def __call__(self, samples: Sequence[Any], /) -> Float[Tensor, " b"]:
        """A bad sample has the reward's stated floor."""
        ...


class Domain(Protocol):
    """What the trainers need to know of molecules, shapes or images: nothing but this."""

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """Conditions of the samples with these indices: sizes, classes, prompts."""
        ...

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """Shape of one sample's state."""
        ...

    def decode(self, x0: Float[Tensor, "b ..."], context: Context) -> Sequence[Any]:
        """Finished samples from clean states."""
        ...

    def measure(self, samples: Sequence[Any]) -> Mapping[str, float]:
        """Held-out metrics: shown and logged, never optimised."""
        ...

    def groups(self, context: Context) -> Sequence[int]:
        """A number per sample; samples with equal numbers were asked for the same thing."""
        ...


@dataclass(frozen=True)
class Rollouts:
    """A scored rollout.

    Attributes:
        trajectory: states and log-probabilities.
        samples: finished samples.
        rewards: float32 [b], NaN where a sample could not be scored.
        seconds: time spent in the rollout and in the reward.
    """

    trajectory: Trajectory
    samples: Sequence[Any]
    rewards: Float[Tensor, " b"]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Task:
    """Policy, domain and reward.

    Attributes:
        name: what reports call it.
        device: of the policy and its states.
        value_network: makes a network V(x_t, t, context) -> [b] of the state's symmetries, for the algorithms that
            learn a value function; None: the task has none to offer.
        data: draws clean states and their context, for the algorithms that learn from real samples as well.
    """

    name: str
    policy: Policy
    domain: Domain
    reward: Reward
    device: torch.device = CPU
    value_network: Callable[[], nn.Module] | None = None
    data: Callable[[Sequence[int], Key], tuple[Tensor, Context]] | None = None

    def rollout(self, samples: Sequence[int], key: Key, group_size: int = 1) -> Rollouts:
        """Sample, decode and score; the result for a sample index does not depend on the others in the batch.

        Samples i with the same i // group_size are asked for the same thing.
        """
        start = time.perf_counter()
        context = self.domain.draw_context([sample // group_size for sample in samples], key)
        shape = self.domain.state_shape(context)
        context = {name: value.to(self.device) for name, value in context.items()}
        trajectory = self.policy.rollout(context, lambda i: key.normal(samples, i + 1, shape).to(self.device))
        finished = self.domain.decode(trajectory.final, context)
        sampled = time.perf_counter()
        rewards = checked(self.reward(finished), len(finished)).to(self.device)
        scored = time.perf_counter()
        return Rollouts(trajectory, finished, rewards, {"rollout": sampled - start, "reward": scored - sampled})


@contextlib.contextmanager
def opened(reward: Any) -> Iterator[None]:
    """Start a reward that has workers, and stop them whatever happens."""
    if hasattr(reward, "start"):
        reward.start()
    try:
        yield
    finally:
        if hasattr(reward, "close"):
            reward.close()


def checked(rewards: Tensor, count: int) -> Float[Tensor, " b"]:
    """The rewards as float32, infinities as NaN; a wrong shape stops at once."""
    if not isinstance(rewards, Tensor) or rewards.shape != (count,):
        got = tuple(rewards.shape) if isinstance(rewards, Tensor) else type(rewards).__name__
        raise ValueError(f"reward: got {got}, expected a tensor of shape ({count},), one number per sample")
    rewards = rewards.detach().float()
    return torch.where(rewards.isfinite(), rewards, torch.nan)
