"""Training sets of shapes, and where they come from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.files import Up, read_shapes
from molrl.data.shapes.procedural import Procedural


@dataclass(frozen=True)
class ShapeSet:
    """Shapes to learn from and shapes to compare samples with, all with the same number of points."""

    train: Sequence[PointCloud]
    held_out: Sequence[PointCloud]


def procedural_set(
    *,
    families: Sequence[str],
    n: int,
    held_out: int,
    seed: int,
    tippy: float,
    asymmetric: float,
    points: int,
) -> ShapeSet:
    """The first n procedural shapes of the training split, and the first ones of the validation split."""
    if n < 1 or held_out < 0:
        raise ValueError(f"n, held_out: got {n}, {held_out}; need at least 1 and 0")
    clouds: dict[str, list[PointCloud]] = {}
    for split, number in (("train", n), ("validation", held_out)):
        shapes = Procedural(families=tuple(families), seed=seed, split=split, tippy=tippy, asymmetric=asymmetric)
        clouds[split] = [shapes.cloud(index, points) for index in range(number)]
    return ShapeSet(clouds["train"], clouds["validation"])


def file_set(*, path: str, held_out: int, seed: int, up: Up, points: int) -> ShapeSet:
    """Shapes of a file, or of a folder with a folder for each class; some of them, drawn by the seed, are held out.

    Raises ValueError where there are not more shapes than are held out.
    """
    found, report = read_shapes(path, points, seed=seed, up=up)
    print(report)
    if not 0 <= held_out < len(found):
        raise ValueError(f"held_out: got {held_out} of {len(found)} shapes with {points} points, need fewer")
    order = np.random.default_rng(seed).permutation(len(found)).tolist()
    return ShapeSet([found[row] for row in order[held_out:]], [found[row] for row in order[:held_out]])
