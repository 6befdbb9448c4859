"""One fine-tuning run in one folder: measured before, trained, measured after on the same noise, reported."""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import yaml
from torch import nn

from molrl.checkpoint import write_synced
from molrl.config import ConfigError, build
from molrl.device import choose_device
from molrl.finetune import Finetuning, frozen, trainable
from molrl.noise import Key
from molrl.policy import Policy
from molrl.report import write_report
from molrl.task import Domain, Task
from molrl.tracking import Tracker, read_metrics

FRESH = 2**62  # stream of the noise that before and after are measured on; training never draws from it
BATCH = 256
SHOWN = 12
FREE = ("run", "device")  # settings that may differ when a run is continued


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


def train(config: dict[str, Any]) -> int:
    """`molrl train`: returns the exit code."""
    folder = claim(config)
    if (folder / "summary.json").exists():
        print(f"{folder} is complete: {headline(json.loads((folder / 'summary.json').read_text()))}")
        return 0
    settings = {field.name: config[field.name] for field in fields(Finetuning) if field.name != "optimizer"}
    algorithm = build(config["algo"], "algo")
    optimizer = build(config["optimizer"], "optimizer")
    finetuning = build({"_target_": "molrl.finetune.Finetuning", **settings}, "train", optimizer=optimizer)
    task = build(config["task"], "task", device=choose_device(config["device"]))
    began = time.perf_counter()
    with lock(folder), opened(task.reward):
        reference = frozen(task.policy)
        print(f"{folder}: task {task.name}, {type(algorithm).__name__}, seed {config['seed']}, on {task.device}")
        before = remembered(
            folder / "before.json", lambda: measure(task, reference, folder / "samples" / "before.sdf", config)
        )
        print(f"before: {spelled(before)}")
        start = restored_iteration(folder)
        try:
            with Tracker(folder, finetuning.iterations, start) as tracker:
                finetuning.run(task, algorithm, reference, folder, tracker.log)
        except KeyboardInterrupt:
            done = restored_iteration(folder)
            print(
                f"\ninterrupted after {done} of {finetuning.iterations} iterations; run={folder} again continues there"
            )
            return 130
        after = measure(task, task.policy, folder / "samples" / "after.sdf", config)
        showable(task).save(trainable(task.policy), folder / "model")
    metrics = read_metrics(folder / "metrics.jsonl")
    summary = {
        "task": task.name,
        "algo": config["algo"]["_target_"].rpartition(".")[2].lower(),
        "seed": config["seed"],
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


def claim(config: dict[str, Any]) -> Path:
    """The run's folder: a new one, or the one of this very run; never somebody else's.

    Raises:
        ConfigError: the folder holds another run or something else.
    """
    if config["run"] is None:
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        config["run"] = f"runs/{stamp}_{config['task']['name']}"
    folder = Path(config["run"])
    settings = folder / "config.yaml"
    if settings.exists():
        old = yaml.safe_load(settings.read_text())
        if differing := differences(old, config):
            raise ConfigError(f"run={folder} holds another run ({'; '.join(differing)}); name another folder")
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"run={folder} exists and is not the folder of a run; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_synced(settings, yaml.safe_dump(config, sort_keys=False).encode())
    return folder


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Settings that differ, as `name: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [name for name in {**old, **new} if where or name not in FREE]
        return [
            line
            for name in names
            for line in differences(old.get(name), new.get(name), f"{where}.{name}" if where else str(name))
        ]
    return [] if old == new else [f"{where}: {old!r} -> {new!r}"]


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """One process per run folder; the lock goes with the process, however it ends."""
    import fcntl

    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise ConfigError(f"run={folder} is in use by process {file.read().strip() or '?'}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


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
    measured = Task(task.name, policy, task.domain, task.reward, task.device)
    samples: list[Any] = []
    rewards: list[float] = []
    for start in range(0, count, BATCH):
        rollouts = measured.rollout(list(range(start, min(start + BATCH, count))), key)
        samples.extend(rollouts.samples)
        rewards.extend(rollouts.rewards.tolist())
    path.parent.mkdir(exist_ok=True)
    showable(task).write(samples, path, {"reward": rewards})
    known = torch.tensor([reward for reward in rewards if not math.isnan(reward)])
    return {
        "n": count,
        "reward_mean": known.mean().item(),
        "reward_sem": known.std().item() / math.sqrt(len(known)),
        **task.domain.measure(samples),
        "shown": [samples[index] for index in range(min(SHOWN, count))],
        "rewards": rewards[:SHOWN],
    }


def remembered(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Compute, and leave the figures in the folder."""
    found = compute()
    write_synced(path, (json.dumps(figures(found), indent=1) + "\n").encode())
    return found


def restored_iteration(folder: Path) -> int:
    """How many iterations the folder's checkpoint has made."""
    path = folder / "checkpoint" / "progress.json"
    return int(json.loads(path.read_text())["iteration"]) if path.is_file() else 0


def showable(task: Task) -> Showable:
    """The task's domain, as `molrl train` needs it."""
    return cast(Showable, task.domain)


def figures(found: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a measurement; what is not a number is null."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in found.items()
        if name not in ("shown", "rewards")
    }


def shown(found: Mapping[str, Any]) -> tuple[Sequence[Any], list[str]]:
    """The first samples and their rewards as captions: not the best ones."""
    return found["shown"], [f"{reward:.2f}" for reward in found["rewards"]]


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
