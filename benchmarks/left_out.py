"""The cost of a task in the data set itself: leave out failing shapes until enough pass, and change no other.

`python benchmarks/left_out.py [tippy=0.3] [asymmetric=0.3]` takes the first SHAPES procedural shapes of each class,
then as many with a success rate that is 20 points higher, or 97 % if that is less, and compares both with SHAPES
held-out shapes. A policy that only stops drawing the shapes that fail reaches the second.
"""

import sys
from dataclasses import replace
from itertools import compress

import numpy as np
from shapes import criteria

from molrl.data.shapes.procedural import Procedural
from molrl.models.shapes.quality import quality

SHAPES, SPARE, POINTS = 256, 900, 256
GAIN, MAX_RATE = 0.2, 0.97
CLASSES = {
    "stability": ("chair", "lamp", "table"),
    "symmetry": ("airplane", "car", "chair", "lamp", "table"),
    "class_logit": ("airplane", "chair", "table"),
}


def row(task: str, family: str, tippy: float, asymmetric: float) -> str:
    """Return one row of the table: success rate, 1-NNA and diversity, before -> after."""
    source = Procedural(families=(family,), split="train", tippy=tippy, asymmetric=asymmetric)
    other = replace(source, split="test")
    held_out = [other.point_cloud(number, POINTS) for number in range(SHAPES)]
    shapes = [source.point_cloud(number, POINTS) for number in range(SHAPES + SPARE)]
    succeeds = criteria()[task]
    success = np.array([succeeds(shape) for shape in shapes])
    rate = success[:SHAPES].mean()
    count = round(min(rate + GAIN, MAX_RATE) * SHAPES)
    chosen = [*list(compress(shapes, success))[:count], *list(compress(shapes, ~success))[: SHAPES - count]]
    if len(chosen) < SHAPES:
        sys.exit(f"{task}, {family}: of {len(shapes)} shapes only {success.sum()} succeed, need {count} of {SHAPES}")
    before, after = quality(shapes[:SHAPES], held_out), quality(chosen, held_out)
    changes = [f"{before[name]:.3f} → {after[name]:.3f}" for name in ("one_nna", "diversity")]
    percent = 100 * (after["diversity"] / before["diversity"] - 1)
    return f"| {task}, {family} | {rate:.3f} → {count / SHAPES:.3f} | {' | '.join(changes)} | {percent:+.0f} % |"


def main() -> None:
    """Leave out failing shapes and print the comparison."""
    given = dict(item.split("=", 1) for item in sys.argv[1:])
    tippy, asymmetric = (float(given.pop(name, 0.3)) for name in ("tippy", "asymmetric"))
    if given:
        sys.exit(f"{', '.join(given)}: allowed are tippy and asymmetric")
    print("| | success rate | 1-NNA | diversity | change |\n|---|---|---|---|---|")
    for task, classes in CLASSES.items():
        for family in classes:
            print(row(task, family, tippy, asymmetric), flush=True)


if __name__ == "__main__":
    main()
