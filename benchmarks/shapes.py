"""Fine-tune shapes to stand, to be symmetric and to be of a kind, and look at what else became of them.

`python benchmarks/shapes.py [folder] [task=stability] [algo=ddpo] [setting=value ...]` runs `molrl train` for each task
and algorithm with three seeds, each in a run folder of its own (default runs/shapes/TASK_ALGO_SEED; complete ones are
not repeated), measures the fresh samples before and after, which have the same noise, and prints tables in Markdown.
Held-out shapes are procedural ones of the test split, as many of each class as there are samples, at the same number of
points. Two columns are of the samples alone that do what the task asks for, against held-out shapes that do it as well:
what leaving out all others would come to. TASK.png in the folder shows the first samples of the first seed.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import mean

import numpy as np

from molrl.data.procedural import FAMILIES, Procedural
from molrl.data.shape import PointCloud
from molrl.data.shape_drawing import draw_clouds
from molrl.models.shape_checks import LOPSIDED, checks
from molrl.models.shape_quality import quality
from molrl.rewards.drop_test import DropTest
from molrl.rewards.margin import StabilityMargin
from molrl.rewards.shape_class import ClassProbability
from molrl.rewards.symmetry import MirrorSymmetry

SEEDS = (0, 1, 2)
TASKS = ("stability", "symmetry", "class_logit")
ALGORITHMS = ("ddpo", "rgdm")
WHEN = ("before", "after")
SHOWN = 10  # samples in a row of the picture
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
Test = Callable[[PointCloud], bool]


def tests() -> Mapping[str, Test]:
    """What each task is about, in words that a shape fulfils or not; the classifier is one that no run has seen."""
    margin, symmetry = StabilityMargin(plate=0.25), MirrorSymmetry()
    kinds = {"airplane": "swept_airplane", "chair": "armchair", "table": "pedestal_table"}
    judge = ClassProbability(wanted=kinds, weights="shape_kind_judge")
    return {
        "stability": lambda cloud: margin.judge(cloud).value > 0,
        "symmetry": lambda cloud: symmetry.judge(cloud).value ** 2 < LOPSIDED,
        "class_logit": lambda cloud: float(np.exp(judge.judge(cloud).value)) > 0.5,
    }


def held_out(samples: Sequence[PointCloud], test: Test = lambda _: True) -> list[PointCloud]:
    """For each sample another procedural shape of its class and size that passes, of a split never trained on."""
    sources = {family: Procedural(families=(family,), split="test") for family in FAMILIES}
    numbers = {family: count() for family in FAMILIES}
    found = []
    for sample in samples:
        clouds = (sources[sample.label].cloud(number, len(sample)) for number in numbers[sample.label])
        found.append(next(cloud for cloud in clouds if test(cloud)))
    return found


def measured(file: Path, test: Test) -> dict[str, float]:
    """All figures of the samples in a file."""
    with np.load(file, allow_pickle=False) as arrays:
        samples = [PointCloud(*pair) for pair in zip(arrays["points"], arrays["label"].tolist(), strict=True)]
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
        "upright": mean(-drop.judge(sample).value < TIPPED for sample in samples),
    }


def figures(run: Path, task: str) -> dict[str, dict[str, float]]:
    """Those before and after, worked out once."""
    kept = run / "shapes.json"
    if not kept.exists():
        found = {when: measured(run / "samples" / f"{when}.npz", tests()[task]) for when in WHEN}
        kept.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return dict(json.loads(kept.read_text("utf-8")))


def row(name: str, found: Sequence[Mapping[str, Mapping[str, float]]], cost: str) -> str:
    """Means over the seeds, before -> after."""
    cells = [" → ".join(f"{mean(one[when][column] for one in found):.3f}" for when in WHEN) for column in COLUMNS]
    return f"| {' | '.join([name, *cells, cost])} |"


def picture(run: Path, task: str, folder: Path) -> None:
    """The first samples of a run, before in the upper row and after in the lower one."""
    clouds: list[PointCloud] = []
    for when in WHEN:
        with np.load(run / "samples" / f"{when}.npz", allow_pickle=False) as arrays:
            clouds += [PointCloud(*pair) for pair in zip(arrays["points"], arrays["label"].tolist(), strict=True)][
                :SHOWN
            ]
    words = ["yes" if tests()[task](cloud) else "no" for cloud in clouds]
    title = f"{task}: the first {SHOWN} samples before (top) and after, with the same noise"
    draw_clouds(clouds, words, columns=SHOWN, title=title).save(folder / f"{task}.png")


def main() -> None:
    """Run, measure, print, draw."""
    arguments = sys.argv[1:]
    folder = Path(arguments.pop(0)) if arguments and "=" not in arguments[0] else Path("runs/shapes")
    given = dict(item.split("=", 1) for item in arguments)
    tasks, algorithms = ([given.pop(n)] if n in given else a for n, a in (("task", TASKS), ("algo", ALGORITHMS)))
    settings = [f"{name}={value}" for name, value in given.items()]
    for task in tasks:
        print(f"\n**{task}**\n\n| | {' | '.join([*COLUMNS.values(), 'KL, minutes'])} |\n|{'---|' * (len(COLUMNS) + 2)}")
        for algo in algorithms:
            found, costs = [], []
            for seed in SEEDS:
                run = folder / f"{task}_{algo}_{seed}"
                command = ["train", f"task={task}", f"algo={algo}", f"seed={seed}", f"run={run}", *settings]
                subprocess.run([sys.executable, "-m", "molrl.cli", *command], check=True, stdout=sys.stderr)
                found.append(figures(run, task))
                summary = json.loads((run / "summary.json").read_text("utf-8"))
                costs.append((summary["after"]["kl"], summary["wall_seconds"] / 60))
                print(row(f"{algo}, seed {seed}", found[-1:], "{:.1f}, {:.1f}".format(*costs[-1])), flush=True)
            print(row(f"**{algo}**", found, "{:.1f}, {:.1f}".format(*map(mean, zip(*costs, strict=True)))), flush=True)
        picture(folder / f"{task}_{algorithms[0]}_{SEEDS[0]}", task, folder)


if __name__ == "__main__":
    main()
