"""Methods that differentiate the reward, on the linear-Gaussian chain: DRaFT, ReFL and Adjoint Matching."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from molrl.algos.adjoint import AdjointMatching
from molrl.algos.draft import DRaFT
from molrl.algos.held_out import HeldOut
from molrl.algos.refl import ReFL
from molrl.algos.steps import window_of
from molrl.oracle.chain import Chain, Parabola
from molrl.oracle.control import optimal_control
from molrl.oracle.linear_gaussian import QUADRATIC
from molrl.oracle.trial import ChainCase, FixedPoint
from molrl.samplers import DDIM
from molrl.schedule import alpha, sigma

ANCHOR, LATE = 0.5, (0.5, 1.0)
UNMEASURED = HeldOut(reward=None, own_judge=False, patience=1, stop=False)


def control_of_last_steps(reference: Chain, reward: Parabola, beta: float, count: int) -> Chain:
    """Return the best chain in which only the last `count` steps move and only their KLs are paid.

    No gradient reaches the steps before, and what they do is not charged for. With all steps it is `optimal_control`.
    """
    fixed = max(len(reference.slope) - count, 0)
    tail = replace(reference, slope=reference.slope[fixed:], offset=reference.offset[fixed:], std=reference.std[fixed:])
    best = optimal_control(tail, reward, beta)
    return replace(reference, slope=reference.slope[:fixed] + best.slope, offset=reference.offset[:fixed] + best.offset)


def refl(sampler: DDIM, reference: Chain, reward: Parabola, first: float, last: float, anchor: float) -> Chain:
    """Return ReFL's chain: at each grid point of the window the best eps(x) of r(x0_hat) - anchor (eps - eps_ref)^2.

    With x0_hat = (x - s eps) / a and r = -c x0^2 / 2 + q x0 the maximum is, for every x, at
    eps (c s^2 / a^2 + 2 anchor) = c s x / a^2 - q s / a + 2 anchor eps_ref(x).
    """
    a, s = alpha(sampler.log_snr), sigma(sampler.log_snr)
    slope, offset = reference.predicted_noise(sampler)
    window = list(window_of(sampler.num_steps + 1, first, last))
    weight = reward.curvature * s**2 / a**2 + 2 * anchor
    best_slope = (reward.curvature * s / a**2 + 2 * anchor * slope) / weight
    best_offset = (-reward.slope * s / a + 2 * anchor * offset) / weight
    slope, offset = slope.clone(), offset.clone()
    slope[window], offset[window] = best_slope[window], best_offset[window]
    return Chain.from_noise(sampler, slope, offset)


def cases() -> list[ChainCase]:
    """Return DRaFT with all and with few steps, ReFL and Adjoint Matching, each with its own fixed point."""

    def of_last(count: int) -> FixedPoint:
        return lambda _, reference: control_of_last_steps(reference, QUADRATIC, 1.0, count)

    few: dict[str, Any] = {"rollouts": 512, "iterations": 40}  # a gradient of the reward has little noise
    whole = {**few, "optimizer": partial(torch.optim.SGD, lr=0.4)}  # its loss is a sum over the steps
    return [
        *(
            ChainCase(
                name=f"draft, {name}",
                algorithm=DRaFT(steps=steps, kl_weight=1.0, held_out=UNMEASURED),
                reward=QUADRATIC,
                beta=1.0,
                fixed_point=of_last(steps),
                loop=whole,
            )
            for name, steps in (("all steps", 10), ("last 3 steps", 3))
        ),
        ChainCase(
            name="refl",
            algorithm=ReFL(first=LATE[0], last=LATE[1], ceiling=None, anchor=ANCHOR, held_out=UNMEASURED),
            reward=QUADRATIC,
            in_stds=False,
            fixed_point=lambda sampler, reference: refl(sampler, reference, QUADRATIC, *LATE, ANCHOR),
            loop={**few, "optimizer": partial(torch.optim.SGD, lr=3.0)},
        ),
        ChainCase(
            name="adjoint",
            algorithm=AdjointMatching(kl_weight=1.0, early=1000, late=1000, split=0.6, held_out=UNMEASURED),
            reward=QUADRATIC,
            beta=1.0,
            fixed_point=of_last(1000),
            loop=few,
        ),
    ]
