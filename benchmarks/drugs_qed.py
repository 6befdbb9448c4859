"""Fine-tuning at drug size: QED with `policy=drugs`, what it gains at equal size, and what it costs.

`python benchmarks/drugs_qed.py [folder] [setting=value ...]` runs `molrl train task=qed policy=drugs minutes=30` with
every algorithm and seed, each in a folder of its own below the given one (default runs/drugs). Complete runs are not
repeated, and interrupted ones are resumed. It prints a row in Markdown for each seed: before, after on the same noise,
and the difference. `algos=nft,awm`, `seeds=0` and `task=docking` take others, and `task=custom reward=NAME` any reward.

An invalid sample earns 0, so that the mean of all samples also rises with validity. "At equal size" is the mean of the
valid and connected ones, with the sizes of both files alike: the means of bins of `BIN` heavy atoms, weighed by the
number of molecules of both files in a bin. Bins that one file has no molecule in are left out.
"""

import json
import math
import os
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, variance
from typing import Any, NamedTuple

import torch

from molrl.data.molecules.sdf import blocks

BIN = 4  # heavy atoms
COLUMNS = {
    "validity_connected": "valid, connected",
    "novelty": "novel",
    "uniqueness": "unique",
    "circles": "#Circles",
    "distinct_scaffolds": "scaffolds",
    "aromatic": "aromatic",
    "rings": "rings",
    "molecules_with_N": "with N",
    "mean_heavy_atoms": "heavy atoms",
}


class Scored(NamedTuple):
    """One sample: its reward and its number of heavy atoms."""

    reward: float
    heavy_atoms: int


class Difference(NamedTuple):
    """A difference of means and its standard error."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ± {self.error:.3f}"


def read_scored(path: Path) -> list[Scored]:
    """Read the rewards and the sizes of a file that `molrl train` wrote; an invalid sample has reward 0.

    Raises:
        ValueError: a record has no reward.
    """
    found = []
    for block in blocks(path):
        lines = block.text.split("\n")
        rewards = [lines[at + 1] for at, line in enumerate(lines) if line.startswith(">") and "<reward>" in line]
        if not rewards:
            raise ValueError(f"{path}, {block.where}: got a record without <reward>, expected one of molrl train")
        found.append(Scored(float(rewards[0]), int(lines[3][:3])))  # the counts line of a V2000 record of heavy atoms
    return found


def gain_at_equal_size(before: Sequence[Scored], after: Sequence[Scored]) -> Difference:
    """Compute the difference of the mean rewards of sound samples, whose reward is above 0, weighed by bins of size."""
    bins: dict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for side, samples in enumerate((before, after)):
        for sample in samples:
            if sample.reward > 0:
                bins[sample.heavy_atoms // BIN][side].append(sample.reward)
    shared = [pair for pair in bins.values() if all(len(rewards) > 1 for rewards in pair)]
    total = sum(len(old) + len(new) for old, new in shared)
    if not total:
        return Difference(math.nan, math.nan)
    weights = [(len(old) + len(new)) / total for old, new in shared]
    mean = sum(weight * (fmean(new) - fmean(old)) for weight, (old, new) in zip(weights, shared, strict=True))
    square = sum(
        weight**2 * sum(variance(rewards) / len(rewards) for rewards in pair)
        for weight, pair in zip(weights, shared, strict=True)
    )
    return Difference(mean, math.sqrt(square))


def gain_of_all(before: Mapping[str, float], after: Mapping[str, float]) -> Difference:
    """Compute the difference of the mean rewards of all samples, from two measurements of a summary."""
    error = math.hypot(before["reward_sem"], after["reward_sem"])
    return Difference(after["reward_mean"] - before["reward_mean"], error)


def fine_tune(folder: Path, task: str, algorithm: str, seed: str, settings: Sequence[str]) -> dict[str, Any]:
    """Run `molrl train`, unless the run is complete, and return its summary."""
    command = [sys.executable, "-m", "molrl", "train", f"task={task}", "policy=drugs", f"algo={algorithm}"]
    command += [f"seed={seed}", f"run={folder}", "minutes=30", "iterations=50", "evaluate=256", *settings]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def rows(algorithm: str, seed: str, summary: Mapping[str, Any], equal_size: Difference) -> list[str]:
    """Return the rows of one run: before, after and the difference."""
    before, after = summary["before"], summary["after"]
    lines = []
    for when, measured in (("before", before), ("after", after)):
        cells = [f"{measured['reward_mean']:.3f} ± {measured['reward_sem']:.3f}", ""]
        cells += [f"{measured[name]:.3f}" for name in COLUMNS]
        lines.append(f"| {algorithm} | {seed} | {when} | {' | '.join(cells)} | |")
    changes = [f"{after[name] - before[name]:+.3f}" for name in COLUMNS]
    cost = f"{summary['reward_queries']:,}, {summary['wall_seconds'] / 60:.0f} min"
    gains = f"{gain_of_all(before, after)} | {equal_size}"
    lines.append(f"| {algorithm} | {seed} | change | {gains} | {' | '.join(changes)} | {cost} |")
    return lines


def main() -> None:
    """Run what is missing and print the table, with what the runs warned of."""
    own = {"algos": "nft,awm", "seeds": "0,1,2", "task": "qed"}
    own |= {key: value for key, _, value in (item.partition("=") for item in sys.argv[1:]) if key in own}
    settings = [item for item in sys.argv[1:] if item.partition("=")[0] not in own]
    folder = Path(settings.pop(0)) if settings and "=" not in settings[0] else Path("runs/drugs")
    print(
        f"| algorithm | seed | | {own['task']}, all | at equal size | {' | '.join(COLUMNS.values())} | queries, time |"
    )
    print("|" + "---|" * (len(COLUMNS) + 6))
    warned, counts = list[str](), set[int]()
    for algorithm in own["algos"].split(","):
        for seed in own["seeds"].split(","):
            run = folder / f"{own['task']}_{algorithm}_{seed}"
            summary = fine_tune(run, own["task"], algorithm, seed, settings)
            before, after = (read_scored(run / "samples" / f"{when}.sdf") for when in ("before", "after"))
            print("\n".join(rows(algorithm, seed, summary, gain_at_equal_size(before, after))), flush=True)
            counts.add(summary["before"]["n"])
            warned += [f"- {algorithm}, seed {seed}: {change}" for change in summary["changes"]]
    print("\n" + "\n".join(warned or ["No run warned of a changed composition."]))
    machine = f"{os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}"
    print(f"\n{', '.join(map(str, counts))} samples before and after. {machine}.")


if __name__ == "__main__":
    main()
