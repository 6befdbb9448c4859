"""Policy gradients on the linear-Gaussian chain: optimal control with a KL penalty, and where each method stops.

These methods (DDPO, DPOK) keep the stds of the reverse steps and move their means. Fixed points are in closed form.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from molrl.advantages import Centred, Standardised
from molrl.algos.ddpo import DDPO, DDPOSF
from molrl.algos.dpok import DPOK
from molrl.oracle.chain import Chain, Moments, Parabola
from molrl.oracle.linear_gaussian import LINEAR, QUADRATIC
from molrl.oracle.trial import ALL_STEPS, UNCLIPPED, ChainCase, FixedPoint
from molrl.samplers import DDIM

KL = Literal["return_to_go", "local"]

MAX_ROUNDS = 10_000


def optimal_control(reference: Chain, reward: Parabola, beta: float, kl: KL = "return_to_go") -> Chain:
    """Return the chain that a policy gradient with a KL penalty ends at, the stds and the decode being fixed.

    A step from x has reference mean M and mean mu(x) = argmax E[V(mu + std z)] - (mu - M)^2 / (2 std^2), which with
    V(y) = -H y^2 / 2 + Q y + W is mu = (M + std^2 Q) / (1 + H std^2).

    "return_to_go": each step pays for its KL and for those of the later steps. V is the value in units of beta,
    V <- E[V] - KL (a Riccati recursion from V = r(decode) / beta), and the chain maximises J.
    "local": the KLs are added step by step and only differentiated there, as in DPOK's published gradient, in GRPO
    and in `molrl.algos.ddpo`. V is the expected reward alone, V <- E[V]; J is a little lower.

    Raises:
        ValueError: beta is not above zero, or the reward is convex enough for an infinite optimum.
    """
    if not beta > 0:
        raise ValueError(f"beta: got {beta}, need a number above 0; without a KL only the reward is determined")
    value = (reward / beta).pull_back(reference.decode_slope, reference.decode_offset)
    slopes, offsets = [], []
    for a, b, std in reversed(reference.steps):
        shrinkage = 1 + value.curvature * std**2
        if not shrinkage > 0:
            raise ValueError(f"reward, beta: got {reward}, {beta}, for which the optimum is infinite")
        slopes.append(a / shrinkage)
        offsets.append((b + std**2 * value.slope) / shrinkage)
        if kl == "local":
            value = value.pull_back(slopes[-1], offsets[-1], std)
        else:
            gain = std**2 * value.slope**2 / (2 * shrinkage) - value.curvature * std**2 / 2
            of_mean = Parabola(value.curvature / shrinkage, value.slope / shrinkage, value.constant + gain)
            value = of_mean.pull_back(a, b)
    return replace(reference, slope=tuple(reversed(slopes)), offset=tuple(reversed(offsets)))


def optimal_control_standardised(reference: Chain, reward: Parabola, kl_weight: float, kl: KL = "local") -> Chain:
    """Return `optimal_control` for standardised advantages, (r - mean) / std over the rollouts, without a clip.

    beta = kl_weight std(r), with the std at the fixed point itself; the iteration starts at the reference.

    Raises:
        ValueError: the iteration does not converge.
    """
    beta = kl_weight * math.sqrt(reward.variance(reference.marginal()))
    for _ in range(MAX_ROUNDS):
        chain = optimal_control(reference, reward, beta, kl)
        next_beta = kl_weight * math.sqrt(reward.variance(chain.marginal()))
        if abs(next_beta - beta) <= 1e-12 * beta:
            return chain
        beta = math.sqrt(beta * next_beta)
    raise ValueError(f"kl_weight: got {kl_weight}, for which beta does not converge")


def best_reward(reference: Chain, reward: Parabola) -> float:
    """Return the largest E[r] of any chain with these stds and this decode: with beta = 0 only this is determined.

    The last mean is where the decode has the highest reward, whatever came before; the noise of the last step then
    costs curvature decode_slope^2 std_K^2 / 2.

    Raises:
        ValueError: the reward has no maximum.
    """
    if not reward.curvature > 0:
        raise ValueError(f"reward: got curvature {reward.curvature}, need a number above 0 for a bounded reward")
    noise = (reference.decode_slope * reference.std[-1]) ** 2
    return reward.expected(Moments(reward.slope / reward.curvature, noise))


def cases() -> list[ChainCase]:
    """Return DDPO and DPOK, each with its own fixed point."""

    def optimum(kl: KL, reward: Parabola = QUADRATIC) -> FixedPoint:
        def fixed_point(_: DDIM, reference: Chain) -> Chain:
            return optimal_control(reference, reward, 1.0, kl)

        return fixed_point

    dpok = make_dpok()
    ddpo = DDPO(advantage=Centred(), advantage_clip=UNCLIPPED, clip=UNCLIPPED, kl_weight=1.0, **ALL_STEPS)
    return [
        ChainCase(
            name="ddpo_sf",
            algorithm=DDPOSF(advantage=Standardised(), advantage_clip=UNCLIPPED, **ALL_STEPS),
            reward=QUADRATIC,
            fixed_point=lambda _, reference: best_reward(reference, QUADRATIC),
        ),
        ChainCase(name="ddpo", algorithm=ddpo, reward=QUADRATIC, beta=1.0, fixed_point=optimum("local")),
        ChainCase(
            name="dpok, local KL, critic",
            algorithm=dpok(kl_mode="local", critic=True),
            reward=QUADRATIC,
            beta=1.0,
            fixed_point=optimum("local"),
        ),
        ChainCase(
            name="dpok, return-to-go KL, critic",
            algorithm=dpok(kl_mode="return_to_go", critic=True),
            reward=QUADRATIC,
            beta=1.0,
            fixed_point=optimum("return_to_go"),
        ),
        ChainCase(
            name="dpok, return-to-go KL",
            algorithm=dpok(kl_mode="return_to_go", critic=False),
            reward=LINEAR,
            beta=1.0,
            fixed_point=optimum("return_to_go", LINEAR),
        ),
    ]


def make_dpok(**settings: Any) -> partial[DPOK]:
    """Return DPOK without clipping, on all steps, with one nat of KL per unit of reward."""
    fixed: dict[str, Any] = {"reward_weight": 1.0, "kl_weight": 1.0, "clip": UNCLIPPED, "clip_mode": "ppo"}
    return partial(DPOK, **{**fixed, "critic_lr": 0.01, **ALL_STEPS, **settings})
