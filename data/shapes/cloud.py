"""Shapes as point clouds, with or without a gradient."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

MAX_POINTS = 1_000_000


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points on the surface of a shape, in any order; y is up.

    Attributes:
        points: float32 [n, 3], finite, at least one. Rewards and metrics expect the box around them to have its middle
            at 0 and its longest edge from -1 to 1 (`shape_bbox`).
        label: the class, "" if there is none.
        name: "" if there is none.

    Raises ValueError for points of another shape or type, not finite, or too many.
    """

    points: NDArray[np.float32]
    label: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        shape = self.points.shape
        if len(shape) != 2 or shape[1] != 3 or not 0 < shape[0] <= MAX_POINTS:
            raise ValueError(f"points: got shape {shape}, need (n, 3) with n from 1 to {MAX_POINTS}")
        if self.points.dtype != np.float32 or not np.isfinite(self.points).all():
            raise ValueError(f"points: got {self.points.dtype}, need finite float32")

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class TracedPointCloud:
    """A point cloud that carries a gradient, as differentiable rewards take it.

    Attributes:
        points: [n, 3], of any place and size, finite or not.
        label: the class, "" if there is none.
    """

    points: "Tensor"
    label: str = ""


def place_in_unit_box(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move the middle of the box around the points [n, 3] to 0 and make its longest edge 2 (`shape_bbox`).

    Raises ValueError if all points are in one place.
    """
    low, high = points.min(0), points.max(0)
    half = float((high - low).max()) / 2
    if not half > 0:
        raise ValueError("all points are in one place")
    moved: NDArray[np.float32] = ((points - (low + high) / 2) / half).astype(np.float32)
    return moved
