"""Fine-tune shapes to stand, to be symmetric and to be of a kind, and look at what else became of them.

`python benchmarks/shapes.py [folder] [task=stability] [algo=ddpo] [setting=value ...]` runs `molrl train` for each task
and algorithm with three seeds, each in a run folder of its own (default runs/shapes/TASK_ALGO_SEED; complete ones are
not repeated), measures the fresh samples before and after, which have the same noise, and prints tables in Markdown.
Held-out shapes are procedural ones of the test split, as many of each class as there are samples, at the same number of
points. Two columns are of the samples alone that do what the task asks for, against held-out shapes that do it as well:
what leaving out all others would come to. Where several classes are asked for, a second table has the means of each.
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
from molrl.models.shapes.checks import LOPSIDED, checks
from molrl.models.shapes.quality import quality
from molrl.rewards.shapes.class_probability import ClassProbability
from molrl.rewards.shapes.drop_simulation import DropTest
from molrl.rewards.shapes.stability import StabilityMargin
from molrl.rewards.shapes.symmetry import MirrorSymmetry

SEEDS = (0, 1, 2)
TASKS = ("stability", "symmetry", "class_logit")
ALGORITHMS = ("ddpo", "rgdm")
WHEN = ("before", "after")
SHOWN = 10  # samples in a row of the image
TIPPED = 20.0  # degrees, as in DSO (Li et al. 2025, arXiv:2503.22677)
COLUMNS = {
    "reached": "share that does",
    "one_nna": "1-NNA",
    "coverage": "coverage",
    "diversity": "diversity",
    "one_nna_reached": "1-NNA of those that do",
    "diversity_reached": "diversity of those that do",
    "standing": "margin > 0",
    "upright": "drop test",
    "symmetric": "symmetric",
    "recognised": "recognised",
}
CLASS_COLUMNS = {name: COLUMNS[name] for name in ("reached", "one_nna", "diversity")}
Test = Callable[[PointCloud], bool]


def tests() -> Mapping[str, Test]:
    """What each task is about, in words that a shape fulfils or not; the classifier is one that no run has seen."""
    margin, symmetry = StabilityMargin(plate=0.25), MirrorSymmetry()
    kinds = {"airplane": "swept_airplane", "chair": "armchair", "table": "pedestal_table"}
    judge = ClassProbability(wanted=kinds, weights="shape_kind_judge")
    return {
        "stability": lambda cloud: margin.score_one(cloud).value > 0,
        "symmetry": lambda cloud: symmetry.score_one(cloud).value ** 2 < LOPSIDED,
        "class_logit": lambda cloud: float(np.exp(judge.score_one(cloud).value)) > 0.5,
    }


def held_out(samples: Sequence[PointCloud], test: Test = lambda _: True) -> list[PointCloud]:
    """For each sample another procedural shape of its class and size that passes, of a split never trained on."""
    sources = {family: Procedural(families=(family,), split="test") for family in FAMILIES}
    numbers = {family: count() for family in FAMILIES}
    found = []
    for sample in samples:
        clouds = (sources[sample.label].point_cloud(number, len(sample)) for number in numbers[sample.label])
        found.append(next(cloud for cloud in clouds if test(cloud)))
    return found


def read(file: Path) -> list[PointCloud]:
    """The samples of a run."""
    with np.load(file, allow_pickle=False) as arrays:
        return [PointCloud(*pair) for pair in zip(arrays["points"], arrays["label"].tolist(), strict=True)]


def measured(file: Path, test: Test) -> dict[str, float]:
    """All figures of the samples in a file."""
    samples = read(file)
    with np.load(file, allow_pickle=False) as arrays:
        reward = float(np.nanmean(arrays["reward"]))
    drop = DropTest(seconds=4.0)
    good = [sample for sample in samples if test(sample)]
    apart = quality(good, held_out(good, test))
    return {
        "n": len(samples),
        "reward": reward,
        "reached": len(good) / len(samples),
        **quality(samples, held_out(samples)),
        **checks(samples),
        **{f"{name}_reached": apart[name] for name in ("one_nna", "diversity")},
        "upright": mean(-drop.score_one(sample).value < TIPPED for sample in samples),
    }


def figures(run: Path, task: str) -> dict[str, dict[str, float]]:
    """Those before and after, worked out once."""
    kept = run / "shapes.json"
    if not kept.exists():
        found = {when: measured(run / "samples" / f"{when}.npz", tests()[task]) for when in WHEN}
        kept.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return dict(json.loads(kept.read_text("utf-8")))


def class_rows(algo: str, runs: Sequence[Path], test: Test) -> list[str]:
    """Of each class by itself, the means over the runs; none where there is one class only."""
    samples = [{when: read(run / "samples" / f"{when}.npz") for when in WHEN} for run in runs]
    labels = sorted({cloud.label for one in samples for cloud in one["after"]})
    rows = []
    for label in labels if len(labels) > 1 else []:
        found = []
        for one in samples:
            clouds = {when: [cloud for cloud in one[when] if cloud.label == label] for when in WHEN}
            found.append({w: {"reached": mean(map(test, c)), **quality(c, held_out(c))} for w, c in clouds.items()})
        rows.append(f"| {algo}, {label} | {' | '.join(changes(found, CLASS_COLUMNS))} |")
    return rows


def changes(found: Sequence[Mapping[str, Mapping[str, float]]], columns: Iterable[str]) -> list[str]:
    """Means over the seeds, before -> after."""
    return [" → ".join(f"{mean(one[when][column] for one in found):.3f}" for when in WHEN) for column in columns]


def row(name: str, found: Sequence[Mapping[str, Mapping[str, float]]], cost: str) -> str:
    """One line of the table."""
    return f"| {' | '.join([name, *changes(found, COLUMNS), cost])} |"


def image(run: Path, task: str, folder: Path) -> None:
    """The first samples of a run, before in the upper row and after in the lower one."""
    clouds: list[PointCloud] = []
    for when in WHEN:
        clouds += read(run / "samples" / f"{when}.npz")[:SHOWN]
    words = ["yes" if tests()[task](cloud) else "no" for cloud in clouds]
    title = f"{task}: the first {SHOWN} samples before (top) and after, with the same noise"
    draw_point_clouds(clouds, words, columns=SHOWN, title=title).save(folder / f"{task}.png")


def main() -> None:
    """Run, measure, print, draw."""
    arguments = sys.argv[1:]
    folder = Path(arguments.pop(0)) if arguments and "=" not in arguments[0] else Path("runs/shapes")
    given = dict(item.split("=", 1) for item in arguments)
    tasks, algorithms = ([given.pop(n)] if n in given else a for n, a in (("task", TASKS), ("algo", ALGORITHMS)))
    settings = [f"{name}={value}" for name, value in given.items()]
    for task in tasks:
        print(f"\n**{task}**\n\n| | {' | '.join([*COLUMNS.values(), 'KL, minutes'])} |\n|{'---|' * (len(COLUMNS) + 2)}")
        classes = []
        for algo in algorithms:
            runs, found, costs = [folder / f"{task}_{algo}_{seed}" for seed in SEEDS], [], []
            for seed, run in zip(SEEDS, runs, strict=True):
                command = ["train", f"task={task}", f"algo={algo}", f"seed={seed}", f"run={run}", *settings]
                subprocess.run([sys.executable, "-m", "molrl.cli", *command], check=True, stdout=sys.stderr)
                found.append(figures(run, task))
                summary = json.loads((run / "summary.json").read_text("utf-8"))
                costs.append((summary["after"]["kl"], summary["wall_seconds"] / 60))
                print(row(f"{algo}, seed {seed}", found[-1:], "{:.1f}, {:.1f}".format(*costs[-1])), flush=True)
            print(row(f"**{algo}**", found, "{:.1f}, {:.1f}".format(*map(mean, zip(*costs, strict=True)))), flush=True)
            classes += class_rows(algo, runs, tests()[task])
        if classes:
            head = ["", *CLASS_COLUMNS.values()]
            print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}", *classes, sep="\n", flush=True)
        image(folder / f"{task}_{algorithms[0]}_{SEEDS[0]}", task, folder)


if __name__ == "__main__":
    main()
