"""Policy gradients on the linear-Gaussian chain: optimal control with a KL penalty, and where each method stops.

These methods (DDPO, DPOK) keep the stds of the reverse steps and move their means. Fixed points are in closed form.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch

from molrl.advantages import Centred, GroupRelative, Standardised
from molrl.algos.ddpo import DDPO, DDPOSF
from molrl.algos.dpok import DPOK
from molrl.oracle.chain import Chain, Moments, Parabola
from molrl.oracle.linear_gaussian import LINEAR, QUADRATIC
from molrl.oracle.trial import ALL_STEPS, UNCLIPPED, ChainCase, FixedPoint
from molrl.samplers import DDIM

KL = Literal["return_to_go", "local"]
Likelihood = Literal["joint", "per_dim"]

KLS: tuple[KL, ...] = ("local", "return_to_go")

MAX_ROUNDS = 10_000


def optimal_control(
    reference: Chain, reward: Parabola, beta: float, kl: KL = "return_to_go", window: range | None = None
) -> Chain:
    """Return the chain that a policy gradient with a KL penalty ends at, the stds and the decode being fixed.

    A step from x has reference mean M and mean mu(x) = argmax E[V(mu + std z)] - (mu - M)^2 / (2 std^2), which with
    V(y) = -H y^2 / 2 + Q y + W is mu = (M + std^2 Q) / (1 + H std^2).

    "return_to_go": each step pays for its KL and for those of the later steps. V is the value in units of beta,
    V <- E[V] - KL (a Riccati recursion from V = r(decode) / beta), and the chain maximises J.
    "local": the KLs are added step by step and only differentiated there, as in DPOK's published gradient, in GRPO
    and in `molrl.algos.ddpo`. V is the expected reward alone, V <- E[V]; J is a little lower.

    Args:
        reference: the chain before training.
        reward: of the decoded sample.
        beta: nats of KL that one unit of reward is worth.
        kl: which KLs a step pays for.
        window: the steps that are trained; the others stay as they are. None: all.

    Raises:
        ValueError: beta is not above zero, or the reward is convex enough for an infinite optimum.
    """
    if not beta > 0:
        raise ValueError(f"beta: got {beta}, need a number above 0; without a KL only the reward is determined")
    value = (reward / beta).pull_back(reference.decode_slope, reference.decode_offset)
    slopes, offsets, trained = [], [], range(len(reference.std)) if window is None else window
    for step, (a, b, std) in reversed(list(enumerate(reference.steps))):
        if step not in trained:
            slopes.append(a)
            offsets.append(b)
            value = value.pull_back(a, b, std)
            continue
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
    return [
        ChainCase(
            name="ddpo_sf",
            algorithm=DDPOSF(advantage=Standardised(), advantage_clip=UNCLIPPED, **ALL_STEPS),
            reward=QUADRATIC,
            fixed_point=lambda _, reference: best_reward(reference, QUADRATIC),
        ),
        *ddpo_cases(),
        *dpok_cases(),
        *wide_cases(),
    ]


def ddpo_cases() -> list[ChainCase]:
    """Return DDPO with a KL: on and off policy, on a window, with groups."""
    size, kl_weight = 4, 1.5

    def with_groups(_: DDIM, reference: Chain) -> Chain:
        # E[A score] = (1 - 1/n) E[r score] over the std of the deviations, which is sqrt(1 - 1/n) std(r)
        return optimal_control_standardised(reference, QUADRATIC, kl_weight / math.sqrt(1 - 1 / size))

    case = partial(ChainCase, reward=QUADRATIC, beta=1.0)
    window = partial(make_ddpo, train_steps=2, first=0.3, last=0.8)
    groups = make_ddpo(advantage=GroupRelative(size), kl_weight=kl_weight)
    return [
        case(name="ddpo", algorithm=make_ddpo(), fixed_point=optimum("local")),
        case(
            name="ddpo, 4 epochs, clip 0.2",
            algorithm=make_ddpo(clip=0.2),
            fixed_point=optimum("local"),
            loop={"epochs": 4, "iterations": 40, "optimizer": partial(torch.optim.SGD, lr=1.0)},
        ),
        case(name="ddpo, steps 4 to 8", algorithm=window(), fixed_point=optimum("local", window=range(3, 8))),
        case(name="ddpo, groups of 4", algorithm=groups, beta=0.0, fixed_point=with_groups),
    ]


def dpok_cases() -> list[ChainCase]:
    """Return DPOK with both KLs, with and without a critic, on a window, and with less noise in the chain."""
    dpok, quadratic = make_dpok(), partial(ChainCase, reward=QUADRATIC, beta=1.0)
    window = partial(dpok, critic=False, train_steps=2, first=0.3, last=0.8)
    return [
        quadratic(
            name="dpok, local KL, critic",
            algorithm=dpok(kl_mode="local", critic=True),
            fixed_point=optimum("local"),
        ),
        quadratic(
            name="dpok, return-to-go KL, critic",
            algorithm=dpok(kl_mode="return_to_go", critic=True),
            fixed_point=optimum("return_to_go"),
        ),
        ChainCase(
            name="dpok, return-to-go KL",
            algorithm=dpok(kl_mode="return_to_go", critic=False),
            reward=LINEAR,
            beta=1.0,
            fixed_point=optimum("return_to_go", LINEAR),
        ),
        quadratic(
            name="dpok, return-to-go KL, steps 4 to 8",
            algorithm=window(kl_mode="return_to_go"),
            fixed_point=optimum("return_to_go", window=range(3, 8)),
        ),
        *(
            quadratic(
                name=f"dpok, {kl.replace('_', '-')} KL, eta 0.5",
                algorithm=dpok(kl_mode=kl, critic=False),
                problem={"eta": 0.5},
                fixed_point=optimum(kl),
            )
            for kl in KLS
        ),
    ]


def wide_cases() -> list[ChainCase]:
    """Return DPOK on ten numbers far from the target, where both KLs end far apart, by both likelihoods."""
    dims, beta, steps = 10, 0.6, 6
    rates: dict[Likelihood, float] = {"joint": 0.25 * steps / dims, "per_dim": 0.25 * steps}
    return [
        ChainCase(
            name=f"dpok, {kl.replace('_', '-')} KL, ten numbers, {likelihood}",
            algorithm=make_dpok(kl_mode=kl, critic=False, kl_weight=beta, likelihood=likelihood)(),
            reward=QUADRATIC,
            beta=beta,
            problem={"dims": dims, "num_steps": steps, "mean": -0.8, "variance": 1.44},
            fixed_point=optimum(kl, beta=beta),
            loop={"optimizer": partial(torch.optim.SGD, lr=rate), "rollouts": 1024},
        )
        for likelihood, rate in rates.items()
        for kl in KLS
    ]


def optimum(kl: KL, reward: Parabola = QUADRATIC, beta: float = 1.0, window: range | None = None) -> FixedPoint:
    """Return `optimal_control` as the fixed point of a case."""

    def fixed_point(_: DDIM, reference: Chain) -> Chain:
        return optimal_control(reference, reward, beta, kl, window)

    return fixed_point


def make_ddpo(**settings: Any) -> DDPO:
    """Return DDPO without clipping, on all steps, with one nat of KL per unit of reward."""
    fixed: dict[str, Any] = {"advantage": Centred(), "advantage_clip": UNCLIPPED, "clip": UNCLIPPED, "kl_weight": 1.0}
    return DDPO(**{**fixed, **ALL_STEPS, **settings})


def make_dpok(**settings: Any) -> partial[DPOK]:
    """Return DPOK without clipping, on all steps, with one nat of KL per unit of reward."""
    fixed: dict[str, Any] = {"reward_weight": 1.0, "kl_weight": 1.0, "clip": UNCLIPPED, "clip_mode": "ppo"}
    return partial(DPOK, **{**fixed, "critic_lr": 0.01, **ALL_STEPS, **settings})
