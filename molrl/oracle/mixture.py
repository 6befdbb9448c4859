"""Gaussian mixtures: their exact noise prediction, what a reward makes of them, and an algorithm with a network on one.

Of all distributions p the tilt base(x) exp(R(x)) / Z, with R = r / beta, has the largest E_p[r] - beta KL(p || base),
namely beta log Z (Donsker and Varadhan 1975). The tilts take R.
"""

import math
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.algos import Algorithm
from molrl.diagnostics import chain_kl
from molrl.finetune import freeze_copy
from molrl.gaussian import Context
from molrl.noise import Key
from molrl.oracle.chain import Parabola
from molrl.oracle.control import make_dpok
from molrl.oracle.linear_gaussian import QUADRATIC, ParabolaReward, Points, Values, make_sampler
from molrl.oracle.trial import Outcome, train
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import alpha, sigma
from molrl.task import Reward, Task

EVALUATION_SAMPLES = 20_000  # that a value without a closed form is measured on
EVALUATION = 2**62


class Mixture(NamedTuple):
    """A mixture sum_k weights_k N(means_k, covariances_k)."""

    weights: Float[Tensor, " k"]
    means: Float[Tensor, "k d"]
    covariances: Float[Tensor, "k d d"]

    def mean(self) -> Float[Tensor, " d"]:
        """Compute the mean E[x] [d] of the mixture."""
        return self.weights @ self.means

    def covariance(self) -> Float[Tensor, "d d"]:
        """Compute Cov[x], within the components and between them."""
        difference = self.means - self.mean()
        return torch.einsum(
            "k,kij->ij", self.weights, self.covariances + difference.unsqueeze(2) * difference.unsqueeze(1)
        )


MIXTURE = Mixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.5, 0.0], [1.0, 0.5]], dtype=torch.float64),
    torch.tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.4, -0.1], [-0.1, 0.3]]], dtype=torch.float64),
)


def tilt_linear(base: Mixture, gradient: Float[Tensor, " d"]) -> tuple[Mixture, float]:
    """Return base(x) exp(g.x) / Z and log Z.

    m_k' = m_k + S_k g, S_k' = S_k, and w_k' ~ w_k exp(g.m_k + g^T S_k g / 2), which add up to Z.
    """
    shift = base.covariances @ gradient
    log_weights = base.weights.log() + base.means @ gradient + shift @ gradient / 2
    return Mixture(log_weights.softmax(0), base.means + shift, base.covariances), log_weights.logsumexp(0).item()


def tilt_quadratic(
    base: Mixture, precision: Float[Tensor, "d d"], target: Float[Tensor, " d"]
) -> tuple[Mixture, float]:
    """Return base(x) exp(-(x - c)^T K (x - c) / 2) / Z and log Z, for a symmetric K without negative directions.

    S_k' = (S_k^-1 + K)^-1 = (I + S_k K)^-1 S_k, m_k' = m_k + S_k' K (c - m_k), and
    log w_k' = log w_k - log|I + S_k K| / 2 - (c - m_k)^T K (I + S_k K)^-1 (c - m_k) / 2, up to log Z.
    """
    shrinkage = torch.eye(len(target)).to(precision) + base.covariances @ precision
    difference = target - base.means
    remaining = torch.linalg.solve(shrinkage, difference)  # (I + S K)^-1 (c - m)
    covariances = torch.linalg.solve(shrinkage, base.covariances)
    loss = ((difference @ precision) * remaining).sum(1)
    log_weights = base.weights.log() - torch.linalg.slogdet(shrinkage)[1] / 2 - loss / 2
    means = base.means + (covariances @ (difference @ precision).unsqueeze(2)).squeeze(2)
    symmetric = (covariances + covariances.mT) / 2
    return Mixture(log_weights.softmax(0), means, symmetric), log_weights.logsumexp(0).item()


def mixture_noise(
    x: Float[Tensor, "b d"],
    log_snr: Float[Tensor, " b"],
    weights: Float[Tensor, " k"],
    means: Float[Tensor, "k d"],
    covariances: Float[Tensor, "k d d"],
) -> Float[Tensor, "b d"]:
    """Compute E[eps | x_t] = s sum_k p_k (a^2 S_k + s^2 I)^-1 (x - a m_k), in the dtype of x; `*mixture` fits in.

    p_k is the posterior probability of component k, N(x; a m_k, a^2 S_k + s^2 I) w_k normalised; the covariances
    are diagonalised, so that one factor serves every noise level.
    """
    spread, axes = torch.linalg.eigh(covariances)
    weights, means, spread, axes = (value.to(x) for value in (weights, means, spread, axes))
    a, s = alpha(log_snr).view(-1, 1, 1), sigma(log_snr).view(-1, 1, 1)
    difference = torch.einsum("bki,kij->bkj", x.unsqueeze(1) - a * means, axes)
    variance = a**2 * spread + s**2
    log_posterior = weights.log() - (difference**2 / variance + variance.log()).sum(2) / 2
    pull = torch.einsum("bkj,kij->bki", difference / variance, axes)
    return s.squeeze(2) * (log_posterior.softmax(1).unsqueeze(2) * pull).sum(1)


def log_partition(rewards: Float[Tensor, " n"], beta: float) -> tuple[float, float]:
    """Estimate beta log E[exp(r / beta)] from samples of the reference, and its standard error by the delta method.

    No policy has a larger E[r] - beta KL. The error is beta std(w) / (sqrt(n) mean(w)) with w = exp(r / beta); where it
    is not small against beta, few samples carry the mean and neither number is reliable.

    Raises:
        ValueError: beta is not above zero, or a reward is not finite.
    """
    if not (beta > 0 and len(rewards) > 1 and rewards.isfinite().all()):
        got = f"{beta}, {len(rewards)} with {int((~rewards.isfinite()).sum())} not finite"
        raise ValueError(f"beta, rewards: got {got}; need beta above 0 and at least 2 rewards, all finite")
    scaled = rewards.double() / beta
    top = scaled.max()
    weights = (scaled - top).exp()
    error = (weights.std() / weights.mean()).item() / math.sqrt(len(weights))
    return beta * (top + weights.mean().log()).item(), beta * error


class MixtureDenoiser(nn.Module):
    """The exact noise of the 2-D mixture, plus a small network that starts at zero."""

    def __init__(self, sampler: DDIM) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sampler = sampler
        self.layers = nn.Sequential(nn.Linear(6, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))
        nn.init.zeros_(self.layers[4].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[4].bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "b 2"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, "b 2"]:
        """Predict the noise; the network sees x, t and three waves of t."""
        waves = torch.stack([t, (3 * t).sin(), (3 * t).cos(), (9 * t).sin()], 1)
        exact = mixture_noise(x, self.sampler.schedule.log_snr(t), *MIXTURE)
        correction: Tensor = self.layers(torch.cat([x, waves], 1))
        return exact + correction


def mixture_task(reward: Reward) -> Task:
    """Return the 2-D mixture as a task, with an untrained network."""
    sampler = make_sampler()
    policy = Policy(MixtureDenoiser(sampler), sampler)
    return Task("points", policy, Points(2), reward, value_network=lambda: Values(2))


@dataclass(frozen=True, kw_only=True)
class MixtureCase:
    """An algorithm on the 2-D mixture with a small network; no policy has a larger J than beta log Z.

    Attributes:
        name: of the algorithm in conf/algo, and what is varied.
        algorithm: that is tried.
        reward: of each coordinate.
        beta: of the objective J = E[r] - beta KL.
        loop: settings of the fine-tuning that differ from the default.
    """

    name: str
    algorithm: Algorithm
    reward: Parabola
    beta: float
    loop: dict[str, Any] = field(default_factory=dict)

    def run(self, seed: int) -> Outcome:
        """Train, and measure J on fresh samples."""
        began = time.perf_counter()
        task = mixture_task(ParabolaReward(self.reward))
        before = task.rollout(range(5 * EVALUATION_SAMPLES), Key(seed, EVALUATION)).rewards
        best, _ = log_partition(before, self.beta)
        reference = freeze_copy(task.policy)
        train(task, self.algorithm, seed, self.loop)
        rollouts = task.rollout(range(EVALUATION_SAMPLES), Key(seed, EVALUATION + 1))
        kl = chain_kl(task.policy, reference, rollouts.trajectory.transitions(rollouts.rewards))
        return Outcome(
            algorithm=self.name,
            problem=f"mixture, quadratic, beta {self.beta:g}",
            fixed_point="bound",
            reached="",
            start=before.mean().item(),
            best=best,
            value=rollouts.rewards.mean().item() - self.beta * kl,
            seconds=time.perf_counter() - began,
        )


def cases() -> list[MixtureCase]:
    """Return DPOK with a network and a critic."""
    loop: dict[str, Any] = {"iterations": 200, "rollouts": 512, "minibatch": 2560, "clip_norm": 10.0}
    loop["optimizer"] = partial(torch.optim.Adam, lr=2e-3)
    dpok = make_dpok(kl_mode="return_to_go", critic=True, clip=0.5)()
    return [
        MixtureCase(name="dpok, return-to-go KL, critic", algorithm=dpok, reward=QUADRATIC, beta=1.0, loop=loop),
    ]
