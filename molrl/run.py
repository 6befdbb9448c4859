"""One fine-tuning run in one folder: measured before, trained, measured after on the same noise, reported."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from torch import nn

from molrl.algos import Algorithm
from molrl.config import ConfigError, build, check_type, settings
from molrl.diagnostics import chain_kl, probed
from molrl.finetune import Finetuning, frozen, trainable
from molrl.machine.device import choose_device
from molrl.machine.interruption import TERMINATED, Request, Terminated, exit_code, patient
from molrl.machine.memory import enough_memory
from molrl.machine.processes import ALONE, Processes, launched, place_of_process
from molrl.noise import Key
from molrl.policy import Policy
from molrl.runs.checkpoint import CheckpointError
from molrl.runs.checkpoints import CHECKPOINTS, CheckpointPolicy, Series
from molrl.runs.folder import SUMMARY, claim, dated, finished, headline, write_whole
from molrl.runs.report import write_report
from molrl.runs.tracking import Tracker, read_metrics
from molrl.task import Decoder, Reward, Task, opened

FRESH = 2**62  # stream of the noise that before and after are measured on; training never draws from it
BATCH = 256
SHOWN = 12
BEST = "best"  # folder of the best model, beside the last one's model/
OWN = {
    **{"chosen": dict, "task": dict, "reward": dict, "algo": dict},
    **{"run": str | None, "device": str, "threads": int | None, "evaluate": int},
    **{"precision": Literal["float32", "bfloat16"] | None, "wait": float},
}
LAUNCHED = "ACCELERATE_MIXED_PRECISION"  # what `accelerate launch` was told, by environment variable


class Showable(Decoder, Protocol):
    """A domain whose samples and models can be shown and kept."""

    @property
    def suffix(self) -> str:
        """Of the files that `write` makes."""
        ...

    def write(self, samples: Sequence[Any], path: Path, values: Mapping[str, Sequence[float]]) -> None:
        """A file of finished samples in the domain's own format, each with its values."""
        ...

    def assess(self, samples: Sequence[Any]) -> Mapping[str, float]:
        """What is said of the samples before and after a run: `measure`, where that leaves nothing out for speed."""
        ...

    def draw(self, samples: Sequence[Any], captions: Sequence[str]) -> Any:
        """One image (PIL) of the samples in a grid."""
        ...

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """A model folder that the domain can load again."""
        ...


def train(config: Mapping[str, Any], reward: Reward | None = None) -> int:
    """`molrl train`: returns the exit code.

    Args:
        config: what `compose("train", ["algo=ddpo", ...])` gives.
        reward: in place of the configured one, any function of the finished samples; the summary has its name.

    Raises:
        ConfigError: a wrong setting; nothing has been written then.
        TrainingError: the run cannot go on.
    """
    refuse_unfit(config)
    if reward is not None:
        name = callable_name(reward)
        config = {**config, "chosen": {**config["chosen"], "reward": name}, "reward": {"function": name}}
    if said := finished(config):
        print(said)
        return 0
    with launched(config["wait"]) as world, muted(not world.is_main):
        return run_rank(config, reward, world)


def run_rank(config: Mapping[str, Any], reward: Reward | None, world: Processes) -> int:
    """What each process does of a run; the first one writes the files."""
    task, algorithm, finetuning = parts(config, reward, world)
    chosen = config["chosen"]
    names = dict.fromkeys((task.name, chosen["reward"]))  # once where they are the same
    config = {**config, "run": config["run"] or world.gather_strings(dated("_".join(names)))[0]}
    began = time.perf_counter()
    claimed = claim(config) if world.is_main else contextlib.nullcontext(Path(config["run"]))
    with claimed as folder, opened(task.reward):
        series = Series(folder / CHECKPOINTS, finetuning.keep.newest)
        start = last.step if world.is_main and (last := series.latest()) else 0
        reference, suffix = frozen(task.policy), showable(task).suffix
        what = f"task {task.name}, reward {chosen['reward']}, {chosen['algo']}"
        since = f", going on after {start} iterations" if start else ""
        print(f"{folder}: {what}, seed {finetuning.seed}, on {task.device}{since}")
        before = measure(task, reference, reference, folder / "samples" / f"before{suffix}", config)
        if before["n"] == before["lost"]:
            print(f"molrl: none of {before['n']} samples could be scored", file=sys.stderr)
            return 3
        print(f"before: {summary_line(before)}")
        try:
            tracking = Tracker(folder if world.is_main else None, finetuning.iterations, start, not world.is_main)
            with tracking as tracker, patient("this iteration") as request:
                untouched = {"reward_before": before["reward_mean"]}
                log = lambda row: tracker.log({**row, **untouched})  # noqa: E731
                with enough_memory("microbatch (learning) or rollouts (sampling)"):
                    finetuning.run(task, algorithm, reference, folder, log, request.is_set)
            propagate_interrupt(request, world)
        except KeyboardInterrupt as stop:
            done = series.steps()[-1] if series.steps() else 0
            kept = f"{done} of {finetuning.iterations} iterations are kept"
            print(
                f"\ninterrupted: {kept}; molrl train resume={folder} goes on from there, or the same settings with run="
            )
            if world.is_main:
                save_best(task, finetuning.keep, series, None)
            return exit_code(stop)
        after = measure(task, task.policy, reference, folder / "samples" / f"after{suffix}", config)
        if not world.is_main:
            return 0
        showable(task).save(trainable(task.policy), folder / "model")
        best = save_best(task, finetuning.keep, series, after)
    metrics = read_metrics(folder / "metrics.jsonl")
    summary = {
        "task": task.name,
        "reward": chosen["reward"],
        "algo": chosen["algo"],
        "seed": finetuning.seed,
        "reward_queries": int(sum(row["reward_queries"] for row in metrics)),
        "wall_seconds": round(time.perf_counter() - began + sum(row["seconds"] for row in metrics[:start]), 1),
        "before": figures(before),
        "after": figures(after),
        "best": best,
    }
    images = {name: showable(task).draw(*shown(found)) for name, found in (("before", before), ("after", after))}
    write_report(folder, summary, metrics, images)
    write_whole(folder / SUMMARY, (json.dumps(summary, indent=1) + "\n").encode())
    print(f"after:  {summary_line(after)}\n{headline(summary)}\nreport: {folder / 'report.html'}")
    if best and best["iteration"] < finetuning.iterations:
        print(f"best:   {folder / BEST}, after {best['iteration']} iterations ({best['metric']} {best['value']:.4f})")
    return 0


def propagate_interrupt(request: Request, world: Processes) -> None:
    """Raise what any of the processes was asked: where one is interrupted, all are."""
    code = int(world.gather(torch.tensor([exit_code(request.error) if request.error else 0])).max())
    if code:
        raise Terminated if code == TERMINATED else KeyboardInterrupt


def refuse_unfit(config: Mapping[str, Any]) -> None:
    """The settings of the run itself, those that nothing is built from."""
    for name, kind in OWN.items():
        if name not in config:
            raise ConfigError(f"{name}: missing")
        check_type(config[name], kind, name)
    if config["evaluate"] < 2:
        raise ConfigError(f"evaluate: got {config['evaluate']}, need at least 2")
    if config["wait"] <= 0:
        raise ConfigError(f"wait: got {config['wait']}, need a number of seconds above 0")


@contextlib.contextmanager
def muted(quiet: bool) -> Iterator[None]:
    """Nothing is printed in here but errors, where one process speaks for all."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere if quiet else sys.stdout):
        yield


def precision(config: Mapping[str, Any]) -> torch.dtype | None:
    """What the network computes in; None: float32, as everything else."""
    told = os.environ.get(LAUNCHED, "no")
    if config["precision"] is None and told not in ("no", "bf16"):
        raise ConfigError(f"accelerate was told mixed_precision={told}: molrl knows no and bf16")
    asked = config["precision"] or {"no": "float32", "bf16": "bfloat16"}[told]
    return None if asked == "float32" else torch.bfloat16


def parts(
    config: Mapping[str, Any], reward: Reward | None, world: Processes = ALONE
) -> tuple[Task, Algorithm, Finetuning]:
    """What a run is made of. All their settings are checked here, before anything is written."""
    algorithm = build(config["algo"], "algo")
    loop = {name: value for name, value in config.items() if name not in OWN}
    finetuning = build({"_target_": "molrl.finetune.Finetuning", **loop}, "")
    with settings("optimizer"):
        finetuning.optimizer([nn.Parameter(torch.zeros(1))])
    with settings():
        place = place_of_process(choose_device(config["device"]))
    asked = build(config["reward"], "reward") if reward is None else reward
    task = build(config["task"], "task", device=place, reward=asked)
    world = replace(world, lockstep=getattr(task.policy.denoiser, "sharded", False))
    task = replace(task, processes=world, policy=replace(task.policy, autocast=precision(config)))
    with settings():
        finetuning.check(task, algorithm)
        world.share((config["evaluate"] - 1) % BATCH + 1)  # of the last batch, the smallest
    return task, algorithm, finetuning


def callable_name(reward: Reward) -> str:
    """The name of a function, or of the class of a callable."""
    return str(getattr(reward, "__name__", type(reward).__name__))


def measure(task: Task, policy: Policy, reference: Policy, path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Sample `evaluate` fresh samples, write them, and say what they are worth and how far from the reference.

    The noise depends on the seed alone: before and after are measured on the same.
    """
    key, count = Key(config["seed"], stream=FRESH), config["evaluate"]
    measured = replace(task, policy=policy)
    samples: list[Any] = []
    rewards, kls = list[float](), list[float]()
    for start in range(0, count, BATCH):
        rollouts = measured.rollout(list(range(start, min(start + BATCH, count))), key)
        samples.extend(rollouts.samples)
        rewards.extend(rollouts.rewards.tolist())
        kls.append(chain_kl(policy, reference, probed(rollouts), task.processes))
    if task.processes.is_main:
        path.parent.mkdir(exist_ok=True)
        showable(task).write(samples, path, {"reward": rewards})
    known = np.array([reward for reward in rewards if not math.isnan(reward)])
    return {
        "n": count,
        "reward_mean": float(known.mean()) if len(known) else math.nan,
        "reward_sem": float(known.std(ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else math.nan,
        **showable(task).assess(samples),
        "kl": sum(kls) / len(kls),
        "lost": count - len(known),
        "samples": samples[:SHOWN],
        "rewards": rewards[:SHOWN],
    }


def save_best(
    task: Task, keep: CheckpointPolicy, series: Series, after: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Write the model of the best checkpoint and say which it is; None where no round has told of any.

    A round tells of the weights it sampled with. The last weights are told of by the measurement `after`, if that has
    the metric. This changes the task's denoiser.
    """
    if (last := series.latest()) is None:
        return None
    found: tuple[int, float] | None = last.values["progress"]["best"]
    final = math.nan if after is None else after.get({"reward": "reward_mean"}.get(keep.best, keep.best), math.nan)
    if found is None and math.isnan(final):
        return None
    if found is None or keep.better(final, found[1]):
        found = last.step, final
    try:
        state = (last if found[0] == last.step else series.read(found[0])).tensors["denoiser"]
    except CheckpointError as error:
        print(f"molrl: the best checkpoint is lost: {error}", file=sys.stderr)
        return None
    trainable(task.policy).load_state_dict(state)
    showable(task).save(trainable(task.policy), series.folder.parent / BEST)
    return {"iteration": found[0], "metric": keep.best, "value": found[1]}


def showable(task: Task) -> Showable:
    """The task's decoder, as `molrl train` needs it."""
    return cast(Showable, task.decoder)


def figures(found: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a measurement; what is not a number is null."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in found.items()
        if name not in ("lost", "samples", "rewards")
    }


def shown(found: Mapping[str, Any]) -> tuple[Sequence[Any], list[str]]:
    """The first samples and their rewards as captions: not the best ones."""
    return found["samples"], [f"{reward:.3g}" for reward in found["rewards"]]


def summary_line(found: Mapping[str, Any]) -> str:
    """One line of the figures that matter most."""
    names = (
        "validity",
        "uniqueness",
        "novelty",
        "atom_stability",
        "molecule_stability",
        "one_nna",
        "diversity",
        "stable_fraction",
    )
    rest = ", ".join(f"{name.replace('_', ' ')} {found[name]:.3f}" for name in names if found.get(name) is not None)
    return f"reward {found['reward_mean']:.4f} +- {found['reward_sem']:.4f}, {rest} (n = {found['n']})"
