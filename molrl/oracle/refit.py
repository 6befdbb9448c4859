"""Weighted denoising on the linear-Gaussian chain: reward-weighted regression and supervised fine-tuning.

These methods re-fit the noise prediction to weighted samples; with a linear prediction at each grid point only the mean
and the variance of the weighted samples count. Fixed points are by quadrature.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.algos.rwr import RWR, RWRSparse
from molrl.algos.sft import SupervisedKLD, SupervisedKLO
from molrl.oracle.chain import Chain
from molrl.oracle.linear_gaussian import LINEAR, QUADRATIC
from molrl.oracle.trial import ChainCase
from molrl.samplers import DDIM
from molrl.schedule import alpha, sigma

Weight = Callable[[Tensor, Tensor], Tensor]
"""(rewards [n], their probabilities [n]) -> weights [n], none below zero."""

QUADRATURE_POINTS, QUADRATURE_STDS = 100_001, 12.0


class WeightedMoments(NamedTuple):
    """Moments of weighted samples, and their mean weight."""

    weight: float
    mean: float
    variance: float


def weighted_moments(
    mean: float, variance: float, reward: Callable[[Tensor], Tensor], weight: Weight
) -> WeightedMoments:
    """Compute E[w], E[w x] / E[w] and the variance of w-weighted draws x ~ N(mean, variance), by dense quadrature.

    A jump in the weights costs up to 1e-4 of its height, a kink about 1e-7; smooth weights are exact to rounding.

    Raises:
        ValueError: no draw has a weight above zero.
    """
    z = torch.linspace(-QUADRATURE_STDS, QUADRATURE_STDS, QUADRATURE_POINTS, dtype=torch.float64)
    x, mass = mean + math.sqrt(variance) * z, torch.softmax(-(z**2) / 2, 0)
    weighted = mass * weight(reward(x), mass)
    total = weighted.sum()
    if not (total > 0 and total.isfinite()):
        raise ValueError(f"weight: got a mean weight of {total.item()}, need a number above 0")
    centre = (weighted * x).sum() / total
    return WeightedMoments(total.item(), centre.item(), ((weighted * (x - centre) ** 2).sum() / total).item())


def exponential_weight(k: float) -> Weight:
    """Return w = exp(k r) / E[exp(k r)] (Black et al. 2023, arXiv:2305.13301, Sec. 4.2)."""

    def weight(rewards: Float[Tensor, " n"], mass: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return torch.softmax(k * rewards + mass.log(), 0) / mass

    return weight


def standardised_weight(temperature: float) -> Weight:
    """Return w ~ exp(r / (temperature std(r))), of mean one: `molrl.algos.rwr.RWR`."""

    def weight(rewards: Float[Tensor, " n"], mass: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        std = (mass * (rewards - mass @ rewards) ** 2).sum().sqrt().item()
        return exponential_weight(1 / (temperature * std) if std > 0 else 0.0)(rewards, mass)

    return weight


def top_weight(fraction: float) -> Weight:
    """Return w = 1 for the `fraction` of draws with the highest rewards and 0 for the others (RWR-sparse, ibid.)."""

    def weight(rewards: Float[Tensor, " n"], mass: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        order = rewards.argsort(descending=True)
        better = mass[order].cumsum(0) - mass[order]
        selected = torch.empty_like(mass)
        selected[order] = ((fraction - better) / mass[order]).clamp(0, 1)  # the node at the threshold counts in part
        return selected

    return weight


def shifted_weight(gamma: float) -> Weight:
    """Return w = max(r + gamma, 0) (our reading of Fan et al. 2023, arXiv:2305.16381, Lemma 4.3)."""

    def weight(rewards: Float[Tensor, " n"], _: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return (rewards + gamma).clamp(min=0)

    return weight


def refit(sampler: DDIM, source: Chain, reward: Callable[[Tensor], Tensor], weight: Weight) -> Chain:
    """Return the argmin over linear denoisers of E[w(x) |eps - eps_th(x_t)|^2], x being samples of `source`."""
    weighted = weighted_moments(*source.marginal(), reward, weight)
    return Chain.exact(sampler, weighted.mean, weighted.variance)


def refit_rounds(
    sampler: DDIM, start: Chain, reward: Callable[[Tensor], Tensor], weight: Weight, rounds: int
) -> list[Chain]:
    """Return the chains after 0, 1 .. `rounds` re-fits, each to the weighted samples of the one before.

    RWR with `exponential_weight` or `standardised_weight`, RWR-sparse with `top_weight`. A chain of few steps loses
    some of the variance, anew in every round.
    """
    chains = [start]
    for _ in range(rounds):
        chains.append(refit(sampler, chains[-1], reward, weight))
    return chains


def sft_kl_d(sampler: DDIM, reference: Chain, reward: Callable[[Tensor], Tensor], gamma: float) -> Chain:
    """Return KL-D's chain: one fit to the reference's samples with weights max(r + gamma, 0) (ibid., Lemma 4.3)."""
    return refit(sampler, reference, reward, shifted_weight(gamma))


def sft_kl_o(sampler: DDIM, reference: Chain, reward: Callable[[Tensor], Tensor], gamma: float) -> Chain:
    """Return KL-O's chain: argmin of E[max(r, 0) |eps - eps_th|^2 + gamma |eps_th - eps_ref|^2] over
    eps_th(x_t) = theta.(x_t, 1), x_0 being the reference's samples (Fan et al. 2023, Eq. 10; our reading).

    At each grid point (E[w f f^T] + gamma E[f f^T]) theta = E[w f eps] + gamma E[f f^T] theta_ref with f = (x_t, 1),
    x_t = a x_0 + s eps and E[w f eps] = E[w] (s, 0).
    """
    a, s = alpha(sampler.log_snr), sigma(sampler.log_snr)
    weight, mean, variance = weighted_moments(*reference.marginal(), reward, shifted_weight(0.0))
    regularisation = gamma * second_moments(a, s, *reference.marginal())
    theta_ref = torch.stack(reference.predicted_noise(sampler), -1)
    target = weight * torch.stack([s, torch.zeros_like(s)], -1) + (regularisation @ theta_ref.unsqueeze(-1)).squeeze(-1)
    theta = torch.linalg.solve(weight * second_moments(a, s, mean, variance) + regularisation, target)
    return Chain.from_noise(sampler, theta[:, 0], theta[:, 1])


def second_moments(
    a: Float[Tensor, " points"], s: Float[Tensor, " points"], mean: float, variance: float
) -> Float[Tensor, "points 2 2"]:
    """Compute E[f f^T] for f = (a x_0 + s eps, 1)."""
    rows = [a**2 * (variance + mean**2) + s**2, a * mean, a * mean, torch.ones_like(a)]
    return torch.stack(rows, -1).view(-1, 2, 2)


def cases() -> list[ChainCase]:
    """Return RWR and the supervised baselines, each with its own fixed point."""
    fit: dict[str, Any] = {"iterations": 1, "epochs": 40, "rollouts": 32_768}
    fit["optimizer"] = partial(torch.optim.SGD, lr=3.0)

    def lifted(x: Tensor) -> Tensor:
        return LINEAR(x) + 1.0

    return [
        ChainCase(
            name="rwr, two rounds",
            algorithm=RWR(temperature=2.0, noisings=11),
            reward=QUADRATIC,
            in_stds=False,
            fixed_point=lambda sampler, reference: refit_rounds(
                sampler, reference, QUADRATIC, standardised_weight(2.0), 2
            )[-1],
            loop={**fit, "iterations": 2, "fresh_optimizer": True},
        ),
        ChainCase(
            name="rwr_sparse, one round",
            algorithm=RWRSparse(quantile=0.3, noisings=11),
            reward=LINEAR,
            in_stds=False,
            fixed_point=lambda sampler, reference: refit_rounds(sampler, reference, LINEAR, top_weight(0.7), 1)[-1],
            loop={**fit, "fresh_optimizer": True},
        ),
        ChainCase(
            name="sft_kl_d",
            algorithm=SupervisedKLD(gamma=0.5, noisings=11),
            reward=LINEAR,
            lift=1.0,
            in_stds=False,
            fixed_point=lambda sampler, reference: sft_kl_d(sampler, reference, lifted, 0.5),
            loop=fit,
        ),
        ChainCase(
            name="sft_kl_o",
            algorithm=SupervisedKLO(gamma=0.5, noisings=11),
            reward=LINEAR,
            lift=1.0,
            in_stds=False,
            fixed_point=lambda sampler, reference: sft_kl_o(sampler, reference, lifted, 0.5),
            loop=fit,
        ),
    ]
