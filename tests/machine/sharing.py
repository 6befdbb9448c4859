"""Short runs that must come out the same from one process and from several, and the script that launchers start.

`python sharing.py FOLDER` leaves samples, rewards, weights and metrics of every case there, by process, and then makes
a run of molecules in FOLDER/run.

The cases are computed in float64. There the order of a sum moves the last of 16 digits: one bound lies far above what
any CPU's kernels make of the same sum, and far below what a missing contribution makes of it. In float32 no bound does.
An adaptive optimiser divides each gradient by its own size, so it moves a weight whose gradient is rounding noise as
far as any other. In float64 that noise is smaller than Adam's eps by eight orders, and nothing moves.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from command import QUICK_RUN
from safetensors.torch import save_file
from test_finetune import ALGORITHMS, CANDIDATES, STEPS, finetuning, untimed
from torch import Tensor
from toy import lifted, number_task

from molrl.advantages import GroupRelative
from molrl.algos import Algorithm
from molrl.algos.ddpo import DDPO
from molrl.algos.rgdm import RGDM
from molrl.cli import main
from molrl.diversity import Diversity
from molrl.diversity.buckets import BucketPenalty
from molrl.diversity.frequencies import InverseFrequency
from molrl.finetune import finetune, freeze_copy
from molrl.gaussian import Context
from molrl.machine.processes import SINGLE_PROCESS, Processes, connect_processes
from molrl.noise import Key
from molrl.oracle.linear_gaussian import AffineDenoiser, Points, Values, make_sampler
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.task import Metrics, Task
from molrl.trainable_parameters import trainable_module

NAN = float("nan")
WAIT = 200.0  # seconds; all the processes of a test share few cores
MOLECULES = ("algo=dpok", *QUICK_RUN, "optimizer._target_=torch.optim.SGD", "optimizer.lr=0.003")


class Wide(DDIM):
    """DDIM on states of float64: the prior's type is that of the whole chain."""

    def prior(self, noise: Tensor, context: Context) -> Tensor:
        return super().prior(noise.double(), context)


def widened(sampler: DDIM) -> Wide:
    return Wide(**{field.name: getattr(sampler, field.name) for field in fields(sampler)})


def wide_policy() -> Policy:
    sampler = widened(make_sampler())
    return Policy(AffineDenoiser(sampler, torch.float64), sampler)


def wide_task(reward: Callable[[Sequence[Any]], Tensor]) -> Task:
    """Return the oracle in float64; draws and rewards are float32 by contract."""
    return replace(number_task(reward), policy=wide_policy(), value_network=lambda: Values().double())


class Case(NamedTuple):
    """An algorithm, settings of the loop, which samples lose their reward, and how variety is kept."""

    algorithm: Algorithm
    settings: Mapping[str, Any] = {}
    lost: Callable[[Tensor], Tensor] | None = None
    diversity: Callable[[], Diversity] | None = None


@dataclass(frozen=True)
class Numbered(Points):
    """A decoder whose sample is a number and its own index; every third has the same context."""

    descriptors = ("bucket",)

    def describe(self, samples: Sequence[Any]) -> list[Mapping[str, str]]:
        return [{"bucket": f"{sample[0].item():.0f}"} for sample in samples]

    def decode(self, x0: Tensor, context: Context) -> Sequence[Any]:
        return list(torch.cat([x0, context["sample"].unsqueeze(1).to(x0)], 1))

    def groups(self, context: Context) -> Sequence[int]:
        return (context["sample"] % 3).tolist()


def kept_diversity() -> Diversity:
    frequency = InverseFrequency(["bucket"], "reference", reference_samples=32, strength=1.0, decay=0.5, cap=3.0)
    return Diversity(None, BucketPenalty("bucket", 20.0, 0.5), frequency)


def second_half(samples: Tensor) -> Tensor:
    """Mark the samples that the second of two processes draws, of every 16."""
    return samples % 16 >= 8


def every_third(samples: Tensor) -> Tensor:
    return samples % 3 == 0


GROUPS = DDPO(clip=0.2, advantage_clip=5.0, advantage=GroupRelative(5), kl_weight=0.1, **STEPS)
CASES = {
    **{name: Case(algorithm) for name, algorithm in ALGORITHMS.items()},
    "groups": Case(GROUPS, {"rollouts": 15}),  # shares of 5 and 10
    "odd": Case(ALGORITHMS["RGDM"], {"rollouts": 13, "minibatch": 3, "epochs": 2}),  # minibatches all of one process
    "gradient": Case(RGDM(source="policy", guidance="gradient", **CANDIDATES)),
    "microbatch": Case(ALGORITHMS["DPOK"], {"microbatch": 5}),
    "one without rows": Case(ALGORITHMS["DDPO"], {"lost_limit": 0.6}, second_half),
    **{
        f"{name}, lost": Case(ALGORITHMS[name], lost=every_third)
        for name in ("DDPO-SF", "DPOK-full", "GRPO", "RGDM", "RWR")
    },
    **{f"{name}, kept": Case(ALGORITHMS[name], diversity=kept_diversity) for name in ("DDPO", "RGDM")},
    "KL budget": Case(ALGORITHMS["DDPO"], {"kl_round": 0.01, "kl_total": 0.02, "epochs": 2}),
    "fresh": Case(ALGORITHMS["RWR"], {"fresh_optimizer": True, "optimizer": partial(torch.optim.SGD, lr=0.1)}),
}


class Result(NamedTuple):
    tensors: dict[str, Tensor]
    metrics: list[Metrics]


def outcome(case: Case, world: Processes = SINGLE_PROCESS) -> Result:
    """Return the samples before training, and the weights after three rounds of three or more updates."""

    def reward(samples: Sequence[Tensor]) -> Tensor:
        numbers = torch.stack(list(samples))
        values = lifted(list(numbers[:, :1]))
        return values if case.lost is None else values.masked_fill(case.lost(numbers[:, 1].long()), NAN)

    reward.differentiable = True  # type: ignore[attr-defined]
    task = replace(wide_task(reward), decoder=Numbered(), processes=world)
    drawn = task.rollout(list(range(16)), Key(5))
    seen: list[Metrics] = []
    loop = finetuning(**case.settings)
    kept = case.diversity and case.diversity()
    finetune(loop, task, case.algorithm, freeze_copy(wide_policy()), None, seen.append, diversity=kept)
    tensors = {"samples": torch.stack(list(drawn.samples)), "rewards": drawn.rewards}
    return Result({**tensors, **trainable_module(task.policy).state_dict()}, untimed(seen))


def write_cases(folder: Path) -> None:
    """Run every case in the processes that a launcher started, and write the outcomes."""
    with connect_processes(WAIT) as world:
        for name, case in CASES.items():
            tensors, metrics = outcome(case, world)
            save_file(tensors, folder / f"{name}.{world.rank}.safetensors")
            (folder / f"{name}.{world.rank}.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    write_cases(Path(sys.argv[1]))
    sys.exit(main(["train", f"run={sys.argv[1]}/run", *MOLECULES]))
