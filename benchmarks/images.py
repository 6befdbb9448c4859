"""Fine-tune the pipeline of drawings toward small files, large files and its captions, with all other metrics.

`python benchmarks/images.py [folder] [task=alignment] [algo=ddpo] [setting=value ...]` runs `molrl train` for each
task and algorithm with three seeds, each in its own run folder (default runs/images/TASK_ALGO_SEED; complete ones are
not repeated; `seeds=0` makes those of one seed), compares the samples before and after, which have the same prompts and
noise, and prints tables in Markdown. A gain has its standard error over the pairs of one seed and, in rows of means,
over the three seeds; t is their ratio. `dpok_free` is DPOK without its KL, `dpok_held` with a weight of 1. TASK.png in
the folder shows the first samples of the first run.

With `model=FOLDER`, a pipeline of scenes (`molrl pretrain model=images64`), that is fine-tuned instead, by DDPO, DPOK
and NFT, with captions that it was trained with, and a fourth task is the class of one figure by a classifier
(`reward=image_class`). A second table has the captions that are all right among samples with held-out captions, before
and after, by kind, and for the fourth task the log-probability by a second classifier, which nothing
was trained with.
"""

import csv
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
from PIL import Image

from molrl.api import load_policy, sample
from molrl.data.images.grid import draw_images
from molrl.data.images.image import CaptionedImage
from molrl.data.images.metrics import scene_metrics
from molrl.data.images.scenes import KINDS
from molrl.domains import PolicySettings
from molrl.machine.files import replace_file

SEEDS = "0,1,2"
TASKS = ("compressibility", "incompressibility", "alignment")
SCENE_TASKS = (*TASKS, "class")
VARIANTS = {"dpok_free": ["algo=dpok", "algo.kl_weight=0"], "dpok_held": ["algo=dpok", "algo.kl_weight=1"]}
ALGORITHMS = ("ddpo", "dpok", *VARIANTS, "rwr")
SCENE_ALGORITHMS = ("ddpo", "dpok", "nft")
COLUMNS = {
    "reward_mean": "reward",
    "right": "all right",
    "bytes_per_pixel": "bytes per pixel",
    "diversity": "diversity",
}
HELD_OUT_COUNT, HELD_OUT_STEPS, HELD_OUT_SEED = 64, 20, 7  # samples with held-out captions of each kind
WHEN = ("before", "after")
PREVIEW_COUNT = 8  # samples in a row of the image


class Run(NamedTuple):
    """The results of one run: its summary, the gain of each sample, and the time."""

    summary: dict[str, dict[str, float]]
    gains: list[float]
    minutes: float


def train(folder: Path, task: str, algo: str, seed: int, settings: Sequence[str]) -> Run:
    """Run `molrl train`, unless the run is complete, and return its results."""
    run = folder / f"{task}_{algo}_{seed}"
    chosen = VARIANTS.get(algo, [f"algo={algo}"])
    molrl("train", f"task={'alignment' if task == 'class' else task}", *chosen, f"seed={seed}", f"run={run}", *settings)
    before, after = ([float(line["reward"]) for line in index(run, when)] for when in WHEN)
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    return Run(summary, [b - a for a, b in zip(before, after, strict=True)], summary["wall_seconds"] / 60)


def scene_settings(model: str, task: str) -> list[str]:
    """Return the settings of a task of scenes."""
    rewards = {"alignment": ["reward=scene_alignment"], "class": ["reward=image_class"]}
    prompts = "scenes_colour" if task == "class" else "scenes"
    return [f"policy={model}", f"task.prompts={prompts}", *rewards.get(task, [])]


def judged(archive: Path) -> float:
    """Return the mean log-probability of an archive's prompts by the classifier that judges."""
    table = archive.with_suffix(".judge.csv")
    molrl("score", f"file={archive}", "reward=image_class", "reward.weights=scene_judge", f"out={table}")
    with table.open(newline="", encoding="utf-8") as file:
        return mean(float(line["image_class"]) for line in csv.DictReader(file))


def held_out_right(model: str, file: Path) -> dict[str, float]:
    """Return the shares of samples with held-out captions that are all right, by kind, unless a file has them."""
    if not file.exists():
        policy = load_policy(model, num_steps=HELD_OUT_STEPS, guidance_scale=1.0)
        right = {kind: right_of_kind(policy, kind) for kind in KINDS}
        replace_file(file, json.dumps({"mean of the kinds": mean(right.values()), **right}).encode())
    return {kind: float(share) for kind, share in json.loads(file.read_text("utf-8")).items()}


def right_of_kind(policy: PolicySettings, kind: str) -> float:
    """Return the share of samples with held-out captions of a kind that are all right."""
    asked = {"prompts": f"scenes_{kind}_held_out"}
    return scene_metrics(sample(policy, HELD_OUT_COUNT, seed=HELD_OUT_SEED, condition=asked, threads=1))["right"]


def print_held_out(
    folder: Path, model: str, tasks: Sequence[str], algorithms: Sequence[str], seeds: Sequence[int]
) -> None:
    """Print what no run was trained with, before and after, with the standard error over the seeds.

    It is the share of held-out captions that are all right, and for "class" the judge's log-probability.
    """
    before = held_out_right(model, folder / "held_out.json")
    print("\n| task | algorithm | measure | before → after | gain |\n|---|---|---|---|---|")
    for task in tasks:
        for algo in algorithms:
            runs = [folder / f"{task}_{algo}_{seed}" for seed in seeds]
            after = [held_out_right(str(run), run / "held_out.json") for run in runs]
            for kind, share in before.items():
                values = [each[kind] for each in after]
                print(unseen_row(task, algo, f"held-out captions, {kind}", [share] * len(runs), values), flush=True)
            if task == "class":
                first, last = ([judged(run / "samples" / f"{when}.zip") for run in runs] for when in WHEN)
                print(unseen_row(task, algo, "log p(class) by the judge", first, last), flush=True)


def unseen_row(task: str, algo: str, measure: str, before: Sequence[float], after: Sequence[float]) -> str:
    """Return the table row of a measure of several seeds."""
    gains = [b - a for a, b in zip(before, after, strict=True)]
    gain = f"{mean(gains):+.3f}" + (f" ± {stdev(gains) / len(gains) ** 0.5:.3f}" if len(gains) > 1 else "")
    return f"| {task} | {algo} | {measure} | {mean(before):.3f} → {mean(after):.3f} | {gain} |"


def molrl(*arguments: str) -> None:
    """Run a command of molrl, its output to the error stream."""
    subprocess.run([sys.executable, "-m", "molrl.cli", *arguments], check=True, stdout=sys.stderr)


def index(run: Path, when: str) -> list[dict[str, str]]:
    """Read the index of an archive of samples."""
    with zipfile.ZipFile(run / "samples" / f"{when}.zip") as archive:
        return list(csv.DictReader(io.StringIO(archive.read("index.tsv").decode("utf-8")), delimiter="\t"))


def row(name: str, runs: Sequence[Run]) -> str:
    """Return the table row of one run, or of the means of several."""
    cells = [" → ".join(f"{mean(run.summary[when][key] for run in runs):.3f}" for when in WHEN) for key in COLUMNS]
    values = [mean(run.gains) for run in runs] if len(runs) > 1 else runs[0].gains
    gain, error = mean(values), stdev(values) / len(values) ** 0.5
    cost = f"{mean(run.summary['after']['kl'] for run in runs):.1f}, {mean(run.minutes for run in runs):.1f}"
    return f"| {' | '.join([name, cells[0], f'{gain:+.4f} ± {error:.4f}', f'{gain / error:.1f}', *cells[1:], cost])} |"


def save_preview(run: Path, task: str, folder: Path) -> None:
    """Save the first samples of a run, those before in the upper row and those after in the lower one."""
    images: list[CaptionedImage] = []
    captions: list[str] = []
    for when in WHEN:
        lines = index(run, when)[:PREVIEW_COUNT]
        with zipfile.ZipFile(run / "samples" / f"{when}.zip") as archive:
            for line in lines:
                with Image.open(io.BytesIO(archive.read(line["file"]))) as image:
                    images.append(CaptionedImage(np.asarray(image.convert("RGB")), line["prompt"]))
                captions.append(f"{line['prompt']}\n{when}: {float(line['reward']):.3f}")
    draw_images(images, captions, columns=PREVIEW_COUNT).save(folder / f"{task}.png")


def main() -> None:
    """Run what is missing, and print and draw the comparison."""
    arguments = sys.argv[1:]
    folder = Path(arguments.pop(0)) if arguments and "=" not in arguments[0] else Path("runs/images")
    given = dict(item.split("=", 1) for item in arguments)
    model = given.pop("model", None)
    tasks = [given.pop("task")] if "task" in given else (SCENE_TASKS if model else TASKS)
    algorithms = [given.pop("algo")] if "algo" in given else (SCENE_ALGORITHMS if model else ALGORITHMS)
    seeds = [int(seed) for seed in given.pop("seeds", SEEDS).split(",")]
    settings = [f"{name}={value}" for name, value in given.items()]
    reward, *others = COLUMNS.values()
    for task in tasks:
        head = ["", reward, "gain", "t", *others, "KL, minutes"]
        print(f"\n**{task}**\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
        for algo in algorithms:
            runs = []
            for seed in seeds:
                own = scene_settings(model, task) if model else []
                runs.append(train(folder, task, algo, seed, [*own, *settings]))
                print(row(f"{algo}, seed {seed}", runs[-1:]), flush=True)
            print(row(f"**{algo}**", runs), flush=True)
        save_preview(folder / f"{task}_{algorithms[0]}_{seeds[0]}", task, folder)
    if model:
        print_held_out(folder, model, tasks, algorithms, seeds)


if __name__ == "__main__":
    main()
