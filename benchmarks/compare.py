"""All algorithms on one task at the same number of reward queries, beside methods without fine-tuning.

`python benchmarks/compare.py [folder] [conditional=DIR] [setting=value ...]` fine-tunes the shipped model to QED with
every algorithm and three seeds, each run in a folder of its own below the given one (default runs/compare); complete
runs are not repeated, and interrupted ones are resumed. Then it measures best-of-n and reward-guided sampling of the
pretrained model, and a model conditioned on QED (`conditional=DIR`, from `molrl pretrain
model=heavy_qed`). It prints a table in Markdown and leaves comparison.json and comparison.png in the folder.
"""

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

from molrl.composition import compose
from molrl.guidance import BestOf, Guidance, GuidedSamples, RewardGuided
from molrl.noise import Key
from molrl.run import prepare
from molrl.task import Task, open_reward

SEEDS = (0, 1, 2)
MAX_QUERIES = 2304
NUM_EVALUATED = 256
COMMON = ("task=qed", f"evaluate={NUM_EVALUATED}")
RUNS: dict[str, tuple[str, ...]] = {  # queries of each; tuned as docs/results/comparison.md says
    "ddpo": ("iterations=12", "rollouts=192", "minibatch=480"),
    "ddpo_sf": ("iterations=18", "rollouts=128", "minibatch=1280"),
    "dpok": ("iterations=12", "rollouts=192", "minibatch=480", "optimizer.lr=5e-4"),
    "rgdm": ("iterations=12", "rollouts=21", "algo.states=4", "algo.candidates=2", "algo.held=2", "minibatch=63"),
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
CONDITIONS = (0.55, 0.65)  # QED that a conditional model is conditioned on
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


def fine_tune(folder: Path, algorithm: str, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """Run `molrl train`, unless the run is complete, and return its final metrics."""
    run = folder / f"{algorithm}_{seed}"
    command = [sys.executable, "-m", "molrl.cli", "train", f"algo={algorithm}", f"seed={seed}", f"run={run}"]
    subprocess.run([*command, *COMMON, *RUNS[algorithm], *settings], check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((run / "summary.json").read_text())
    return {**summary["after"], "queries": summary["reward_queries"], "seconds": summary["wall_seconds"]}


def sample(name: str, seed: int) -> dict[str, Any]:
    """Measure guided samples, as many as the queries allow and at most NUM_EVALUATED."""
    task = prepare(compose("train", [*COMMON])).task
    with open_reward(task.reward):
        began = time.perf_counter()
        drawn = draw_within_budget(SAMPLERS[name], task, seed)
        seconds = time.perf_counter() - began
        rewards = task.reward(drawn.samples)
    metrics = task.decoder.measure(drawn.samples)
    return {**metrics, **reward_metrics(rewards), "kl": None, "queries": drawn.reward_queries, "seconds": seconds}


def draw_within_budget(guidance: Guidance, task: Task, seed: int) -> GuidedSamples:
    """Draw batches until the queries are spent."""
    samples: list[Any] = []
    queries, batch, key = 0, 8, Key(seed, stream=2**61)
    while len(samples) < NUM_EVALUATED:
        drawn = guidance.draw(task, range(len(samples), len(samples) + batch), key)
        if samples and queries + drawn.reward_queries > MAX_QUERIES:
            break
        samples += drawn.samples
        queries += drawn.reward_queries
    return GuidedSamples(samples, queries)


def sample_conditional(weights: str, qed: float, seed: int) -> dict[str, Any]:
    """Measure samples of a conditional model, which needs no queries: it was trained with the rewards of its data."""
    task = prepare(compose("train", [*COMMON, f"policy.weights={weights}"])).task
    task = replace(task, decoder=replace(task.decoder, condition={"qed": qed}))  # type: ignore[type-var]
    with open_reward(task.reward):
        rollouts = task.rollout(range(NUM_EVALUATED), Key(seed, stream=2**61))
    seconds = rollouts.seconds["rollout"] + rollouts.seconds["reward"]
    metrics = {**task.decoder.measure(rollouts.samples), **reward_metrics(rollouts.rewards)}
    return {**metrics, "kl": None, "queries": 0, "seconds": seconds}


def reward_metrics(rewards: torch.Tensor) -> dict[str, float]:
    """Return the mean reward and the number of samples."""
    return {"reward_mean": rewards.nanmean().item(), "n": float(len(rewards))}


def format_mean(values: Sequence[float | None], name: str) -> str:
    """Format the mean over the seeds and its standard error."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return "-"
    error = stdev(finite) / math.sqrt(len(finite)) if len(finite) > 1 else 0.0
    if name in ("queries", "seconds"):
        return f"{mean(finite):,.0f}"
    digits = 1 if name == "kl" else 2 if name == "sa" else 3
    return f"{mean(finite):.{digits}f} ± {error:.{digits}f}"


def pretrained_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics of the pretrained model, as every run measured it first."""
    summaries = [json.loads((folder / f"ddpo_{seed}" / "summary.json").read_text()) for seed in SEEDS]
    return [{**summary["before"], "queries": 0, "seconds": 0.0} for summary in summaries]


def markdown(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table in Markdown, one row per method, the best first."""
    head = f"| | samples | {' | '.join(COLUMNS.values())} |"
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for name, rows in sorted(results.items(), key=lambda item: -mean(row["reward_mean"] for row in item[1])):
        cells = [format_mean([row.get(column) for row in rows], column) for column in COLUMNS]
        lines.append(f"| {name} | {mean(row['n'] for row in rows):.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Plot a line per method, the best on top, with a point per seed and a bar at their mean."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels: dict[str, Callable[[dict[str, Any]], float]] = {
        "mean QED, 0 for invalid samples": lambda row: row["reward_mean"],
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
    figure.suptitle(
        f"{MAX_QUERIES:,} reward queries: fine-tuned (blue), or spent on sampling and conditioning (orange)"
    )
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run what is missing, measure all methods and print the table."""
    arguments = sys.argv[1:]
    weights = next((item.partition("=")[2] for item in arguments if item.startswith("conditional=")), None)
    arguments = [item for item in arguments if not item.startswith("conditional=")]
    folder = Path(arguments.pop(0)) if arguments and "=" not in arguments[0] else Path("runs/compare")
    results: dict[str, list[dict[str, Any]]] = {
        algorithm: [fine_tune(folder, algorithm, seed, arguments) for seed in SEEDS] for algorithm in RUNS
    }
    results["pretrained"] = pretrained_metrics(folder)
    for name in SAMPLERS:
        results[name] = [sample(name, seed) for seed in SEEDS]
    if weights is not None:
        for qed in CONDITIONS:
            results[f"conditioned on {qed}"] = [sample_conditional(weights, qed, seed) for seed in SEEDS]
    (folder / "comparison.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, folder / "comparison.png")
    print(markdown(results))
    cores = f"{os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}"
    print(f"\nMean and standard error over seeds {', '.join(map(str, SEEDS))}. {cores}.")


if __name__ == "__main__":
    main()
