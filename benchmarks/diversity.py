"""The cost and the effect of each way of keeping variety: QED on heavy-atom molecules, before and after.

`python benchmarks/diversity.py [folder] [--names none,composition] [--seeds 0,1] [--csv FILE] [setting=value ...]` runs
`molrl train task=qed algo=ddpo diversity=NAME seed=SEED` where it is missing in the folder (default runs/diversity),
one run at a time, and prints a table in Markdown: means over the seeds, and in brackets what is left of the untrained
model's figure. The CSV has one row per run. Interrupted runs go on.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

NAMES = ("none", "buckets", "frequency", "composition", "variety")
FIGURES: dict[str, Callable[[Mapping[str, float]], float]] = {
    "QED": lambda m: m["reward_mean"],
    "QED, valid": lambda m: m["reward_mean"] / m["validity_connected"],  # all others have the floor, zero
    "valid": lambda m: m["validity"],
    "novel": lambda m: m["novelty"],
    "aromatic": lambda m: m["aromatic"],
    "with N": lambda m: m["molecules_with_N"],
    "rings": lambda m: m["rings"],
    "unique": lambda m: m["uniqueness"],
    "scaffold-unique": lambda m: m["distinct_scaffolds"] / (m["n"] * m["validity"]),
    "#Circles": lambda m: m["circles"],
    "internal diversity": lambda m: m["internal_diversity"],
    "heavy atoms": lambda m: m["mean_heavy_atoms"],
    "KL": lambda m: m["kl"],
}
KEPT = ("novel", "aromatic", "with N", "rings", "unique", "scaffold-unique", "#Circles", "internal diversity")


def run(folder: Path, name: str, seed: int, settings: Sequence[str]) -> Mapping[str, Any]:
    """Run `molrl train`, unless the run is complete, and return its summary."""
    place = folder / f"{name}_{seed}"
    command = [sys.executable, "-m", "molrl.cli", "train", "task=qed", "algo=ddpo", f"diversity={name}"]
    subprocess.run([*command, f"seed={seed}", f"run={place}", *settings], check=True)
    summary: Mapping[str, Any] = json.loads((place / "summary.json").read_text())
    return summary


def figures(summary: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return each figure of a run before and after."""
    return {name: (read(summary["before"]), read(summary["after"])) for name, read in FIGURES.items()}


def cell(name: str, runs: Sequence[dict[str, tuple[float, float]]]) -> str:
    """Return the mean of a figure after, with its deviation over the seeds, and the part that is left."""
    before, after = (mean(one[name][when] for one in runs) for when in (0, 1))
    text = f"{after:.0f}" if after >= 100 else f"{after:.3f}" if after < 10 else f"{after:.1f}"
    if len(runs) > 1:
        text += f" ± {stdev(one[name][1] for one in runs) / len(runs) ** 0.5:.2g}"
    return f"{text} ({after / before:.0%})" if name in KEPT else text


def main() -> None:
    """Run what is missing, and print and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/diversity"))
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--csv", type=Path)
    options, settings = parser.parse_known_args()
    results = {
        name: [figures(run(options.folder, name, int(seed), settings)) for seed in options.seeds.split(",")]
        for name in options.names.split(",")
    }
    print(f"| diversity | gain | {' | '.join(FIGURES)} |\n{'|---' * (len(FIGURES) + 2)}|")
    for name, runs in results.items():
        gain = mean(one["QED"][1] - one["QED"][0] for one in runs)
        print(f"| `{name}` | {gain:+.3f} | {' | '.join(cell(figure, runs) for figure in FIGURES)} |")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            columns = [f"{name} {when}" for name in FIGURES for when in ("before", "after")]
            table.writerow(["diversity", "seed", *columns])
            for name, runs in results.items():
                for seed, one in zip(options.seeds.split(","), runs, strict=True):
                    table.writerow([name, seed, *(f"{value:.4f}" for pair in one.values() for value in pair)])


if __name__ == "__main__":
    main()
