"""K separate modes: what expected reward makes of their weights, and what rewards divided by frequency make of them.

The policy is the exact noise prediction of a mixture of K narrow Gaussians on a ring whose K weights are trained:
w = softmax(logits). A sample of mode k earns r_k, up to how near it is to the centre. The expected reward is largest at
the best mode alone, and where all modes earn the same, nothing holds the weights: chance in the samples moves them, and
what is common is learned faster (Sinha et al. 2026, arXiv:2601.21669). With rewards divided by frequency, and no cap in
the way, the rest is w_k ~ r_k.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.advantages import Standardised
from molrl.algos import Algorithm
from molrl.algos.ddpo import DDPOSF
from molrl.diversity import Diversity
from molrl.diversity.frequencies import InverseFrequency
from molrl.gaussian import Context
from molrl.noise import Key
from molrl.oracle.linear_gaussian import Points, make_sampler
from molrl.oracle.mixture import mixture_noise
from molrl.oracle.trial import ALL_STEPS, UNCLIPPED, Outcome, train
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.task import Task

RADIUS, VARIANCE = 2.0, 0.02  # of the ring of the modes; of each mode
NOISE = 0.1  # of a reward, relative: by the distance from the centre
EVALUATION_SAMPLES = 4000
EVALUATION = 2**62


def centres(count: int) -> Float[Tensor, "k 2"]:
    """Return the centres of the modes, evenly on the ring."""
    angle = torch.arange(count, dtype=torch.float64) * 2 * math.pi / count
    return RADIUS * torch.stack([angle.cos(), angle.sin()], 1)


def nearest_mode(points: Sequence[Tensor], count: int) -> Tensor:
    """Return the mode that each point belongs to."""
    return torch.cdist(torch.stack(list(points)).double(), centres(count)).argmin(1)


class ModeDenoiser(nn.Module):
    """The exact noise of the mixture, whose weights are trained."""

    def __init__(self, sampler: DDIM, count: int) -> None:
        super().__init__()
        self.sampler, self.means = sampler, centres(count)
        self.covariances = VARIANCE * torch.eye(2, dtype=torch.float64).expand(count, 2, 2)
        self.logits = nn.Parameter(torch.zeros(count))

    def forward(self, x: Float[Tensor, "b 2"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, "b 2"]:
        """Predict the noise in x."""
        log_snr = self.sampler.schedule.log_snr(t)
        return mixture_noise(x, log_snr, self.logits.softmax(0), self.means, self.covariances)


@dataclass(frozen=True)
class ModePoints(Points):
    """A decoder of points whose bucket is their mode."""

    count: int = 4
    descriptors = ("bucket",)

    def describe(self, samples: Sequence[Tensor]) -> list[Mapping[str, str]]:
        """Return the mode of each point as its bucket."""
        return [{"bucket": str(mode)} for mode in nearest_mode(samples, self.count).tolist()]


@dataclass(frozen=True)
class ModeReward:
    """A reward of each mode, times 1 - NOISE |x - centre|^2 / VARIANCE / 2, whose mean is the same in all modes."""

    rewards: tuple[float, ...]

    def __call__(self, samples: Sequence[Tensor]) -> Float[Tensor, " b"]:
        """Compute the rewards of points."""
        points, mode = torch.stack(list(samples)).double(), nearest_mode(samples, len(self.rewards))
        excess = (points - centres(len(self.rewards))[mode]).square().sum(1) / VARIANCE / 2
        return (torch.tensor(self.rewards, dtype=torch.float64)[mode] * (1 - NOISE * excess).clamp(min=0)).float()


def mode_task(rewards: tuple[float, ...]) -> Task:
    """Return the problem as a task, in which all modes are equally likely before training."""
    sampler, count = make_sampler(20), len(rewards)
    return Task("modes", Policy(ModeDenoiser(sampler, count), sampler), ModePoints(2, count), ModeReward(rewards))


def weights_of_modes(task: Task, seed: int) -> Float[Tensor, " k"]:
    """Return the share of fresh samples in each mode."""
    samples = task.rollout(range(EVALUATION_SAMPLES), Key(seed, EVALUATION)).samples
    count = len(task.policy.denoiser.logits)  # type: ignore[attr-defined]
    return nearest_mode(samples, count).bincount(minlength=count) / EVALUATION_SAMPLES


def inverse_frequency() -> Diversity:
    """Return rewards divided by the frequency of the mode, without a cap that would come in the way."""
    frequency = InverseFrequency(["bucket"], "uniform", reference_samples=1, strength=1.0, decay=0.5, cap=1e6)
    return Diversity(floor=0.0, penalty=None, frequency=frequency)


@dataclass(frozen=True, kw_only=True)
class ModeCase:
    """An algorithm on K modes, with or without rewards divided by frequency.

    J is the mean log-weight sum_k r_k log w_k / sum_k r_k where they are, which is largest at w_k ~ r_k, and the
    expected reward where they are not.

    Attributes:
        name: of the algorithm in conf/algo, and what is varied.
        algorithm: that is tried.
        rewards: of the modes.
        diversity: how variety is kept; None: not at all.
        loop: settings of the fine-tuning that differ from the default.
    """

    name: str
    algorithm: Algorithm
    rewards: tuple[float, ...]
    diversity: Diversity | None
    loop: dict[str, Any] = field(default_factory=dict)

    def run(self, seed: int) -> Outcome:
        """Train, and compare the weights of the modes with the fixed point."""
        began = time.perf_counter()
        task, rewards = mode_task(self.rewards), torch.tensor(self.rewards, dtype=torch.float64)
        start, target = weights_of_modes(task, seed), self.fixed_point()
        train(task, self.algorithm, seed, self.loop, self.diversity)
        reached = weights_of_modes(task, seed)

        def objective(weights: Tensor) -> float:
            gain = weights if self.diversity is None else weights.clamp(min=1 / EVALUATION_SAMPLES).log()
            return (rewards @ gain.double() / (1.0 if self.diversity is None else rewards.sum())).item()

        return Outcome(
            algorithm=self.name,
            problem=f"{len(rewards)} modes, r = {' '.join(f'{value:g}' for value in self.rewards)}",
            fixed_point=format_weights(target),
            reached=format_weights(reached),
            start=objective(start),
            best=objective(target),
            value=objective(reached),
            seconds=time.perf_counter() - began,
        )

    def fixed_point(self) -> Float[Tensor, " k"]:
        """Return the weights at the end of training: those of the best mode alone, or proportional to the rewards."""
        rewards = torch.tensor(self.rewards, dtype=torch.float64)
        return (rewards == rewards.max()).double() if self.diversity is None else rewards / rewards.sum()


def format_weights(weights: Tensor) -> str:
    """Return the weights as hundredths, in words."""
    return " ".join(f"{value:.2f}"[1:] if value < 1 else f"{value:.1f}" for value in weights.tolist())


def score_function() -> DDPOSF:
    """Return the score-function estimator, which has no clip or anchor that could stand for variety."""
    return DDPOSF(advantage=Standardised(), advantage_clip=UNCLIPPED, **ALL_STEPS)


LOOP: dict[str, Any] = {"iterations": 40, "rollouts": 128, "optimizer": partial(torch.optim.SGD, lr=10.0)}


def cases() -> list[ModeCase]:
    """Return DDPO on unequal modes without and with rewards divided by frequency."""
    unequal = (1.0, 2.0, 3.0, 4.0)
    return [
        ModeCase(
            name=f"ddpo_sf, {name}",
            algorithm=score_function(),
            rewards=unequal,
            diversity=diversity,
            loop=LOOP,
        )
        for name, diversity in (("no diversity", None), ("inverse frequency", inverse_frequency()))
    ]
