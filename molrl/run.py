"""One fine-tuning run in one folder: measured before, trained, measured after on the same noise, reported."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn

from molrl.algos import Algorithm
from molrl.building import build
from molrl.config import ConfigError, check_type, settings
from molrl.diagnostics import chain_kl, probe_rollouts
from molrl.domains import Domain, PolicySettings, domain, refuse_other_kind
from molrl.finetune import FinetuneConfig, check_setup, finetune, freeze_copy
from molrl.machine.device import autocast_dtype, choose_device
from molrl.machine.files import replace_file
from molrl.machine.interruption import SIGTERM_EXIT_CODE, Request, Terminated, defer_interruption, exit_code
from molrl.machine.memory import enough_memory
from molrl.machine.printable import muted
from molrl.machine.processes import SINGLE_PROCESS, Processes, connect_processes, place_of_process
from molrl.noise import Key
from molrl.policy import Policy
from molrl.reward_queue import explain_losses
from molrl.runs.checkpoints import CHECKPOINTS, CheckpointPolicy, Series
from molrl.runs.errors import CheckpointError
from molrl.runs.folder import SUMMARY, claim, dated_folder, describe_finished, headline
from molrl.runs.report import write_report
from molrl.runs.snapshot import seed_generators
from molrl.runs.tracking import Tracker, read_metrics
from molrl.task import Reward, SampleDecoder, Task, open_reward
from molrl.trainable_parameters import trainable_module

EVALUATION_STREAM = 2**62  # of the noise that before and after are measured on; training never draws from it
BATCH = 256
PREVIEW_COUNT = 12  # samples that are shown in the report
BEST = "best"  # folder of the best model, beside the last one's model/
OWN = {
    **{"chosen": dict, "task": dict, "policy": dict, "reward": dict, "algo": dict},
    **{"run": str | None, "device": str, "threads": int | None, "evaluate": int},
    **{"precision": Literal["float32", "bfloat16"] | None, "wait": float},
}
MIXED_PRECISION = "ACCELERATE_MIXED_PRECISION"  # environment variable that `accelerate launch` sets


@dataclass(frozen=True)
class Measurement:
    """A policy, measured on fresh samples.

    Attributes:
        n: number of samples.
        reward_mean: of those that could be scored; NaN where none could.
        reward_sem: standard error of that mean.
        metrics: held-out metrics of the domain.
        kl: of whole chains to the reference, nats.
        lost: number of samples without a reward.
        preview: the first samples, not the best ones, with their rewards.
    """

    n: int
    reward_mean: float
    reward_sem: float
    metrics: Mapping[str, float]
    kl: float
    lost: int
    preview: Sequence[tuple[Any, float]]

    def numbers(self) -> dict[str, float | None]:
        """Return the figures for a summary; what is not a number is None."""
        mean = {"n": self.n, "lost": self.lost, "reward_mean": self.reward_mean, "reward_sem": self.reward_sem}
        return {name: none_if_nan(value) for name, value in {**mean, **self.metrics, "kl": self.kl}.items()}

    def line(self, labels: Mapping[str, str]) -> str:
        """Return the reward and the metrics that have a label, as one line."""
        shown = {label: self.metrics[name] for name, label in labels.items() if name in self.metrics}
        rest = ", ".join(f"{label} {value:.3f}" for label, value in shown.items())
        scored = f"{self.n - self.lost} scored of " if self.lost else ""
        return f"reward {self.reward_mean:.4f} +- {self.reward_sem:.4f}, {rest} ({scored}n = {self.n})"

    def metric(self, name: str) -> float:
        """Return a figure by the name that it has in the metrics of a round; NaN where it is not measured."""
        return self.reward_mean if name == "reward" else {**self.metrics, "kl": self.kl}.get(name, math.nan)


@dataclass(frozen=True)
class RunSummary:
    """The summary of a finished run; summary.json has its fields in this order."""

    task: str
    reward: str
    algo: str
    seed: int
    reward_queries: int
    wall_seconds: float
    before: Mapping[str, float | None]
    after: Mapping[str, float | None]
    best: Mapping[str, Any] | None
    changes: Sequence[str]


@dataclass(frozen=True)
class Run:
    """A run that is ready to begin.

    Attributes:
        config: as composed; `run` names the folder.
        domain: of its samples.
        task: policy, decoder and reward.
        algorithm: how it learns.
        finetuning: the numbers of the loop.
    """

    config: Mapping[str, Any]
    domain: Domain
    task: Task
    algorithm: Algorithm
    finetuning: FinetuneConfig

    @property
    def chosen(self) -> Mapping[str, str]:
        """Return the names taken of the groups."""
        return cast(Mapping[str, str], self.config["chosen"])

    @property
    def decoder(self) -> SampleDecoder:
        """Return the task's decoder, which here also writes, draws and saves."""
        return cast(SampleDecoder, self.task.decoder)

    @property
    def world(self) -> Processes:
        """Return the processes that share the run."""
        return self.task.processes


def train(config: Mapping[str, Any], reward: Reward | None = None) -> int:
    """Fine-tune as `molrl train` does and return the exit code.

    Args:
        config: what `compose("train", ["algo=ddpo", ...])` gives.
        reward: in place of the configured one, any function of the finished samples; the summary has its name.

    Raises:
        ConfigError: a wrong setting; nothing has been written then.
        TrainingError: the run cannot go on.
    """
    check_own_settings(config)
    if reward is not None:
        name = callable_name(reward)
        config = {**config, "chosen": {**config["chosen"], "reward": name}, "reward": {"function": name}}
    if state := describe_finished(config):
        print(state)
        return 0
    with connect_processes(config["wait"]) as world, muted(not world.is_main):
        return run_rank(config, reward, world)


def run_rank(config: Mapping[str, Any], reward: Reward | None, world: Processes) -> int:
    """Do the part of one process in a run and return the exit code; the main process writes the files."""
    run = prepare(config, reward, world)
    began = time.perf_counter()
    claimed = claim(run.config) if world.is_main else contextlib.nullcontext(Path(run.config["run"]))
    with claimed as folder, open_reward(run.task.reward):
        series = Series(folder / CHECKPOINTS, run.finetuning.keep.newest)
        start = last.step if world.is_main and (last := series.latest()) else 0
        reference = freeze_copy(run.task.policy)
        print(f"{folder}: {title(run, start)}")
        before = measure(run, reference, reference, folder, "before")
        if before.n == before.lost:
            if world.is_main:
                reason = explain_losses(run.task.reward, *zip(*before.preview, strict=True))
                print(f"molrl: none of {before.n} samples could be scored: {reason}", file=sys.stderr)
            return 3
        print(f"before: {before.line(run.domain.headline)}")
        try:
            learn(run, reference, before, folder, start)
        except KeyboardInterrupt as stop:
            report_interruption(run, series, folder)
            return exit_code(stop)
        after = measure(run, run.task.policy, reference, folder, "after")
        if not world.is_main:
            return 0
        run.decoder.save(trainable_module(run.task.policy), folder / "model")
        best = save_best(run, series, after)
    report(run, folder, before, after, best, time.perf_counter() - began, start)
    return 0


def prepare(config: Mapping[str, Any], reward: Reward | None = None, world: Processes = SINGLE_PROCESS) -> Run:
    """Build a run from its settings. All of them are checked here, before anything is written.

    Raises:
        ConfigError: a wrong setting, or a reward of other samples than the policy draws.
    """
    algorithm = build(config["algo"], "algo")
    loop = {name: value for name, value in config.items() if name not in OWN}
    finetuning = build({"_target_": "molrl.finetune.FinetuneConfig", **loop}, "")
    seed_generators(finetuning.seed, world.rank)  # before anything is built that may draw from them
    with settings("optimizer"):
        finetuning.optimizer([nn.Parameter(torch.zeros(1))])
    with settings():
        place = place_of_process(choose_device(config["device"]))
    scorer = build(config["reward"], "reward") if reward is None else reward
    policy: PolicySettings = build(config["policy"], "policy")
    refuse_other_kind(scorer, policy)
    task = build(config["task"], "task", policy=policy, device=place, reward=scorer)
    world = replace(world, lockstep=getattr(task.policy.denoiser, "sharded", False))
    task = replace(task, processes=world, policy=replace(task.policy, autocast=precision(config)))
    with settings():
        check_setup(finetuning, task, algorithm)
        world.share((config["evaluate"] - 1) % BATCH + 1)  # of the last batch, the smallest
    names = dict.fromkeys((task.name, callable_file(config["chosen"]["reward"])))  # once where they are the same
    config = {**config, "run": config["run"] or world.gather_strings(dated_folder("_".join(names)))[0]}
    return Run(config, domain(policy.domain), task, algorithm, finetuning)


def learn(run: Run, reference: Policy, before: Measurement, folder: Path, start: int) -> None:
    """Fine-tune, with a row of metrics and a line on the screen for each round.

    Raises:
        KeyboardInterrupt: one of the processes was interrupted; the round is finished and kept.
    """
    world, untouched = run.world, {"reward_before": before.reward_mean}
    where = folder if world.is_main else None
    tracking = Tracker(where, run.finetuning.iterations, start, not world.is_main, run.domain.headline)
    memory = enough_memory("microbatch (learning) or rollouts (sampling)")
    with tracking as tracker, defer_interruption("this iteration") as request, memory:
        log = lambda row: tracker.log({**row, **untouched})  # noqa: E731
        finetune(run.finetuning, run.task, run.algorithm, reference, folder, log, request.is_set)
    propagate_interrupt(request, world)


def title(run: Run, start: int) -> str:
    """Return what the run is about, as one line."""
    about = f"task {run.task.name}, reward {run.chosen['reward']}, {run.chosen['algo']}"
    since = f", going on after {start} iterations" if start else ""
    return f"{about}, seed {run.finetuning.seed}, on {run.task.device}{since}"


def report_interruption(run: Run, series: Series, folder: Path) -> None:
    """Say what is kept of an interrupted run and how it goes on, and save its best model."""
    done = series.steps()[-1] if series.steps() else 0
    kept = f"{done} of {run.finetuning.iterations} iterations are kept"
    print(f"\ninterrupted: {kept}; molrl train resume={folder} goes on, or the same command with run={folder}")
    if run.world.is_main:
        save_best(run, series, None)


def report(
    run: Run,
    folder: Path,
    before: Measurement,
    after: Measurement,
    best: Mapping[str, Any] | None,
    seconds: float,
    start: int,
) -> None:
    """Write the report and the summary, and print what the run came to."""
    metrics = read_metrics(folder / "metrics.jsonl")
    changes = run.decoder.describe_changes(before.metrics, after.metrics, after.n)
    summary = RunSummary(
        task=run.task.name,
        reward=run.chosen["reward"],
        algo=run.chosen["algo"],
        seed=run.finetuning.seed,
        reward_queries=int(sum(row["reward_queries"] for row in metrics)),
        wall_seconds=round(seconds + sum(row["seconds"] for row in metrics[:start]), 1),
        before=before.numbers(),
        after=after.numbers(),
        best=best,
        changes=changes,
    )
    fields = asdict(summary)
    images = {name: run.decoder.draw(*captioned(one)) for name, one in (("before", before), ("after", after))}
    write_report(folder, fields, metrics, images, run.domain.headline)
    replace_file(folder / SUMMARY, (json.dumps(fields, indent=1) + "\n").encode())
    print(f"after:  {after.line(run.domain.headline)}\n{headline(fields)}")
    for change in changes:
        print(f"changed: {change}")
    print(f"report: {folder / 'report.html'}")
    if best and best["iteration"] < run.finetuning.iterations:
        print(f"best:   {folder / BEST}, after {best['iteration']} iterations ({best['metric']} {best['value']:.4f})")


def propagate_interrupt(request: Request, world: Processes) -> None:
    """Raise the interruption that any of the processes was sent: where one is interrupted, all are."""
    code = int(world.gather(torch.tensor([exit_code(request.error) if request.error else 0])).max())
    if code:
        raise Terminated if code == SIGTERM_EXIT_CODE else KeyboardInterrupt


def check_own_settings(config: Mapping[str, Any]) -> None:
    """Check the settings of the run itself, those that nothing is built from.

    Raises:
        ConfigError: one is missing or wrong.
    """
    for name, kind in OWN.items():
        if name not in config:
            raise ConfigError(f"{name}: missing")
        check_type(config[name], kind, name)
    if config["evaluate"] < 2:
        raise ConfigError(f"evaluate: got {config['evaluate']}, need at least 2")
    if config["wait"] <= 0:
        raise ConfigError(f"wait: got {config['wait']}, need a number of seconds above 0")


def precision(config: Mapping[str, Any]) -> torch.dtype | None:
    """Return what the network computes in; None: float32, as everything else."""
    launched_with = os.environ.get(MIXED_PRECISION, "no")
    if config["precision"] is None and launched_with not in ("no", "bf16"):
        raise ConfigError(f"accelerate was told mixed_precision={launched_with}: molrl knows no and bf16")
    name = config["precision"] or {"no": "float32", "bf16": "bfloat16"}[launched_with]
    return autocast_dtype(name)


def callable_name(reward: Reward) -> str:
    """Return the name of a function, or of the class of a callable."""
    return str(getattr(reward, "__name__", type(reward).__name__))


def callable_file(name: str) -> str:
    """Return the name of a reward as part of a file name: of code the object's."""
    return name.rpartition(":")[2]


def measure(run: Run, policy: Policy, reference: Policy, folder: Path, when: str) -> Measurement:
    """Draw `evaluate` fresh samples, write them, and measure what they are worth and how far from the reference.

    The noise depends on the seed alone: before and after are measured on the same.
    """
    config, task = run.config, replace(run.task, policy=policy)
    key, count = Key(config["seed"], stream=EVALUATION_STREAM), config["evaluate"]
    samples: list[Any] = []
    rewards, kls = list[float](), list[float]()
    for start in range(0, count, BATCH):
        rollouts = task.rollout(list(range(start, min(start + BATCH, count))), key)
        samples.extend(rollouts.samples)
        rewards.extend(rollouts.rewards.tolist())
        kls.append(chain_kl(policy, reference, probe_rollouts(rollouts), task.processes))
    if run.world.is_main:
        path = folder / "samples" / f"{when}{run.decoder.suffixes[0]}"
        path.parent.mkdir(exist_ok=True)
        run.decoder.write(samples, path, {"reward": rewards})
    scored = np.array([reward for reward in rewards if not math.isnan(reward)])
    return Measurement(
        n=count,
        reward_mean=float(scored.mean()) if len(scored) else math.nan,
        reward_sem=float(scored.std(ddof=1)) / math.sqrt(len(scored)) if len(scored) > 1 else math.nan,
        metrics=run.decoder.assess(samples),
        kl=sum(kls) / len(kls),
        lost=count - len(scored),
        preview=list(zip(samples[:PREVIEW_COUNT], rewards[:PREVIEW_COUNT], strict=True)),
    )


def save_best(run: Run, series: Series, after: Measurement | None) -> dict[str, Any] | None:
    """Write the model of the best checkpoint and return which it is; None where no round has told of any.

    A round tells of the weights it sampled with. The last weights are told of by the measurement `after`, if that has
    the metric. This changes the task's denoiser.
    """
    if (last := series.latest()) is None:
        return None
    keep: CheckpointPolicy = run.finetuning.keep
    best: tuple[int, float] | None = last.values["progress"]["best"]
    final = math.nan if after is None else after.metric(keep.best)
    if best is None and math.isnan(final):
        return None
    if best is None or keep.improves(final, best[1]):
        best = last.step, final
    try:
        state = (last if best[0] == last.step else series.read(best[0])).tensors["denoiser"]
    except CheckpointError as error:
        print(f"molrl: the best checkpoint is lost: {error}", file=sys.stderr)
        return None
    trainable_module(run.task.policy).load_state_dict(state)
    run.decoder.save(trainable_module(run.task.policy), series.folder.parent / BEST)
    return {"iteration": best[0], "metric": keep.best, "value": best[1]}


def none_if_nan(value: float) -> float | None:
    """Return a number, or None for what is not one."""
    return None if isinstance(value, float) and math.isnan(value) else value


def captioned(measurement: Measurement) -> tuple[Sequence[Any], list[str]]:
    """Return the samples of a preview and their rewards as captions."""
    return [sample for sample, _ in measurement.preview], [f"{reward:.3g}" for _, reward in measurement.preview]
