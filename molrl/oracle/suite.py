"""Every algorithm on a problem whose best policy is known: does it get there?

Each case trains with the very code of `molrl train` (`finetune`), averages the weights of the second half of the
rounds, and compares the policy with the fixed point that theory gives for this algorithm (`optima`). `fraction` is
(J - J_0) / (J* - J_0): the share of the way from the untouched policy's objective to the fixed point's.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from molrl.advantages import Centred, Standardised
from molrl.algos import Algorithm
from molrl.algos.ddpo import DDPO, DDPOSF
from molrl.algos.dpok import DPOK
from molrl.algos.rgdm import RGDM
from molrl.algos.rwr import RWR, RWRSparse, WeightedDenoising
from molrl.algos.sft import SupervisedKLD, SupervisedKLO
from molrl.diagnostics import chain_kl
from molrl.finetune import FinetuneConfig, finetune, freeze_copy
from molrl.noise import Key
from molrl.oracle import optima, problems
from molrl.oracle.chain import Chain, Parabola, linear, quadratic
from molrl.oracle.problems import Smooth
from molrl.oracle.tilt import log_partition
from molrl.policy import Policy
from molrl.runs.checkpoints import CheckpointPolicy
from molrl.task import Metrics, Task
from molrl.trainable_parameters import trainable_module

QUADRATIC, LINEAR = quadratic(1.0, 2.0), linear(1.0)
UNCLIPPED = 1e9
ALL_STEPS: dict[str, Any] = {"train_steps": 1000, "first": 0.0, "last": 1.0}
PULLS: dict[str, Any] = {"candidates": 8, "radius": 0.5, "temperature": 4.0, "states": 1000, "first": 0.0, "last": 1.0}
MEASURED = 20_000  # samples that a value without a closed form is measured on
EVALUATION = 2**62


@dataclass(frozen=True)
class Outcome:
    """One line of the table.

    Attributes:
        algorithm: its name in conf/algo, and what was varied.
        problem: in words.
        fixed_point: of the policy's samples, mean and variance; or the upper bound, where only that is known.
        reached: the same of the trained policy.
        start: objective of the untouched policy.
        best: objective at the fixed point.
        value: objective of the trained policy.
        fraction: (value - start) / (best - start).
        seconds: it took.
    """

    algorithm: str
    problem: str
    fixed_point: str
    reached: str
    start: float
    best: float
    value: float
    seconds: float
    fraction: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fraction", (self.value - self.start) / (self.best - self.start))


@dataclass(frozen=True, kw_only=True)
class OnChain:
    """An algorithm on the linear-Gaussian chain, where everything is known in closed form.

    Attributes:
        algorithm: that is tried.
        name: of it.
        reward: of one number.
        lift: added to the reward, for weights that must not be negative.
        beta: of the objective that the table reports, E[r] - beta KL.
        target: (policy, its chain before training) -> the fixed point, or its value where nothing else is determined.
        loop: numbers of the fine-tuning that differ from the default.
    """

    algorithm: Algorithm
    name: str
    reward: Parabola
    target: Callable[[Policy, Chain], Chain | float]
    lift: float = 0.0
    beta: float = 0.0
    loop: dict[str, Any] = field(default_factory=dict)

    def run(self, seed: int) -> Outcome:
        """Train and compare."""
        began = time.perf_counter()
        fits = isinstance(self.algorithm, WeightedDenoising)
        task = problems.numbers(Smooth(self.reward, self.lift), in_stds=not fits)
        reference = Chain.of(task.policy, torch.float32)
        train(task, self.algorithm, seed, self.loop)
        reached = Chain.of(task.policy, torch.float32)
        target = self.target(task.policy, reference)
        start, value = (optima.objective(chain, reference, self.reward, self.beta) for chain in (reference, reached))
        shape = "quadratic" if self.reward.curvature else "linear"
        return Outcome(
            algorithm=self.name,
            problem=f"chain, {shape}" + (f", beta {self.beta:g}" if self.beta else ""),
            fixed_point=moments(target) if isinstance(target, Chain) else "top",
            reached=moments(reached),
            start=start,
            best=optima.objective(target, reference, self.reward, self.beta) if isinstance(target, Chain) else target,
            value=value,
            seconds=time.perf_counter() - began,
        )


@dataclass(frozen=True, kw_only=True)
class OnMixture:
    """An algorithm on the 2-D mixture with a small network; the best value of a control is bounded by beta log Z.

    Attributes: as of OnChain.
    """

    algorithm: Algorithm
    name: str
    reward: Parabola
    beta: float
    loop: dict[str, Any] = field(default_factory=dict)

    def run(self, seed: int) -> Outcome:
        """Train, and measure on fresh samples."""
        began = time.perf_counter()
        task = problems.points(Smooth(self.reward))
        untouched = task.rollout(range(5 * MEASURED), Key(seed, EVALUATION)).rewards
        best, _ = log_partition(untouched, self.beta)
        reference = freeze_copy(task.policy)
        train(task, self.algorithm, seed, self.loop)
        rollouts = task.rollout(range(MEASURED), Key(seed, EVALUATION + 1))
        kl = chain_kl(task.policy, reference, rollouts.trajectory.transitions(rollouts.rewards))
        value = rollouts.rewards.mean().item() - self.beta * kl
        return Outcome(
            algorithm=self.name,
            problem=f"mixture, quadratic, beta {self.beta:g}",
            fixed_point="bound",
            reached="",
            start=untouched.mean().item(),
            best=best,
            value=value,
            seconds=time.perf_counter() - began,
        )


def train(task: Task, algorithm: Algorithm, seed: int, loop: dict[str, Any]) -> None:
    """Fine-tune, and leave the average of the weights over the second half of the rounds."""
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
    denoiser, seen = trainable_module(task.policy), list[dict[str, Tensor]]()

    def remember(_: Metrics) -> None:
        seen.append({name: value.detach().clone() for name, value in denoiser.state_dict().items()})

    finetune(FinetuneConfig(**settings), task, algorithm, freeze_copy(task.policy), None, remember)
    tail = seen[len(seen) // 2 :] if algorithm_settles(settings) else seen[-1:]
    denoiser.load_state_dict({name: sum(state[name] for state in tail) / len(tail) for name in tail[0]})


def algorithm_settles(settings: dict[str, Any]) -> bool:
    """Whether the rounds circle around one point; a few rounds of whole fits do not."""
    return bool(settings["epochs"] == 1)


def moments(chain: Chain) -> str:
    """Mean / variance of the samples."""
    mean, variance = chain.marginal()
    return f"{mean:.3f} / {variance:.3f}"


def cases() -> list[OnChain | OnMixture]:
    """The suite."""

    def controlled(kl: optima.KL, reward: Parabola = QUADRATIC) -> Callable[[Policy, Chain], Chain]:
        return lambda _, reference: optima.controlled(reference, reward, 1.0, kl)

    fit = {"iterations": 1, "epochs": 40, "rollouts": 32_768, "optimizer": partial(torch.optim.SGD, lr=3.0)}
    dpok = partial(DPOK, reward_weight=1.0, kl_weight=1.0, clip=UNCLIPPED, clip_mode="ppo", critic_lr=0.01, **ALL_STEPS)
    ddpo = partial(DDPO, advantage=Centred(), advantage_clip=UNCLIPPED, clip=UNCLIPPED, kl_weight=1.0, **ALL_STEPS)
    rgdm = partial(RGDM, source="policy", lookahead=0, held=0, **PULLS)
    chain = [
        OnChain(
            name="ddpo_sf",
            algorithm=DDPOSF(advantage=Standardised(), advantage_clip=UNCLIPPED, **ALL_STEPS),
            reward=QUADRATIC,
            target=lambda _, reference: optima.best_reward(reference, QUADRATIC),
        ),
        OnChain(name="ddpo", algorithm=ddpo(), reward=QUADRATIC, beta=1.0, target=controlled("local")),
        OnChain(
            name="dpok, local KL, critic",
            algorithm=dpok(kl_mode="local", critic=True),
            reward=QUADRATIC,
            beta=1.0,
            target=controlled("local"),
        ),
        OnChain(
            name="dpok, return-to-go KL, critic",
            algorithm=dpok(kl_mode="return_to_go", critic=True),
            reward=QUADRATIC,
            beta=1.0,
            target=controlled("return_to_go"),
        ),
        OnChain(
            name="dpok, return-to-go KL",
            algorithm=dpok(kl_mode="return_to_go", critic=False),
            reward=LINEAR,
            beta=1.0,
            target=controlled("return_to_go", LINEAR),
        ),
        OnChain(
            name="rwr, two rounds",
            algorithm=RWR(temperature=2.0, noisings=11),
            reward=QUADRATIC,
            target=lambda policy, reference: optima.refit_rounds(
                policy_sampler(policy), reference, QUADRATIC, optima.standardised(2.0), 2
            )[-1],
            loop={**fit, "iterations": 2, "fresh_optimizer": True},
        ),
        OnChain(
            name="rwr_sparse, one round",
            algorithm=RWRSparse(quantile=0.3, noisings=11),
            reward=LINEAR,
            target=lambda policy, reference: optima.refit_rounds(
                policy_sampler(policy), reference, LINEAR, optima.best(0.7), 1
            )[-1],
            loop={**fit, "fresh_optimizer": True},
        ),
        OnChain(
            name="sft_kl_d",
            algorithm=SupervisedKLD(gamma=0.5, noisings=11),
            reward=LINEAR,
            lift=1.0,
            target=lambda policy, reference: optima.sft_kl_d(policy_sampler(policy), reference, lifted, 0.5),
            loop=fit,
        ),
        OnChain(
            name="sft_kl_o",
            algorithm=SupervisedKLO(gamma=0.5, noisings=11),
            reward=LINEAR,
            lift=1.0,
            target=lambda policy, reference: optima.sft_kl_o(policy_sampler(policy), reference, lifted, 0.5),
            loop=fit,
        ),
    ]
    chain += [
        OnChain(
            name=f"rgdm, {guidance}",
            algorithm=rgdm(guidance=guidance, kl_weight=0.5),
            reward=LINEAR,
            target=lambda policy, reference: optima.rgdm(
                policy_sampler(policy), reference, 1.0, PULLS["radius"], PULLS["temperature"], 0.5
            ),
            loop={"optimizer": partial(torch.optim.SGD, lr=5.0), "rollouts": 256, "iterations": 30},
        )
        for guidance in ("candidates", "gradient")
    ]
    network: dict[str, Any] = {
        "iterations": 200,
        "rollouts": 512,
        "minibatch": 2560,
        "optimizer": partial(torch.optim.Adam, lr=2e-3),
        "clip_norm": 10.0,
    }
    mixture = [
        OnMixture(
            name="dpok, return-to-go KL, critic",
            algorithm=replace(dpok(kl_mode="return_to_go", critic=True), clip=0.5),
            reward=QUADRATIC,
            beta=1.0,
            loop=network,
        )
    ]
    return [*chain, *mixture]


def lifted(x: Tensor) -> Tensor:
    """The linear reward of the supervised methods."""
    return LINEAR(x) + 1.0


def policy_sampler(policy: Policy) -> Any:
    """The chain that an oracle's policy runs on."""
    return policy.sampler


def rows(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """As plain values."""
    return [asdict(outcome) for outcome in outcomes]
