"""Trials of an algorithm on a problem with a known answer, and what they find.

Each case trains with the very code of `molrl train` (`finetune`), averages the weights of the second half of the
rounds, and compares the policy with the fixed point that theory gives for this algorithm.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from molrl.algos import Algorithm
from molrl.diversity import Diversity
from molrl.finetune import FinetuneConfig, finetune, freeze_copy
from molrl.oracle.chain import Chain, Parabola
from molrl.oracle.linear_gaussian import ParabolaReward, linear_gaussian_task
from molrl.policy import Policy
from molrl.runs.checkpoints import CheckpointPolicy
from molrl.samplers import DDIM
from molrl.task import Metrics, Task
from molrl.trainable_parameters import trainable_module

FixedPoint = Callable[[DDIM, Chain], Chain | float]
"""(sampler, chain before training) -> the chain that training ends at, or its objective where only that is known."""

UNCLIPPED = 1e9
ALL_STEPS: dict[str, Any] = {"train_steps": 1000, "first": 0.0, "last": 1.0}
SAME_STD = 1e-5
COMPLETE_FIT = 5  # epochs from which on a round is one


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case, a line of the table.

    The fraction hardly tells fixed points apart: J is flat at its top, and another fixed point may have 99 % of it. The
    error of the steps does.

    Attributes:
        algorithm: its name in conf/algo, and what was varied.
        problem: in words.
        fixed_point: mean and variance of the samples there; "bound" where only an upper bound of J is known.
        reached: mean and variance of the trained policy's samples.
        start: objective J of the untrained policy.
        best: objective at the fixed point.
        value: objective of the trained policy.
        seconds: that the case took.
        error: the largest error of a step's mean at the fixed point, a root mean square in stds of the step; of
            methods on the forward process, of a step's predicted noise. None: no chain is known there.
        fraction: (value - start) / (best - start).
    """

    algorithm: str
    problem: str
    fixed_point: str
    reached: str
    start: float
    best: float
    value: float
    seconds: float
    error: float | None = None
    fraction: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fraction", (self.value - self.start) / (self.best - self.start))


@dataclass(frozen=True, kw_only=True)
class ChainCase:
    """An algorithm on the linear-Gaussian chain, where everything is known in closed form.

    Attributes:
        name: of the algorithm in conf/algo, and what is varied.
        algorithm: that is tried.
        reward: of one number.
        fixed_point: where training is to end.
        lift: added to the reward, for weights that must not be negative.
        beta: of the objective that is reported, E[r] - beta KL.
        problem: settings of `linear_gaussian_task` that differ from the default.
        in_stds: units of what is trained (`AffineDenoiser`); False for methods on the forward process.
        loop: settings of the fine-tuning that differ from the default.
    """

    name: str
    algorithm: Algorithm
    reward: Parabola
    fixed_point: FixedPoint
    lift: float = 0.0
    beta: float = 0.0
    problem: dict[str, Any] = field(default_factory=dict)
    in_stds: bool = True
    loop: dict[str, Any] = field(default_factory=dict)

    def run(self, seed: int) -> Outcome:
        """Train, and compare the policy with the fixed point."""
        began = time.perf_counter()
        task = linear_gaussian_task(ParabolaReward(self.reward, self.lift), in_stds=self.in_stds, **self.problem)
        dims = self.problem.get("dims", 1)
        reference = self.chain(task.policy)
        train(task, self.algorithm, seed, self.loop)
        reached = self.chain(task.policy)
        sampler = cast(DDIM, task.policy.sampler)
        target = self.fixed_point(sampler, reference)
        start, value = (dims * objective(chain, reference, self.reward, self.beta) for chain in (reference, reached))
        shape = "quadratic" if self.reward.curvature else "linear"
        return Outcome(
            algorithm=self.name,
            problem=f"chain, {shape}" + (f", beta {self.beta:g}" if self.beta else ""),
            error=self.error(target, reached, sampler) if isinstance(target, Chain) else None,
            fixed_point=format_moments(target) if isinstance(target, Chain) else "top",
            reached=format_moments(reached),
            start=start,
            best=dims * (objective(target, reference, self.reward, self.beta) if isinstance(target, Chain) else target),
            value=value,
            seconds=time.perf_counter() - began,
        )

    def chain(self, policy: Policy) -> Chain:
        """Return the chain that the algorithm's rollouts are of."""
        return Chain.from_policy(policy, torch.float32)

    def error(self, target: Chain, reached: Chain, sampler: DDIM) -> float:
        """Return the largest error of a step, in the units of what is trained."""
        return (step_error if self.in_stds else partial(noise_error, sampler))(target, reached)


def objective(chain: Chain, reference: Chain, reward: Parabola, beta: float) -> float:
    """Compute J = E[r(sample)] - beta sum_k E KL(step k || reference's step k), with states from the chain itself.

    Fan et al. 2023, arXiv:2305.16381, Lemma 4.2; beta = 0 leaves the expected reward.
    """
    expected = reward.expected(chain.marginal())
    return expected - beta * path_kl(chain, reference) if beta else expected


def path_kl(chain: Chain, reference: Chain) -> float:
    """Compute the sum of `step_kls`."""
    return sum(step_kls(chain, reference))


def step_error(chain: Chain, other: Chain) -> float:
    """Compute max_k sqrt(E[(mean_k(x) - other mean_k(x))^2]) / std_k, x from the first chain."""
    return math.sqrt(2 * max(step_kls(chain, other)))


def noise_error(sampler: DDIM, chain: Chain, other: Chain) -> float:
    """Compute max_k sqrt(E[(eps_k(x) - other eps_k(x))^2]) over the steps, x from the first chain."""
    stds: list[float] = (sampler.std / sampler.prediction_coef.abs()).tolist()
    return max(math.sqrt(2 * kl) * std for kl, std in zip(step_kls(chain, other), stds, strict=True))


def step_kls(chain: Chain, reference: Chain) -> list[float]:
    """Compute E[(mean_k(x) - reference mean_k(x))^2] / (2 std_k^2) of each step, in nats, x from the chain itself.

    It is infinite where a step without noise differs from the reference's.

    Raises:
        ValueError: the stds differ.
    """
    if len(chain.std) != len(reference.std) or not all(
        abs(s - r) <= SAME_STD * r for s, r in zip(chain.std, reference.std, strict=True)
    ):
        raise ValueError(f"std: got {chain.std} and {reference.std}; need the same numbers")
    kls = []
    for moments, (a, b, std), (a_ref, b_ref, _) in zip(chain.states()[:-1], chain.steps, reference.steps, strict=True):
        square = ((a - a_ref) * moments.mean + b - b_ref) ** 2 + (a - a_ref) ** 2 * moments.variance
        kls.append(square / (2 * std**2) if std else math.inf if square else 0.0)
    return kls


def train(
    task: Task, algorithm: Algorithm, seed: int, loop: dict[str, Any], diversity: Diversity | None = None
) -> None:
    """Fine-tune, and leave the average of the weights over the second half of the rounds.

    A few rounds of complete fits (many `epochs`) do not circle around one point: there the last weights count.
    """
    settings: dict[str, Any] = {
        "iterations": 60,
        "rollouts": 2048,
        "minibatch": 10**6,
        "epochs": 1,
        "optimizer": partial(torch.optim.SGD, lr=0.25 * task.policy.sampler.num_steps),
        "clip_norm": UNCLIPPED,
        "ratio_tolerance": 1e-3,
        "lost_limit": 0.0,
        "save_every": 1,
        "fresh_optimizer": False,
        "keep": CheckpointPolicy(newest=1, best="reward", highest=True),
        "seed": seed,
        **loop,
    }
    denoiser, history = trainable_module(task.policy), list[dict[str, Tensor]]()

    def remember(_: Metrics) -> None:
        history.append({name: value.detach().clone() for name, value in denoiser.state_dict().items()})

    reference = freeze_copy(task.policy)
    finetune(FinetuneConfig(**settings), task, algorithm, reference, None, remember, diversity=diversity)
    tail = history[len(history) // 2 :] if settings["epochs"] < COMPLETE_FIT else history[-1:]
    denoiser.load_state_dict({name: sum(state[name] for state in tail) / len(tail) for name in tail[0]})


def format_moments(chain: Chain) -> str:
    """Return "mean / variance" of the samples."""
    mean, variance = chain.marginal()
    return f"{mean:.3f} / {variance:.3f}"
