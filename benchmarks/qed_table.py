"""The README's table: `molrl train task=qed` for both algorithms and three seeds, each in its own run folder.

`python benchmarks/qed_table.py [folder] [setting=value ...]` runs what is missing in the folder (default runs/table)
and prints the table in Markdown; interrupted runs are resumed.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ALGORITHMS = ("rgdm", "ddpo")
SEEDS = (0, 1, 2)
HEAD = "| algo | seed | mean QED before | after | gain | valid before | after | unique | novel | queries | minutes |"


def summary(folder: Path, algorithm: str, seed: int, settings: list[str]) -> dict[str, Any]:
    """Run `molrl train`, unless the run is complete, and read its summary."""
    run = folder / f"{algorithm}_{seed}"
    command = [
        sys.executable,
        "-m",
        "molrl.cli",
        "train",
        "task=qed",
        f"algo={algorithm}",
        f"seed={seed}",
        f"run={run}",
    ]
    subprocess.run([*command, *settings], check=True)
    results: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return results


def row(algorithm: str, seed: int, results: dict[str, Any]) -> str:
    """Return one row of the table."""
    before, after = results["before"], results["after"]
    cells = [
        algorithm,
        str(seed),
        f"{before['reward_mean']:.3f} ± {before['reward_sem']:.3f}",
        f"{after['reward_mean']:.3f} ± {after['reward_sem']:.3f}",
        f"{after['reward_mean'] - before['reward_mean']:+.3f}",
        f"{before['validity']:.3f}",
        f"{after['validity']:.3f}",
        f"{after['uniqueness']:.3f}",
        f"{after['novelty']:.3f}",
        f"{results['reward_queries']:,}",
        f"{results['wall_seconds'] / 60:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run what is missing and print the table."""
    arguments = sys.argv[1:]
    folder = Path(arguments.pop(0)) if arguments and "=" not in arguments[0] else Path("runs/table")
    rows = [
        row(algorithm, seed, summary(folder, algorithm, seed, arguments)) for algorithm in ALGORITHMS for seed in SEEDS
    ]
    print("\n".join([HEAD, "|" + "---|" * (HEAD.count("|") - 1), *rows]))
    print(
        f"\n{os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}, ± standard error over the samples"
    )


if __name__ == "__main__":
    main()
