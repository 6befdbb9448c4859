"""How shapes are moved and scaled before anything else; the names are those of the field.

Only `shape_bbox` is what rewards expect. Results of different modes must not be compared: the 1-NNA of one published
model is 65 by `shape_bbox` and 76 by the data set's scale.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from molrl.data.shapes.cloud import PointCloud, in_unit_box

Mode: TypeAlias = Literal["shape_bbox", "shape_unit", "shape_half", "shape_34", "global_unit", "none"]
DIVIDED = {"shape_unit": 1.0, "shape_half": 2.0, "shape_34": 4 / 3}


def normalised(clouds: Sequence[PointCloud], mode: Mode) -> list[PointCloud]:
    """All shapes of a set in one mode.

    `shape_bbox`: the middle of the box at 0, its longest edge from -1 to 1. `shape_unit`: the mean at 0 and the
    standard deviation of all coordinates of the shape 1; `shape_half` and `shape_34`: that divided by 2 and by 4/3.
    `global_unit`: the mean of each shape at 0, and the standard deviation of all coordinates of the set 1. `none`.

    Raises ValueError for a shape without extent.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"normalise: got {mode!r}, allowed are {', '.join(get_args(Mode))}")
    if mode == "none":
        return list(clouds)
    if mode == "shape_bbox":
        return [replace(cloud, points=in_unit_box(cloud.points)) for cloud in clouds]
    centred = [cloud.points.astype(np.float64) - cloud.points.mean(0, dtype=np.float64) for cloud in clouds]
    if mode == "global_unit":
        std = np.concatenate(centred).std() if centred else 1.0
        scales = [std] * len(centred)
    else:
        scales = [points.std() * DIVIDED[mode] for points in centred]
    if not all(scale > 0 for scale in scales):
        raise ValueError("all points are in one place")
    return [
        replace(cloud, points=(points / scale).astype(np.float32))
        for cloud, points, scale in zip(clouds, centred, scales, strict=True)
    ]
