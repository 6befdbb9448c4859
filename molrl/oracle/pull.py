"""Reward-guided training on the linear-Gaussian chain: the pull of a linear reward against the KL that holds it."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from molrl.algos.rgdm import RGDM
from molrl.algos.step_sources import Source
from molrl.oracle.chain import Chain, Moments
from molrl.oracle.linear_gaussian import BASE_MEAN, BASE_VARIANCE, LINEAR
from molrl.oracle.trial import ChainCase, step_error
from molrl.samplers import DDIM
from molrl.schedule import alpha, sigma

MAX_ROUNDS, CONVERGED = 10_000, 1e-10  # stds of a step
SETTINGS: dict[str, Any] = {
    **{"candidates": 8, "radius": 0.5, "temperature": 4.0, "states": 1000, "first": 0.0, "last": 1.0},
    **{"source": "policy", "lookahead": 0, "held": 0, "kl_weight": 0.5},
}


def rgdm(
    sampler: DDIM, reference: Chain, gradient: float, radius: float, temperature: float, kl_weight: float
) -> Chain:
    """Return the chain that RGDM ends at for the reward `gradient` x: mean_k = reference mean_k + D_k / kl_weight.

    With every step scored, no lookahead, and to first order in the spread of the reward over a ball, the pull of a
    step is D_k = R_k^2 / (temperature (d + 2)) times the gradient in y of the score / scale, where
    R_k^2 / (d + 2) = radius^2 std_k^2, the score is gradient x0_hat(y) at the next grid point, and scale is the std of
    the reward over the rollouts, |gradient| std(x): only the sign of the gradient counts.

    The loss -log p(mu_old + D) + kl_weight KL has the gradient
    (mu - mu_old - D) / std^2 + kl_weight (mu - mu_ref) / std^2, zero at mu = mu_old where mu - mu_ref = D / kl_weight.
    D does not depend on x, so that only offsets move: slopes, variances and hence D are those of the reference.
    """
    a, s = alpha(sampler.log_snr), sigma(sampler.log_snr)
    estimate_slope = ((1 - s * reference.predicted_noise(sampler)[0]) / a)[1:]  # d x0_hat / d y at grid points 1 .. K
    scaled_gradient = ((gradient > 0) - (gradient < 0)) / math.sqrt(reference.marginal().variance)  # gradient / scale
    pulls = (
        (radius * torch.tensor(reference.std, dtype=torch.float64)) ** 2
        / temperature
        * scaled_gradient
        * estimate_slope
    )
    offset = torch.tensor(reference.offset, dtype=torch.float64) + pulls / kl_weight
    return replace(reference, offset=tuple(offset.tolist()))


def rgdm_posterior(
    sampler: DDIM,
    reference: Chain,
    gradient: float,
    radius: float,
    temperature: float,
    kl_weight: float,
    data: Moments | None,
    window: range,
) -> Chain:
    """Return the chain that RGDM ends at on steps of the noising process, from N(data) or from its own samples (None).

    The ordinary step is then the posterior q(y | x, x_0), whose mean given x is the mean of the exact chain of the
    samples. So mean_k = (exact mean_k + D_k + kl_weight reference mean_k) / (1 + kl_weight), with D_k of `rgdm`, in the
    window of steps that are scored; a replay of one's own samples is iterated to its fixed point.

    Raises:
        ValueError: the iteration does not converge.
    """
    a, s = alpha(sampler.log_snr), sigma(sampler.log_snr)
    chain, std = reference, torch.tensor(reference.std, dtype=torch.float64)
    for _ in range(MAX_ROUNDS):
        fit = Chain.exact(sampler, *(chain.marginal() if data is None else data))
        estimate_slope = ((1 - s * chain.predicted_noise(sampler)[0]) / a)[1:]
        scaled_gradient = ((gradient > 0) - (gradient < 0)) / math.sqrt(chain.marginal().variance)
        pulls = ((radius * std) ** 2 / temperature * scaled_gradient * estimate_slope).tolist()
        slope, offset = list(reference.slope), list(reference.offset)
        for k in window:
            slope[k] = (fit.slope[k] + kl_weight * reference.slope[k]) / (1 + kl_weight)
            offset[k] = (fit.offset[k] + pulls[k] + kl_weight * reference.offset[k]) / (1 + kl_weight)
        before, chain = chain, replace(reference, slope=tuple(slope), offset=tuple(offset))
        if step_error(chain, before) <= CONVERGED:
            return chain
    raise ValueError(f"kl_weight: got {kl_weight}, for which a replay of its own samples does not converge")


def cases() -> list[ChainCase]:
    """Return RGDM with candidates and with gradients, which share one fixed point, and from data and replay."""

    def fixed_point(sampler: DDIM, reference: Chain) -> Chain:
        return rgdm(
            sampler, reference, LINEAR.slope, SETTINGS["radius"], SETTINGS["temperature"], SETTINGS["kl_weight"]
        )

    return [
        ChainCase(
            name=f"rgdm, {guidance}",
            algorithm=RGDM(guidance=guidance, **SETTINGS),
            reward=LINEAR,
            fixed_point=fixed_point,
            loop={"optimizer": partial(torch.optim.SGD, lr=5.0), "rollouts": 256, "iterations": 30},
        )
        for guidance in ("candidates", "gradient")
    ] + [posterior_case("data", Moments(BASE_MEAN, BASE_VARIANCE)), posterior_case("replay", None)]


def posterior_case(source: Source, data: Moments | None) -> ChainCase:
    """Return RGDM on noised samples of a source.

    Its last steps are left out: there the mean of a posterior varies by many stds from one clean sample to another.
    """
    size, window = (SETTINGS["radius"], SETTINGS["temperature"], SETTINGS["kl_weight"]), range(7)
    return ChainCase(
        name=f"rgdm, gradient, {source}",
        algorithm=RGDM(**{**SETTINGS, "guidance": "gradient", "source": source, "last": 0.7}),
        reward=LINEAR,
        fixed_point=lambda sampler, reference: rgdm_posterior(sampler, reference, LINEAR.slope, *size, data, window),
        loop={"optimizer": partial(torch.optim.SGD, lr=2.0)},
    )
