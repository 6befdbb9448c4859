"""Fine-tune shapes toward stability, symmetry and a subclass, with all other metrics.

`python benchmarks/shapes.py [folder] [task=stability] [algo=ddpo] [setting=value ...]` runs `molrl train` for each task
and algorithm with three seeds, each in its own run folder (default runs/shapes/TASK_ALGO_SEED; complete ones are
not repeated), measures the fresh samples before and after, which have the same noise, and prints tables in Markdown.
Held-out shapes are procedural ones of the test split, as many of each class as there are samples, at the same number of
points. Two columns compare the successful samples alone with successful held-out shapes, as if all others had been left
out. For several classes, a second table has the means of each.
TASK.png in the folder shows the first samples of the first seed.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import mean

import numpy as np

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.drawing import draw_point_clouds
from molrl.data.shapes.procedural import FAMILIES, Procedural
from molrl.models.shapes.checks import MAX_ASYMMETRY, checks
from molrl.models.shapes.quality import quality
from molrl.rewards.shapes.class_probability import ClassProbability
from molrl.rewards.shapes.drop_simulation import DropTest
from molrl.rewards.shapes.stability import StabilityMargin
from molrl.rewards.shapes.symmetry import MirrorSymmetry

SEEDS = (0, 1, 2)
TASKS = ("stability", "symmetry", "class_logit")
ALGORITHMS = ("ddpo", "rgdm")
WHEN = ("before", "after")
PREVIEW_COUNT = 10  # samples in a row of the image
MAX_TILT = 20.0  # degrees, as in DSO (Li et al. 2025, arXiv:2503.22677)
COLUMNS = {
    "reached": "success rate",
    "one_nna": "1-NNA",
    "coverage": "coverage",
    "diversity": "diversity",
    "one_nna_reached": "1-NNA of successes",
    "diversity_reached": "diversity of successes",
    "standing": "margin > 0",
    "upright": "drop test",
    "symmetric_fraction": "symmetric",
    "class_accuracy": "recognised",
}
CLASS_COLUMNS = {name: COLUMNS[name] for name in ("reached", "one_nna", "diversity")}
Criterion = Callable[[PointCloud], bool]


def criteria() -> Mapping[str, Criterion]:
    """Return a criterion of success for each task; its classifier is used by no run."""
    margin, symmetry = StabilityMargin(plate=0.25), MirrorSymmetry()
    kinds = {"airplane": "swept_airplane", "chair": "armchair", "table": "pedestal_table"}
    judge = ClassProbability(wanted=kinds, weights="shape_kind_judge")
    return {
        "stability": lambda cloud: margin.score_one(cloud).value > 0,
        "symmetry": lambda cloud: symmetry.score_one(cloud).value ** 2 < MAX_ASYMMETRY,
        "class_logit": lambda cloud: float(np.exp(judge.score_one(cloud).value)) > 0.5,
    }


def held_out(samples: Sequence[PointCloud], succeeds: Criterion = lambda _: True) -> list[PointCloud]:
    """Return for each sample a procedural shape of its class and size that succeeds, from the test split."""
    sources = {family: Procedural(families=(family,), split="test") for family in FAMILIES}
    numbers = {family: count() for family in FAMILIES}
    chosen = []
    for sample in samples:
        clouds = (sources[sample.label].point_cloud(number, len(sample)) for number in numbers[sample.label])
        chosen.append(next(cloud for cloud in clouds if succeeds(cloud)))
    return chosen


def read(file: Path) -> list[PointCloud]:
    """Read the samples of a run."""
    with np.load(file, allow_pickle=False) as arrays:
        return [PointCloud(*pair) for pair in zip(arrays["points"], arrays["label"].tolist(), strict=True)]


def measure(file: Path, succeeds: Criterion) -> dict[str, float]:
    """Measure all metrics of the samples in a file."""
    samples = read(file)
    with np.load(file, allow_pickle=False) as arrays:
        reward = float(np.nanmean(arrays["reward"]))
    drop = DropTest(seconds=4.0)
    good = [sample for sample in samples if succeeds(sample)]
    good_quality = quality(good, held_out(good, succeeds))
    return {
        "n": len(samples),
        "reward": reward,
        "reached": len(good) / len(samples),
        **quality(samples, held_out(samples)),
        **checks(samples),
        **{f"{name}_reached": good_quality[name] for name in ("one_nna", "diversity")},
        "upright": mean(-drop.score_one(sample).value < MAX_TILT for sample in samples),
    }


def run_metrics(run: Path, task: str) -> dict[str, dict[str, float]]:
    """Return the metrics before and after a run, computed once."""
    stored = run / "shapes.json"
    if not stored.exists():
        metrics = {when: measure(run / "samples" / f"{when}.npz", criteria()[task]) for when in WHEN}
        stored.write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")
    return dict(json.loads(stored.read_text("utf-8")))


def class_rows(algo: str, runs: Sequence[Path], succeeds: Criterion) -> list[str]:
    """Return table rows of each class alone, means over the runs; none for a single class."""
    samples = [{when: read(run / "samples" / f"{when}.npz") for when in WHEN} for run in runs]
    labels = sorted({cloud.label for one in samples for cloud in one["after"]})
    rows = []
    for label in labels if len(labels) > 1 else []:
        metrics = []
        for one in samples:
            clouds = {when: [cloud for cloud in one[when] if cloud.label == label] for when in WHEN}
            metrics.append(
                {w: {"reached": mean(map(succeeds, c)), **quality(c, held_out(c))} for w, c in clouds.items()}
            )
        rows.append(f"| {algo}, {label} | {' | '.join(changes(metrics, CLASS_COLUMNS))} |")
    return rows


def changes(metrics: Sequence[Mapping[str, Mapping[str, float]]], columns: Iterable[str]) -> list[str]:
    """Format means over the seeds, before -> after."""
    return [" → ".join(f"{mean(one[when][column] for one in metrics):.3f}" for when in WHEN) for column in columns]


def row(name: str, metrics: Sequence[Mapping[str, Mapping[str, float]]], cost: str) -> str:
    """Return one row of the table."""
    return f"| {' | '.join([name, *changes(metrics, COLUMNS), cost])} |"


def save_preview(run: Path, task: str, folder: Path) -> None:
    """Save the first samples of a run, those before in the upper row and those after in the lower one."""
    clouds: list[PointCloud] = []
    for when in WHEN:
        clouds += read(run / "samples" / f"{when}.npz")[:PREVIEW_COUNT]
    words = ["yes" if criteria()[task](cloud) else "no" for cloud in clouds]
    title = f"{task}: the first {PREVIEW_COUNT} samples before (top) and after, with the same noise"
    draw_point_clouds(clouds, words, columns=PREVIEW_COUNT, title=title).save(folder / f"{task}.png")


def main() -> None:
    """Run what is missing, and print and draw the metrics."""
    arguments = sys.argv[1:]
    folder = Path(arguments.pop(0)) if arguments and "=" not in arguments[0] else Path("runs/shapes")
    given = dict(item.split("=", 1) for item in arguments)
    tasks, algorithms = ([given.pop(n)] if n in given else a for n, a in (("task", TASKS), ("algo", ALGORITHMS)))
    settings = [f"{name}={value}" for name, value in given.items()]
    for task in tasks:
        print(f"\n**{task}**\n\n| | {' | '.join([*COLUMNS.values(), 'KL, minutes'])} |\n|{'---|' * (len(COLUMNS) + 2)}")
        classes = []
        for algo in algorithms:
            runs, metrics, costs = [folder / f"{task}_{algo}_{seed}" for seed in SEEDS], [], []
            for seed, run in zip(SEEDS, runs, strict=True):
                command = ["train", f"task={task}", f"algo={algo}", f"seed={seed}", f"run={run}", *settings]
                subprocess.run([sys.executable, "-m", "molrl.cli", *command], check=True, stdout=sys.stderr)
                metrics.append(run_metrics(run, task))
                summary = json.loads((run / "summary.json").read_text("utf-8"))
                costs.append((summary["after"]["kl"], summary["wall_seconds"] / 60))
                print(row(f"{algo}, seed {seed}", metrics[-1:], "{:.1f}, {:.1f}".format(*costs[-1])), flush=True)
            print(
                row(f"**{algo}**", metrics, "{:.1f}, {:.1f}".format(*map(mean, zip(*costs, strict=True)))), flush=True
            )
            classes += class_rows(algo, runs, criteria()[task])
        if classes:
            head = ["", *CLASS_COLUMNS.values()]
            print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}", *classes, sep="\n", flush=True)
        save_preview(folder / f"{task}_{algorithms[0]}_{SEEDS[0]}", task, folder)


if __name__ == "__main__":
    main()
