"""The forward-process algorithms on QED at small budgets of reward queries, with what they cost.

`python benchmarks/forward.py [folder] [setting=value ...]` fine-tunes the shipped model with every setting and seed,
each run in a folder of its own below the given one (default runs/forward). Complete runs are not repeated, and
interrupted ones are resumed. It prints a table in Markdown; `seeds=0` or `runs=nft800,awm800` take fewer.
"""

import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

SEEDS, NUM_EVALUATED = "0,1,2", 256
RUNS: dict[str, tuple[str, ...]] = {
    "nft800": ("algo=nft",),
    "nft2304": ("algo=nft", "rollouts=96", "iterations=24", "algo.noisings=12", "minibatch=576"),
    **{f"{name}800": (f"algo={name}",) for name in ("awm", "epg", "pepg", "ram", "tilt")},
}
COLUMNS = {
    "reward_mean": "mean QED",
    "validity": "valid",
    "uniqueness": "unique",
    "novelty": "novel",
    "aromatic": "aromatic",
    "molecules_with_N": "nitrogen",
    "kl": "KL (nats)",
}


def fine_tune(folder: Path, name: str, seed: str, settings: list[str]) -> dict[str, Any]:
    """Run `molrl train`, unless the run is complete, and return its summary."""
    run = folder / f"{name}_{seed}"
    command = [sys.executable, "-m", "molrl.cli", "train", "task=qed", *RUNS[name], f"seed={seed}", f"run={run}"]
    subprocess.run([*command, f"evaluate={NUM_EVALUATED}", *settings], check=True, stdout=subprocess.DEVNULL)
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return summary


def format_mean(values: list[float]) -> str:
    """Format a mean over the seeds, with its standard error where there are several."""
    error = f" ± {stdev(values) / math.sqrt(len(values)):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{error}"


def row(name: str, measured: list[dict[str, Any]], queries: float, seconds: float) -> str:
    """Return one row of the table."""
    cells = [format_mean([float(one[column]) for one in measured]) for column in COLUMNS]
    return f"| {name} | {len(measured)} | {' | '.join(cells)} | {queries:,.0f} | {seconds:,.0f} |"


def main() -> None:
    """Run what is missing and print the table."""
    arguments = sys.argv[1:]
    own = {key: value for key, _, value in (item.partition("=") for item in arguments) if key in ("seeds", "runs")}
    arguments = [item for item in arguments if item.partition("=")[0] not in own]
    folder = Path(arguments.pop(0)) if arguments and "=" not in arguments[0] else Path("runs/forward")
    print(f"| run | seeds | {' | '.join(COLUMNS.values())} | queries | seconds |")
    print("|" + "---|" * (len(COLUMNS) + 4))
    for name in own.get("runs", ",".join(RUNS)).split(","):
        summaries = [fine_tune(folder, name, seed, arguments) for seed in own.get("seeds", SEEDS).split(",")]
        if name == next(iter(RUNS)):
            print(row("pretrained", [summary["before"] for summary in summaries], 0, 0))
        seconds = mean(summary["wall_seconds"] for summary in summaries)
        print(row(name, [summary["after"] for summary in summaries], summaries[0]["reward_queries"], seconds))
    print(
        f"\n{NUM_EVALUATED} samples per seed. {os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}."
    )


if __name__ == "__main__":
    main()
