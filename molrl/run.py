"""One fine-tuning run in one folder: measured before, trained, measured after on the same noise, reported."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from molrl import checkpoint
from molrl.algos import Algorithm
from molrl.checkpoint import write_synced
from molrl.config import ConfigError, build, check_type, settings
from molrl.device import choose_device
from molrl.finetune import Finetuning, frozen, trainable
from molrl.folder import claim, dated, lock
from molrl.noise import Key
from molrl.policy import Policy
from molrl.report import write_report
from molrl.task import Domain, Reward, Task
from molrl.tracking import Tracker, read_metrics

FRESH = 2**62  # stream of the noise that before and after are measured on; training never draws from it
BATCH = 256
SHOWN = 12
OWN = {"task": dict, "algo": dict, "run": str | None, "device": str, "threads": int | None, "evaluate": int}


class Showable(Domain, Protocol):
    """A domain whose samples and models can be shown and kept."""

    def write(self, samples: Sequence[Any], path: Path, values: Mapping[str, Sequence[float]]) -> None:
        """A file of finished samples in the domain's own format, each with its values."""
        ...

    def draw(self, samples: Sequence[Any], captions: Sequence[str]) -> Any:
        """One picture (PIL) of the samples in a grid."""
        ...

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """A model folder that the domain can load again."""
        ...


def train(config: Mapping[str, Any], reward: Reward | None = None) -> int:
    """`molrl train`: returns the exit code.

    Args:
        config: what `compose("train", ["algo=ddpo", ...])` gives.
        reward: in place of the task's own, any function of the finished samples; the run is named after it.

    Raises:
        ConfigError: a wrong setting; nothing has been written then.
        TrainingError: the run cannot go on.
    """
    if reward is not None:
        config = {**config, "task": {**config["task"], "name": spoken(reward), "reward": spoken(reward)}}
    task, algorithm, finetuning = parts(config, reward)
    folder = claim({**config, "run": config["run"] or dated(task.name)})
    if (folder / "summary.json").exists():
        print(f"{folder} is complete: {headline(json.loads((folder / 'summary.json').read_text()))}")
        return 0
    began = time.perf_counter()
    with lock(folder), opened(task.reward):
        start = restored_iteration(folder)
        reference = frozen(task.policy)
        print(f"{folder}: task {task.name}, {type(algorithm).__name__}, seed {finetuning.seed}, on {task.device}")
        before = measure(task, reference, folder / "samples" / "before.sdf", config)
        if before["n"] == before["lost"]:
            print(f"molrl: none of {before['n']} samples could be scored", file=sys.stderr)
            return 3
        print(f"before: {spelled(before)}")
        try:
            with Tracker(folder, finetuning.iterations, start) as tracker:
                finetuning.run(task, algorithm, reference, folder, tracker.log)
        except KeyboardInterrupt:
            done = restored_iteration(folder)
            kept = f"{done} of {finetuning.iterations} iterations are kept"
            print(f"\ninterrupted: {kept}; the same settings with run={folder} go on from there")
            return 130
        after = measure(task, task.policy, folder / "samples" / "after.sdf", config)
        showable(task).save(trainable(task.policy), folder / "model")
    metrics = read_metrics(folder / "metrics.jsonl")
    summary = {
        "task": task.name,
        "algo": type(algorithm).__name__.lower(),
        "seed": finetuning.seed,
        "reward_queries": int(sum(row["reward_queries"] for row in metrics)),
        "wall_seconds": round(time.perf_counter() - began + sum(row["seconds"] for row in metrics[:start]), 1),
        "before": figures(before),
        "after": figures(after),
    }
    pictures = {name: showable(task).draw(*shown(found)) for name, found in (("before", before), ("after", after))}
    write_report(folder, summary, metrics, pictures)
    write_synced(folder / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    print(f"after:  {spelled(after)}\n{headline(summary)}\nreport: {folder / 'report.html'}")
    return 0


def parts(config: Mapping[str, Any], reward: Reward | None) -> tuple[Task, Algorithm, Finetuning]:
    """What a run is made of. All settings are checked here, before anything is written."""
    for name, kind in OWN.items():
        if name not in config:
            raise ConfigError(f"{name}: missing")
        check_type(config[name], kind, name)
    if config["evaluate"] < 2:
        raise ConfigError(f"evaluate: got {config['evaluate']}, need at least 2")
    algorithm = build(config["algo"], "algo")
    loop = {name: value for name, value in config.items() if name not in OWN}
    finetuning = build({"_target_": "molrl.finetune.Finetuning", **loop}, "")
    with settings("optimizer"):
        finetuning.optimizer([nn.Parameter(torch.zeros(1))])
    node = {name: value for name, value in config["task"].items() if reward is None or name != "reward"}
    given = {} if reward is None else {"reward": reward}
    return build(node, "task", device=choose_device(config["device"]), **given), algorithm, finetuning


def spoken(reward: Reward) -> str:
    """The name of a function, or of the class of a callable."""
    return str(getattr(reward, "__name__", type(reward).__name__))


@contextlib.contextmanager
def opened(reward: Any) -> Iterator[None]:
    """Start a reward that has workers, and stop them whatever happens."""
    if hasattr(reward, "start"):
        reward.start()
    try:
        yield
    finally:
        if hasattr(reward, "close"):
            reward.close()


def measure(task: Task, policy: Policy, path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Sample `evaluate` fresh samples, write them, and say what they are worth.

    The noise depends on the seed alone: before and after are measured on the same.
    """
    key, count = Key(config["seed"], stream=FRESH), config["evaluate"]
    measured = replace(task, policy=policy)
    samples: list[Any] = []
    rewards: list[float] = []
    for start in range(0, count, BATCH):
        rollouts = measured.rollout(list(range(start, min(start + BATCH, count))), key)
        samples.extend(rollouts.samples)
        rewards.extend(rollouts.rewards.tolist())
    path.parent.mkdir(exist_ok=True)
    showable(task).write(samples, path, {"reward": rewards})
    known = np.array([reward for reward in rewards if not math.isnan(reward)])
    return {
        "n": count,
        "reward_mean": float(known.mean()) if len(known) else math.nan,
        "reward_sem": float(known.std(ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else math.nan,
        **task.domain.measure(samples),
        "lost": count - len(known),
        "samples": samples[:SHOWN],
        "rewards": rewards[:SHOWN],
    }


def restored_iteration(folder: Path) -> int:
    """How many iterations the folder's checkpoint has made."""
    if not checkpoint.present(folder / "checkpoint"):
        return 0
    return int(checkpoint.load(folder / "checkpoint")[1]["progress"]["iteration"])


def showable(task: Task) -> Showable:
    """The task's domain, as `molrl train` needs it."""
    return cast(Showable, task.domain)


def figures(found: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a measurement; what is not a number is null."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in found.items()
        if name not in ("lost", "samples", "rewards")
    }


def shown(found: Mapping[str, Any]) -> tuple[Sequence[Any], list[str]]:
    """The first samples and their rewards as captions: not the best ones."""
    return found["samples"], [f"{reward:.2f}" for reward in found["rewards"]]


def spelled(found: Mapping[str, Any]) -> str:
    """One line of the figures that matter most."""
    names = ("validity", "uniqueness", "novelty", "atom_stability", "molecule_stability")
    rest = ", ".join(f"{name.replace('_', ' ')} {found[name]:.3f}" for name in names if found.get(name) is not None)
    return f"reward {found['reward_mean']:.4f} +- {found['reward_sem']:.4f}, {rest} (n = {found['n']})"


def headline(summary: Mapping[str, Any]) -> str:
    """What the run achieved."""
    before, after = summary["before"], summary["after"]
    return (
        f"reward {before['reward_mean']:.4f} -> {after['reward_mean']:.4f} "
        f"({after['reward_mean'] - before['reward_mean']:+.4f}) with {summary['reward_queries']} reward queries "
        f"in {summary['wall_seconds'] / 60:.1f} minutes"
    )
