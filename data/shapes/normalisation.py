"""Normalisation of the place and scale of shapes, under the names of the literature.

Rewards expect `shape_bbox`. Results of different modes cannot be compared: the 1-NNA of one published model is 65 with
`shape_bbox` and 76 with the scale of the data set.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from molrl.data.shapes.cloud import PointCloud, place_in_unit_box

Mode: TypeAlias = Literal["shape_bbox", "shape_unit", "shape_half", "shape_34", "global_unit", "none"]
DIVISORS = {"shape_unit": 1.0, "shape_half": 2.0, "shape_34": 4 / 3}


def normalise_point_clouds(point_clouds: Sequence[PointCloud], mode: Mode) -> list[PointCloud]:
    """Normalise all shapes of a set in one mode.

    `shape_bbox`: the middle of the box at 0, its longest edge from -1 to 1. `shape_unit`: the mean at 0 and the
    standard deviation of all coordinates of the shape 1; `shape_half` and `shape_34`: that divided by 2 and by 4/3.
    `global_unit`: the mean of each shape at 0, and the standard deviation of all coordinates of the set 1. `none`: as
    they are.

    Raises ValueError for an unknown mode and for a shape without extent.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"normalise: got {mode!r}, allowed are {', '.join(get_args(Mode))}")
    if mode == "none":
        return list(point_clouds)
    if mode == "shape_bbox":
        return [replace(cloud, points=place_in_unit_box(cloud.points)) for cloud in point_clouds]
    centred = [cloud.points.astype(np.float64) - cloud.points.mean(0, dtype=np.float64) for cloud in point_clouds]
    if mode == "global_unit":
        std = np.concatenate(centred).std() if centred else 1.0
        scales = [std] * len(centred)
    else:
        scales = [points.std() * DIVISORS[mode] for points in centred]
    if not all(scale > 0 for scale in scales):
        raise ValueError("all points are in one place")
    return [
        replace(cloud, points=(points / scale).astype(np.float32))
        for cloud, points, scale in zip(point_clouds, centred, scales, strict=True)
    ]
