"""Reward against queries of the methods that train nothing, on QED and the shipped heavy-atom model.

`python benchmarks/guidance.py [samples=96] [methods=WORD] [setting=value ...]` draws samples with each method, or with
those that have a word in their name, and each of three seeds, at 1 to 12 reward queries for each sample. It prints a
table in Markdown, one row per method, with validity and diversity.
"""

import math
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import torch

from molrl.composition import compose
from molrl.guidance import SMC, SVDD, BestOf, Guidance
from molrl.noise import Key
from molrl.run import prepare
from molrl.task import Task, open_reward

SEEDS = (0, 1, 2)
DEFAULTS = {"samples": "96", "methods": ""}
STREAM = 2**61
WINDOW: dict[str, Any] = {"first": 0.4, "last": 0.8, "lookahead": 3}
METHODS: dict[str, Guidance] = {
    "plain": BestOf(of=1),
    **{f"best of {n}": BestOf(of=n) for n in (2, 4, 8, 12)},
    **{f"svdd, {steps} steps": SVDD(candidates=4, temperature=0.02, guided=steps, **WINDOW) for steps in (1, 2, 3)},
    **{
        f"smc, {kept} of {particles} kept, {scored} scored": SMC(
            particles=particles, kept=kept, temperature=0.05, threshold=0.5, scored=scored, **WINDOW
        )
        for particles, kept, scored in ((8, 8, 1), (8, 4, 1), (8, 2, 1), (12, 4, 3))
    },
}
COLUMNS = ("queries", "QED", "valid", "unique", "novel", "diversity", "aromatic", "atoms", "seconds")


def measure(task: Task, guidance: Guidance, samples: int, seed: int) -> dict[str, float]:
    """Draw and measure the samples of one method and one seed."""
    began = time.perf_counter()
    drawn = guidance.draw(task, range(samples), Key(seed, STREAM))
    seconds = time.perf_counter() - began
    metrics: Mapping[str, float] = task.decoder.measure(drawn.samples)
    return {
        "queries": drawn.reward_queries / samples,
        "QED": task.reward(drawn.samples).nanmean().item(),
        "valid": metrics["validity"],
        "unique": metrics["uniqueness"],
        "novel": metrics["novelty"],
        "diversity": metrics["internal_diversity"],
        "aromatic": metrics["aromatic"],
        "atoms": metrics["mean_heavy_atoms"],
        "seconds": seconds,
    }


def cell(values: Sequence[float], name: str) -> str:
    """Format the mean over the seeds and its standard error."""
    if name in ("queries", "seconds"):
        return f"{mean(values):.0f}"
    digits = 1 if name == "atoms" else 3
    return f"{mean(values):.{digits}f} ± {stdev(values) / math.sqrt(len(values)):.{digits}f}"


def main() -> None:
    """Measure the methods and print the table."""
    own = {**DEFAULTS, **dict(item.split("=", 1) for item in sys.argv[1:] if item.partition("=")[0] in DEFAULTS)}
    settings = [item for item in sys.argv[1:] if item.partition("=")[0] not in DEFAULTS]
    task, samples = prepare(compose("train", ["task=qed", *settings])).task, int(own["samples"])
    print(f"| {samples} samples | {' | '.join(COLUMNS)} |")
    print("|" + "---|" * (len(COLUMNS) + 1))
    with open_reward(task.reward):
        for name, guidance in METHODS.items():
            if own["methods"] in name:
                rows = [measure(task, guidance, samples, seed) for seed in SEEDS]
                cells = [cell([row[column] for row in rows], column) for column in COLUMNS]
                print(f"| {name} | {' | '.join(cells)} |", flush=True)
    cores = f"{os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}"
    print(f"\nMean and standard error over seeds {', '.join(map(str, SEEDS))}. {cores}.")


if __name__ == "__main__":
    main()
