"""All algorithms on one task at the same number of reward queries, next to what needs no training.

`python benchmarks/compare.py [folder] [conditional=DIR] [setting=value ...]` fine-tunes the shipped model to QED with
every algorithm and three seeds, each run in a folder of its own below the given one (default runs/compare); runs that
are there already are not repeated, and one that was interrupted goes on. Then it measures best-of-n and reward-guided
sampling of the untouched model, and a model conditioned on QED (`conditional=DIR`, from `molrl pretrain
model=heavy_qed`). It prints a table in Markdown and leaves comparison.json and comparison.png in the folder.
"""

import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from molrl.building import build
from molrl.composition import compose
from molrl.guidance import BestOf, Guidance, GuidedSamples, RewardGuided
from molrl.noise import Key
from molrl.task import Task

SEEDS = (0, 1, 2)
QUERIES = 2304
EVALUATE = 256
COMMON = ("task=qed", f"evaluate={EVALUATE}")
RUNS: dict[str, tuple[str, ...]] = {  # what each algorithm does with its queries; tuned as docs/comparison.md says
    "ddpo": ("iterations=12", "rollouts=192", "minibatch=672"),
    "ddpo_sf": ("iterations=18", "rollouts=128", "minibatch=1792"),
    "dpok": ("iterations=12", "rollouts=192", "minibatch=672", "optimizer.lr=5e-4"),
    "rgdm": ("iterations=12", "rollouts=21", "algo.states=4", "algo.candidates=2", "algo.held=4", "minibatch=84"),
    "rwr": ("iterations=6", "rollouts=384"),
    "rwr_sparse": ("iterations=6", "rollouts=384"),
    "sft_kl_d": ("iterations=6", "rollouts=384"),
    "sft_kl_o": ("iterations=6", "rollouts=384"),
}
SAMPLERS: dict[str, Guidance] = {
    "best of 4": BestOf(of=4),
    "best of 12": BestOf(of=12),
    "guided, 2 candidates": RewardGuided(candidates=2, radius=1.0, temperature=0.02, first=0.4, last=0.64, lookahead=3),
    "guided, 8 candidates": RewardGuided(candidates=8, radius=1.0, temperature=0.02, first=0.4, last=0.64, lookahead=3),
}
ASKED = (0.55, 0.65)  # QED that a conditional model is asked for
COLUMNS = {
    "reward_mean": "mean QED",
    "validity": "valid",
    "uniqueness": "unique",
    "novelty": "novel",
    "sa": "SA",
    "kl": "KL",
    "queries": "queries",
    "seconds": "seconds",
}


def fine_tuned(folder: Path, algorithm: str, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """One run of `molrl train`, and what it ended at."""
    run = folder / f"{algorithm}_{seed}"
    command = [sys.executable, "-m", "molrl.cli", "train", f"algo={algorithm}", f"seed={seed}", f"run={run}"]
    subprocess.run([*command, *COMMON, *RUNS[algorithm], *settings], check=True, stdout=subprocess.DEVNULL)
    found = json.loads((run / "summary.json").read_text())
    after = found["after"]
    return {**after, "queries": found["reward_queries"], "seconds": found["wall_seconds"]}


def sampled(name: str, seed: int) -> dict[str, Any]:
    """As many samples as the queries buy, at most as many as the others are measured on."""
    config = compose("train", [*COMMON])
    reward = build(config["reward"], "reward")
    task: Task = build(config["task"], "task", device=torch.device("cpu"), reward=reward)
    reward.start()
    with contextlib.closing(reward):
        began = time.perf_counter()
        drawn = affordable(SAMPLERS[name], task, seed)
        seconds = time.perf_counter() - began
        rewards = task.reward(drawn.samples)
    found = task.decoder.measure(drawn.samples)
    return {**found, **worth(rewards), "kl": None, "queries": drawn.reward_queries, "seconds": seconds}


def affordable(guidance: Guidance, task: Task, seed: int) -> GuidedSamples:
    """Batch after batch until the queries are spent."""
    samples: list[Any] = []
    queries, batch, key = 0, 8, Key(seed, stream=2**61)
    while len(samples) < EVALUATE:
        drawn = guidance.draw(task, range(len(samples), len(samples) + batch), key)
        if samples and queries + drawn.reward_queries > QUERIES:
            break
        samples += drawn.samples
        queries += drawn.reward_queries
    return GuidedSamples(samples, queries)


def conditioned(weights: str, asked: float, seed: int) -> dict[str, Any]:
    """Samples of a conditional model; it has seen the rewards of its whole training set, and asks for none."""
    config = compose("train", [*COMMON, f"policy={weights}"])
    reward = build(config["reward"], "reward")
    task: Task = build(config["task"], "task", device=torch.device("cpu"), reward=reward)
    task = replace(task, decoder=replace(task.decoder, condition={"qed": asked}))  # type: ignore[type-var]
    reward.start()
    with contextlib.closing(reward):
        rollouts = task.rollout(range(EVALUATE), Key(seed, stream=2**61))
    seconds = rollouts.seconds["rollout"] + rollouts.seconds["reward"]
    found = {**task.decoder.measure(rollouts.samples), **worth(rollouts.rewards)}
    return {**found, "kl": None, "queries": 0, "seconds": seconds}


def worth(rewards: torch.Tensor) -> dict[str, float]:
    """Mean over all samples."""
    return {"reward_mean": rewards.nanmean().item(), "n": float(len(rewards))}


def spelled(values: Sequence[float | None], name: str) -> str:
    """Mean over the seeds and its standard error."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "-"
    error = stdev(known) / math.sqrt(len(known)) if len(known) > 1 else 0.0
    if name in ("queries", "seconds"):
        return f"{mean(known):,.0f}"
    digits = 1 if name == "kl" else 2 if name == "sa" else 3
    return f"{mean(known):.{digits}f} ± {error:.{digits}f}"


def untouched(folder: Path) -> list[dict[str, Any]]:
    """The pretrained model, as every run measured it first."""
    summaries = [json.loads((folder / f"ddpo_{seed}" / "summary.json").read_text()) for seed in SEEDS]
    return [{**found["before"], "queries": 0, "seconds": 0.0} for found in summaries]


def markdown(results: dict[str, list[dict[str, Any]]]) -> str:
    """One line per way of getting samples, the best first."""
    head = f"| | samples | {' | '.join(COLUMNS.values())} |"
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for name, found in sorted(results.items(), key=lambda item: -mean(row["reward_mean"] for row in item[1])):
        cells = [spelled([row.get(column) for row in found], column) for column in COLUMNS]
        lines.append(f"| {name} | {mean(row['n'] for row in found):.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """A line per way of getting samples, the best on top; a point per seed and a bar at their mean."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels: dict[str, Callable[[dict[str, Any]], float]] = {
        "mean QED, 0 for what is invalid": lambda row: row["reward_mean"],
        "valid and unique": lambda row: row["validity"] * row["uniqueness"],
        "novel": lambda row: row["novelty"],
    }
    names = sorted(results, key=lambda name: mean(row["reward_mean"] for row in results[name]))
    figure, all_axes = plt.subplots(1, len(panels), figsize=(10, 5), sharey=True, layout="constrained")
    for axes, (title, value) in zip(all_axes, panels.items(), strict=True):
        for place, name in enumerate(names):
            points = [value(row) for row in results[name]]
            colour = "C0" if name in RUNS else "0.6" if name == "pretrained" else "C1"
            axes.plot(points, [place] * len(points), "o", color=colour, alpha=0.6, markersize=5)
            axes.plot(mean(points), place, "|", color=colour, markersize=16, markeredgewidth=2)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
    all_axes[0].set_yticks(range(len(names)), names)
    figure.suptitle(f"{QUERIES:,} reward queries: fine-tuned (blue), or spent on sampling and conditioning (orange)")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run what is missing, measure, and print."""
    arguments = sys.argv[1:]
    weights = next((item.partition("=")[2] for item in arguments if item.startswith("conditional=")), None)
    arguments = [item for item in arguments if not item.startswith("conditional=")]
    folder = Path(arguments.pop(0)) if arguments and "=" not in arguments[0] else Path("runs/compare")
    results: dict[str, list[dict[str, Any]]] = {
        algorithm: [fine_tuned(folder, algorithm, seed, arguments) for seed in SEEDS] for algorithm in RUNS
    }
    results["pretrained"] = untouched(folder)
    for name in SAMPLERS:
        results[name] = [sampled(name, seed) for seed in SEEDS]
    if weights is not None:
        for asked in ASKED:
            results[f"conditioned on {asked}"] = [conditioned(weights, asked, seed) for seed in SEEDS]
    (folder / "comparison.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, folder / "comparison.png")
    print(markdown(results))
    cores = f"{os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}"
    print(f"\nMean and standard error over seeds {', '.join(map(str, SEEDS))}. {cores}.")


if __name__ == "__main__":
    main()
