"""Reward-guided training on the linear-Gaussian chain: the pull of a linear reward against the KL that holds it."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from molrl.algos.rgdm import RGDM
from molrl.oracle.chain import Chain
from molrl.oracle.linear_gaussian import LINEAR
from molrl.oracle.trial import ChainCase
from molrl.samplers import DDIM
from molrl.schedule import alpha, sigma

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


def cases() -> list[ChainCase]:
    """Return RGDM with candidates and with gradients, which share one fixed point."""

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
    ]
