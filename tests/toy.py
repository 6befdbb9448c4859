"""Small tasks for tests, on the oracle's linear-Gaussian problem and on padded clouds of points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from molrl.algos import Learner
from molrl.algos.held_out import HeldOut
from molrl.gaussian import Context, MaskedPoints
from molrl.noise import Key
from molrl.oracle.chain import Chain, Moments
from molrl.oracle.linear_gaussian import (
    BASE_MEAN,
    BASE_VARIANCE,
    QUADRATIC,
    ParabolaReward,
    Points,
    linear_gaussian_task,
)
from molrl.policy import Policy
from molrl.samplers import DDIM, Denoiser
from molrl.schedule import Cosine, Schedule, alpha, sigma
from molrl.task import Task

quadratic = ParabolaReward(QUADRATIC)
lifted = ParabolaReward(QUADRATIC, lift=5.0)  # hardly any sample has less than nothing


@dataclass(frozen=True)
class ExactDenoiser:
    """E[eps | x_t] for data whose entries are independent draws of sum_k weights_k N(means_k, variances_k)."""

    schedule: Schedule
    weights: tuple[float, ...] = (1.0,)
    means: tuple[float, ...] = (BASE_MEAN,)
    variances: tuple[float, ...] = (BASE_VARIANCE,)

    def __call__(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        log_snr = self.schedule.log_snr(t).view(-1, *[1] * x.dim())  # one axis more, for the components
        a, s, points = alpha(log_snr), sigma(log_snr), x.unsqueeze(-1)
        weights, means, variances = (x.new_tensor(v) for v in (self.weights, self.means, self.variances))
        spread = a**2 * variances + s**2
        difference = points - a * means
        posterior = (weights.log() - difference**2 / (2 * spread) - spread.log() / 2).softmax(-1)
        return (posterior * s * difference / spread).sum(-1)


@dataclass(frozen=True)
class Clouds:
    """A decoder whose samples are the real rows of padded points: `sizes` in turn, padded to `width`."""

    sizes: tuple[int, ...]
    width: int
    channels: int

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        sizes = torch.tensor([self.sizes[i % len(self.sizes)] for i in samples])
        return {"mask": torch.arange(self.width) < sizes[:, None]}

    def state_shape(self, context: Context) -> tuple[int, ...]:
        return (self.width, self.channels)

    def decode(self, x0: Tensor, context: Context) -> Sequence[Any]:
        return [state[real] for state, real in zip(x0, context["mask"], strict=True)]

    def measure(self, samples: Sequence[Any]) -> dict[str, float]:
        return {}

    def groups(self, context: Context) -> Sequence[int]:
        return context["mask"].sum(1).tolist()


def number_task(reward: Callable[[Sequence[Any]], Tensor] = quadratic, dims: int = 1) -> Task:
    """Return the linear-Gaussian problem, with a denoiser to train."""
    return linear_gaussian_task(reward, dims=dims)


def cloud_task(reward: Callable[[Sequence[Any]], Tensor], sizes: tuple[int, ...] = (4, 2, 3), width: int = 4) -> Task:
    """Return a task of padded, centred points under an exact denoiser."""
    sampler = DDIM(schedule=Cosine(), num_steps=10, space=MaskedPoints())
    exact = ExactDenoiser(sampler.schedule, means=(0.0,))
    return Task("clouds", Policy(exact, sampler), Clouds(sizes, width, channels=5), reward)


def last_state(policy: Policy) -> Moments:
    """Compute the exact mean and variance at the end of a linear-Gaussian policy's chain, before the decode."""
    return Chain.from_policy(policy, next(iter(policy.denoiser.parameters())).dtype).states()[-1]  # type: ignore[attr-defined]


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Draw standard normal numbers in double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learner(task: Task | Policy, reference: Policy | None = None) -> Learner:
    """Return a learner without modules: a task, or a policy, beside a reference (itself by default)."""
    task = task if isinstance(task, Task) else Task("numbers", task, Points(), quadratic)
    return Learner(task, reference or task.policy)


def always(eps: Tensor) -> Denoiser:
    """Return a denoiser that gives the same for every input."""

    def denoiser(x: Tensor, t: Tensor, context: Context) -> Tensor:
        return eps

    return denoiser


UNMEASURED = HeldOut(reward=None, own_judge=False, patience=1, stop=False)


def scored(rewards: Tensor) -> Callable[[Sequence[Any]], Tensor]:
    """Return a reward that gives the same for every batch."""

    def reward(samples: Sequence[Any]) -> Tensor:
        return rewards

    return reward


def unheard(*_: object) -> None:
    """Ignore a report of training."""
