"""What reaching a task costs the data themselves: leave out shapes that fail until enough pass, and change no other.

`python benchmarks/left_out.py [tippy=0.3] [asymmetric=0.3]` takes SHAPES procedural shapes of each class as they
come, then as many of which 20 points more do what a task asks for, or 97 % where that is less, and compares both with
SHAPES held-out shapes as they come. A policy that gives up the shapes that fail, and nothing else, ends at the second.
"""

import sys
from dataclasses import replace
from itertools import compress

import numpy as np
from shapes import tests

from molrl.data.shapes.procedural import Procedural
from molrl.models.shapes.quality import quality

SHAPES, SPARE, POINTS = 256, 900, 256
GAIN, ENOUGH = 0.2, 0.97
CLASSES = {
    "stability": ("chair", "lamp", "table"),
    "symmetry": ("airplane", "car", "chair", "lamp", "table"),
    "class_logit": ("airplane", "chair", "table"),
}


def row(task: str, family: str, tippy: float, asymmetric: float) -> str:
    """One line of the table: share that does, 1-NNA and diversity, before -> after."""
    source = Procedural(families=(family,), split="train", tippy=tippy, asymmetric=asymmetric)
    other = replace(source, split="test")
    held_out = [other.point_cloud(number, POINTS) for number in range(SHAPES)]
    shapes = [source.point_cloud(number, POINTS) for number in range(SHAPES + SPARE)]
    test = tests()[task]
    does = np.array([test(shape) for shape in shapes])
    share = does[:SHAPES].mean()
    wanted = round(min(share + GAIN, ENOUGH) * SHAPES)
    chosen = [*list(compress(shapes, does))[:wanted], *list(compress(shapes, ~does))[: SHAPES - wanted]]
    if len(chosen) < SHAPES:
        sys.exit(f"{task}, {family}: of {len(shapes)} shapes only {does.sum()} pass, {wanted} of {SHAPES} are wanted")
    before, after = quality(shapes[:SHAPES], held_out), quality(chosen, held_out)
    changes = [f"{before[name]:.3f} → {after[name]:.3f}" for name in ("one_nna", "diversity")]
    percent = 100 * (after["diversity"] / before["diversity"] - 1)
    return f"| {task}, {family} | {share:.3f} → {wanted / SHAPES:.3f} | {' | '.join(changes)} | {percent:+.0f} % |"


def main() -> None:
    """Leave out, compare, print."""
    given = dict(item.split("=", 1) for item in sys.argv[1:])
    tippy, asymmetric = (float(given.pop(name, 0.3)) for name in ("tippy", "asymmetric"))
    if given:
        sys.exit(f"{', '.join(given)}: allowed are tippy and asymmetric")
    print("| | share that does | 1-NNA | diversity | change |\n|---|---|---|---|---|")
    for task, classes in CLASSES.items():
        for family in classes:
            print(row(task, family, tippy, asymmetric), flush=True)


if __name__ == "__main__":
    main()
