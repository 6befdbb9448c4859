"""One fine-tuning run in one folder: measured before, trained, measured after on the same noise, reported."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from molrl.algos import Algorithm
from molrl.best import BEST, BestModel
from molrl.building import build
from molrl.compilation import compile_blocks, prepare_to_compile
from molrl.config import ConfigError, check_type, settings
from molrl.diversity import Diversity
from molrl.diversity.fitting import fit_to_task
from molrl.domains import Domain, PolicySettings, domain, refuse_other_kind
from molrl.exit_codes import ExitCode
from molrl.finetune import FinetuneConfig, check_setup, finetune, freeze_copy
from molrl.machine.device import choose_device, describe_device, warn_of_slow_bfloat16
from molrl.machine.files import replace_file
from molrl.machine.interruption import Request, Terminated, defer_interruption, exit_code
from molrl.machine.memory import enough_memory
from molrl.machine.printable import muted
from molrl.machine.processes import SINGLE_PROCESS, Processes, connect_processes, place_of_process
from molrl.machine.threads import torch_threads
from molrl.measurement import BATCH, PREVIEW_COUNT, Measurement, measure
from molrl.noise import Key, Stream
from molrl.policy import Policy
from molrl.precision import decide_precision, precision
from molrl.progress import stage
from molrl.reward_queue import explain_losses
from molrl.runs.boards import BoardSettings
from molrl.runs.card import write_cards
from molrl.runs.checkpoints import CHECKPOINTS, Series
from molrl.runs.folder import SUMMARY, claim, dated_folder, describe_finished, headline, resuming
from molrl.runs.report import REPORT, LiveReport, write_figure, write_report
from molrl.runs.report.about import write_about
from molrl.runs.snapshot import seed_generators
from molrl.runs.tracking import METRICS_FILE, Tracker, read_metrics
from molrl.task import Reward, Rollouts, SampleDecoder, Task, open_reward
from molrl.trainable_parameters import trainable_module

OWN = {
    **{
        "chosen": dict,
        "task": dict,
        "policy": dict,
        "reward": dict,
        "algo": dict,
        "diversity": dict | None,
        "tracker": dict | None,
    },
    **{"run": str | None, "device": str, "threads": int | None, "evaluate": int},
    **{"precision": Literal["float32", "bfloat16", "auto"] | None, "compile": Literal["auto"] | bool},
    **{"wait": float, "minutes": float | None},
}
IMAGE_ROUNDS = 10  # between images of samples on the boards


@dataclass(frozen=True)
class RunSummary:
    """The summary of a run that ended; summary.json has its fields in this order.

    Attributes:
        iterations: rounds behind the model.
        ended: why it ended.
    """

    task: str
    reward: str
    algo: str
    seed: int
    iterations: int
    ended: str
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
        diversity: how variety is kept; None: not at all.
        tracker: a board besides TensorBoard; None: none.
    """

    config: Mapping[str, Any]
    domain: Domain
    task: Task
    algorithm: Algorithm
    finetuning: FinetuneConfig
    diversity: Diversity | None = None
    tracker: BoardSettings | None = None

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
    with torch_threads(config["threads"]), connect_processes(config["wait"]) as world, muted(not world.is_main):
        return run_rank(config, reward, world)


def run_rank(config: Mapping[str, Any], reward: Reward | None, world: Processes) -> int:
    """Do the part of one process in a run and return the exit code; the main process writes the files."""
    with stage("loading the model and the reward"):
        run = prepare(config, reward, world)
    began = time.perf_counter()
    claimed = claim(run.config) if world.is_main else contextlib.nullcontext(Path(run.config["run"]))
    held_out = getattr(run.algorithm, "held_out", None)
    with claimed as folder, open_reward(run.task.reward), open_reward(held_out):
        series = Series(folder / CHECKPOINTS, run.finetuning.keep.newest)
        start = last.step if world.is_main and (last := series.latest()) else 0
        reference = freeze_copy(run.task.policy)
        compile_blocks(run.task.policy, reference)
        if world.is_main:
            terms = getattr(run.domain, "glossary", {})
            write_about(folder, run.domain.headline, terms, describe_device(run.task.device))
        print(f"{folder}: {title(run, start)}")
        key = Key(run.finetuning.seed, Stream.MEASUREMENT)
        fresh = {"folder": folder, "count": run.config["evaluate"], "key": key}
        before = measure(replace(run.task, policy=reference), reference, when="before", **fresh)
        if before.n == before.lost:
            if world.is_main:
                reason = explain_losses(run.task.reward, *zip(*before.preview, strict=True))
                print(f"molrl: none of {before.n} samples could be scored: {reason}", file=sys.stderr)
            return ExitCode.NOTHING_SCORED
        print(f"before: {before.line(run.domain.headline)}", flush=True)
        best_model = BestModel(run.task, reference, series, run.finetuning.keep, before.n, run.finetuning.seed)
        try:
            done = learn(run, reference, before, folder, start, began)
        except KeyboardInterrupt as stop:
            report_interruption(run, series, best_model)
            return exit_code(stop)
        after = measure(run.task, reference, when="after", **fresh)
        if world.is_main:
            run.decoder.save(trainable_module(run.task.policy), folder / "model")
        best = best_model.save(after)
        if not world.is_main:
            return ExitCode.DONE
    with stage("report"):
        summary = summarise(run, folder, before, after, best, time.perf_counter() - began, start, done)
        write_files(run, folder, summary, {"before": before, "after": after})
    print_end(run, folder, before, after, summary)
    return ExitCode.DONE


def prepare(config: Mapping[str, Any], reward: Reward | None = None, world: Processes = SINGLE_PROCESS) -> Run:
    """Build a run from its settings. All of them are checked here, before anything is written.

    Raises:
        ConfigError: a wrong setting, or a reward of other samples than the policy draws.
    """
    algorithm, diversity = build(config["algo"], "algo"), build(config["diversity"], "diversity")
    tracker: BoardSettings | None = build(config["tracker"], "tracker")
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
    config = decide_precision(config, algorithm, place, world)
    task = replace(task, processes=world, policy=replace(task.policy, autocast=precision(config)))
    if task.policy.autocast is not None and world.is_main:
        warn_of_slow_bfloat16("precision=bfloat16", place)
    with settings():
        task = replace(task, policy=prepare_to_compile(task.policy, config["compile"], place, finetuning))
        check_setup(finetuning, task, algorithm)
        fit_to_task(task, diversity)
        world.share((config["evaluate"] - 1) % BATCH + 1)  # of the last batch, the smallest
    names = dict.fromkeys((task.name, callable_file(config["chosen"]["reward"])))  # once where they are the same
    config = {**config, "run": config["run"] or world.gather_strings(dated_folder("_".join(names)))[0]}
    return Run(config, domain(policy.domain), task, algorithm, finetuning, diversity, tracker)


def learn(run: Run, reference: Policy, before: Measurement, folder: Path, start: int, began: float) -> int:
    """Fine-tune, with a row of metrics and a line on the screen for each round; return the number of rounds done.

    The run ends after the round that passes `minutes` since `began`, if it has such a limit.

    Raises:
        KeyboardInterrupt: one of the processes was interrupted; the round is finished and kept.
    """
    world, untouched = run.world, {"reward_before": before.reward_mean}
    minutes = run.config["minutes"]
    deadline = math.inf if minutes is None else began + 60 * minutes
    tracking = Tracker(
        folder if world.is_main else None,
        run.finetuning.iterations,
        start,
        quiet=not world.is_main,
        labels=run.domain.headline,
        before=before.reward_mean,
        board=None if run.tracker is None else partial(run.tracker.open, folder, run.config, start),
    )
    memory = enough_memory("microbatch (learning) or rollouts (sampling)")
    live = LiveReport(folder)

    def log(row: Mapping[str, float | None]) -> None:
        tracker.log({**row, **untouched})

    def observe(iteration: int, rollouts: Rollouts) -> None:
        show_round(run, tracker, iteration, rollouts)
        if world.is_main:
            live.update(rollouts.samples, rollouts.scores.tolist(), run.decoder, run.task.reward)

    with tracking as tracker, defer_interruption("this iteration") as request, memory:
        tracker.show_image("samples", partial(run.decoder.draw, *before.captioned()), start)
        should_stop = lambda: request.is_set() or time.perf_counter() > deadline  # noqa: E731
        done = finetune(
            run.finetuning, run.task, run.algorithm, reference, folder, log, should_stop, run.diversity, observe
        )
    propagate_interrupt(request, world)
    return done


def show_round(run: Run, tracker: Tracker, iteration: int, rollouts: Rollouts) -> None:
    """Show the rewards of a round as a distribution, and its first samples as an image every `IMAGE_ROUNDS` rounds."""
    rewards = rollouts.scores.tolist()
    tracker.show_histogram("rewards", rewards, iteration)
    if (iteration + 1) % IMAGE_ROUNDS == 0 or iteration + 1 == run.finetuning.iterations:
        captions = [f"{reward:.3g}" for reward in rewards[:PREVIEW_COUNT]]
        draw = partial(run.decoder.draw, rollouts.samples[:PREVIEW_COUNT], captions)
        tracker.show_image("samples", draw, iteration + 1)


def title(run: Run, start: int) -> str:
    """Return what the run is about, as one line."""
    about = f"task {run.task.name}, reward {run.chosen['reward']}, {run.chosen['algo']}"
    if run.diversity is not None:
        about += f", diversity {run.chosen['diversity']}"
    since = f", going on after {start} iterations" if start else ""
    how = ", compiled, which takes the first minutes" if run.task.policy.rows else ""
    place = f"{run.task.device}{', in bfloat16' if run.task.policy.autocast is not None else ''}"
    return f"{about}, seed {run.finetuning.seed}, on {place}{how}{since}"


def report_interruption(run: Run, series: Series, best_model: BestModel) -> None:
    """Say what is kept of an interrupted run and how it goes on, and save its best model."""
    done = series.steps()[-1] if series.steps() else 0
    kept = f"{done} of {run.finetuning.iterations} iterations are kept"
    print(f"\ninterrupted: {kept}; to go on: {resuming(run.config)}")
    if run.world.is_main:
        best_model.save(None)
        write_report(series.folder.parent, {})  # it has no summary


def summarise(
    run: Run,
    folder: Path,
    before: Measurement,
    after: Measurement,
    best: Mapping[str, Any] | None,
    seconds: float,
    start: int,
    done: int,
) -> RunSummary:
    """Return the summary of a run that began this time after round `start` and ended after round `done`."""
    metrics, total = read_metrics(folder / METRICS_FILE), run.finetuning.iterations
    cause = f"minutes={run.config['minutes']} passed"
    if metrics and metrics[-1].get("stop"):
        cause = "the held-out reward fell while the reward rose,"
    early = f"{cause} after {done} of {total} iterations"
    return RunSummary(
        task=run.task.name,
        reward=run.chosen["reward"],
        algo=run.chosen["algo"],
        seed=run.finetuning.seed,
        iterations=done,
        ended=f"all {total} iterations are done" if done == total else early,
        reward_queries=int(sum(row["reward_queries"] for row in metrics)),
        wall_seconds=round(seconds + sum(row["seconds"] for row in metrics[:start]), 1),
        before=before.numbers(),
        after=after.numbers(),
        best=best,
        changes=run.decoder.describe_changes(before.metrics, after.metrics, after.n),
    )


def write_files(run: Run, folder: Path, summary: RunSummary, ends: Mapping[str, Measurement]) -> None:
    """Write report, summary and model cards of a run that ended; `ends` are its measurements before and after."""
    fields = asdict(summary)
    images = {name: run.decoder.draw(*one.captioned()) for name, one in ends.items()}
    write_figure(folder, fields, images)
    write_report(folder, fields)
    replace_file(folder / SUMMARY, (json.dumps(fields, indent=1) + "\n").encode())
    write_cards(folder)


def print_end(run: Run, folder: Path, before: Measurement, after: Measurement, summary: RunSummary) -> None:
    """Print what a run came to, where it is, and how it goes on."""
    print(f"after:  {after.line(run.domain.headline, since=before)}\n{headline(asdict(summary))}")
    for change in summary.changes:
        print(f"changed: {change}")
    print(f"report: {folder / REPORT}")
    if (best := summary.best) and best["iteration"] < summary.iterations:
        print(f"best:   {folder / BEST}, after {best['iteration']} iterations ({best['metric']} {best['value']:.4f})")
    more = 0 if summary.iterations < run.finetuning.iterations else summary.iterations
    print(f"ended:  {summary.ended}; to go on: {resuming(run.config, more)}")


def propagate_interrupt(request: Request, world: Processes) -> None:
    """Raise the interruption that any of the processes was sent: where one is interrupted, all are."""
    code = int(world.gather(torch.tensor([exit_code(request.error) if request.error else 0])).max())
    if code:
        raise Terminated if code == ExitCode.TERMINATED else KeyboardInterrupt


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
    for name in ("wait", "minutes"):
        if config[name] is not None and not config[name] > 0:
            raise ConfigError(f"{name}: got {config[name]}, need a number above 0")


def callable_name(reward: Reward) -> str:
    """Return the name of a function, or of the class of a callable."""
    return str(getattr(reward, "__name__", type(reward).__name__))


def callable_file(name: str) -> str:
    """Return the name of a reward as part of a file name: of code the object's."""
    return name.rpartition(":")[2]
