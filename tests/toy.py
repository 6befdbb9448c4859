"""Small problems with known answers: exact denoisers, an affine policy that can be trained, numbers as samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from molrl.algos import Learner
from molrl.gaussian import Context, Euclidean, MaskedPoints
from molrl.noise import Key
from molrl.policy import Policy
from molrl.samplers import DDIM, Denoiser
from molrl.schedule import Cosine, Schedule, alpha, sigma
from molrl.task import Task

BASE_MEAN, BASE_VARIANCE = 0.5, 0.49  # the linear-Gaussian oracle


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
        apart = points - a * means
        share = (weights.log() - apart**2 / (2 * spread) - spread.log() / 2).softmax(-1)
        return (share * s * apart / spread).sum(-1)


class AffineDenoiser(nn.Module):
    """The exact noise of the base, plus a trained affine move of every step's mean in units of the step's std.

    mean_k(x) = base mean_k(x) + std_k (slope_k x + shift_k), so that the gradient has one scale along the chain.
    """

    def __init__(self, sampler: DDIM, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.sampler = sampler
        self.base = ExactDenoiser(sampler.schedule)
        self.slope = nn.Parameter(torch.zeros(sampler.num_steps, dtype=dtype))
        self.shift = nn.Parameter(torch.zeros(sampler.num_steps, dtype=dtype))

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        step = ((1 - t) * self.sampler.num_steps).round().long()
        rows = (-1, *[1] * (x.dim() - 1))
        end = self.slope.new_zeros(1)  # the clean estimate after the last step stays the base's
        slope, shift = (torch.cat([p, end])[step].view(rows) for p in (self.slope, self.shift))
        unit = torch.cat([self.sampler.std / self.sampler.eps_coef, torch.zeros(1, dtype=torch.float64)])
        return self.base(x, t, context) + unit.to(x.dtype)[step].view(rows) * (slope * x + shift)

    def moments(self) -> tuple[float, float]:
        """Exact mean and variance of the end of the chain."""
        sampler, mean, variance = self.sampler, 0.0, 1.0
        for k in range(sampler.num_steps):
            x = torch.tensor([[0.0], [1.0]], dtype=self.slope.dtype)
            with torch.no_grad():
                moved = sampler.transition(self, x, torch.full((2,), k), {}).mean.double().flatten()
            offset, factor = moved[0].item(), (moved[1] - moved[0]).item()
            mean = factor * mean + offset
            variance = factor**2 * variance + sampler.std[k].item() ** 2
        return mean, variance


@dataclass(frozen=True)
class Numbers:
    """Samples are points of `dims` numbers; nothing is asked for."""

    dims: int = 1

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        return {"sample": torch.tensor(list(samples))}

    def state_shape(self, context: Context) -> tuple[int, ...]:
        return (self.dims,)

    def decode(self, x0: Tensor, context: Context) -> Sequence[Any]:
        return list(x0)

    def measure(self, samples: Sequence[Any]) -> dict[str, float]:
        return {"mean": torch.stack(list(samples)).mean().item()}

    def groups(self, context: Context) -> Sequence[int]:
        return [0] * len(context["sample"])


@dataclass(frozen=True)
class Clouds:
    """Samples are the real rows of padded points: `sizes` in turn, padded to `width`."""

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


def chain(num_steps: int = 10, eta: float = 1.0) -> DDIM:
    """The oracle's sampler."""
    return DDIM(schedule=Cosine(), num_steps=num_steps, space=Euclidean(), eta=eta)


def quadratic(samples: Sequence[Tensor]) -> Tensor:
    """-|x - 2|^2 / 2."""
    return -(torch.stack(list(samples)) - 2).square().sum(1) / 2


def expected_quadratic(mean: float, variance: float) -> float:
    """E[-(x - 2)^2 / 2] of a normal variable."""
    return -((mean - 2) ** 2 + variance) / 2


class Values(nn.Module):
    """V(x_t, t): a small network of a number and its place on the chain."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        values: Tensor = self.layers(torch.cat([x[:, :1], t[:, None]], 1))
        return values.squeeze(1)


def lifted(samples: Sequence[Tensor]) -> Tensor:
    """The quadratic reward, moved up to where hardly any sample has less than nothing."""
    return quadratic(samples) + 5


lifted.differentiable = True  # type: ignore[attr-defined]


def number_task(reward: Callable[[Sequence[Any]], Tensor] = quadratic, dims: int = 1) -> Task:
    """The oracle as a task, with a denoiser of its own to train."""
    sampler = chain()
    policy = Policy(AffineDenoiser(sampler), sampler)
    return Task("numbers", policy, Numbers(dims), reward, value_network=Values)


def cloud_task(reward: Callable[[Sequence[Any]], Tensor], sizes: tuple[int, ...] = (4, 2, 3), width: int = 4) -> Task:
    """Padded, centred clouds under an exact denoiser."""
    sampler = DDIM(schedule=Cosine(), num_steps=10, space=MaskedPoints())
    exact = ExactDenoiser(sampler.schedule, means=(0.0,))
    return Task("clouds", Policy(exact, sampler), Clouds(sizes, width, channels=5), reward)


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learner(task: Task | Policy, reference: Policy | None = None) -> Learner:
    """A task, or the oracle's with another policy, beside a reference (itself by default); no modules."""
    task = task if isinstance(task, Task) else Task("numbers", task, Numbers(), quadratic)
    return Learner(task, reference or task.policy)


def always(eps: Tensor) -> Denoiser:
    """A denoiser that says the same of everything."""

    def denoiser(x: Tensor, t: Tensor, context: Context) -> Tensor:
        return eps

    return denoiser


def scored(rewards: Tensor) -> Callable[[Sequence[Any]], Tensor]:
    """A reward that gives the same answer to every question."""

    def reward(samples: Sequence[Any]) -> Tensor:
        return rewards

    return reward


def unheard(*_: object) -> None:
    """Takes a report and forgets it."""
