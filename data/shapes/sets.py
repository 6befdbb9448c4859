"""Training sets of shapes, and their sources."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from molrl.data.files import reading
from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.files import Up, read_shapes
from molrl.data.shapes.procedural import Procedural


@dataclass(frozen=True)
class ShapeSet:
    """A training set and held-out shapes to compare samples with, all with the same number of points."""

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
    """Return the first n procedural shapes of the training split, and the first `held_out` of the validation split.

    Args:
        tippy, asymmetric: fractions of the shapes with that defect.
        points: the number of points of each.

    Raises ValueError for numbers out of range.
    """
    if n < 1 or held_out < 0:
        raise ValueError(f"n, held_out: got {n}, {held_out}; need at least 1 and 0")
    point_clouds: dict[str, list[PointCloud]] = {}
    for split, number in (("train", n), ("validation", held_out)):
        shapes = Procedural(families=tuple(families), seed=seed, split=split, tippy=tippy, asymmetric=asymmetric)
        point_clouds[split] = [shapes.point_cloud(index, points) for index in range(number)]
    return ShapeSet(point_clouds["train"], point_clouds["validation"])


def file_set(*, path: str, held_out: int, seed: int, up: Up, points: int, min_points: int | None = None) -> ShapeSet:
    """Read the shapes of a file, or of a folder with a folder for each class, and hold out some, drawn by the seed.

    Args:
        points: number of points of each.
        min_points: number of points that a file without faces needs; fewer than `points` are repeated in turn. None: as
            many as `points`.

    Raises ValueError unless there are more shapes than are held out.
    """
    if min_points is not None and not 0 < min_points <= points:
        raise ValueError(f"min_points: got {min_points}, allowed 1 to {points} (points)")
    with reading():
        shapes, report = read_shapes(path, points, seed=seed, up=up, min_points=min_points)
    print(report)
    if not 0 <= held_out < len(shapes):
        raise ValueError(f"held_out: got {held_out} of {len(shapes)} shapes with {points} points, need fewer")
    order = np.random.default_rng(seed).permutation(len(shapes)).tolist()
    return ShapeSet([shapes[row] for row in order[held_out:]], [shapes[row] for row in order[:held_out]])
