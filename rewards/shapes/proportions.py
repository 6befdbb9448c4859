"""A reward for the proportions of a shape's bounding box."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from molrl.rewards.shapes.body import AXES, Array, Body, DifferentiableReward, constant_like

OUTER_FRACTION = 0.01  # of the points, whose mean marks each side of the box


@dataclass(frozen=True, kw_only=True)
class Proportions(DifferentiableReward):
    """Minus the squared distance of the edges of the box from wanted ones, both with their longest as 1; in [-2, 0].

    -2 for a bad sample. Sizes are relative because shapes are normalised, and because a reward of the absolute size
    could be raised by shrinking or growing. The position of a side of the box is the mean of the outermost 1 % of the
    points.

    Attributes:
        size: wanted width, height and depth, in any unit: [1, 2, 1] is a column.
    """

    size: Sequence[float]
    floor: float = -2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.size) != 3 or not all(math.isfinite(edge) and edge > 0 for edge in self.size):
            raise ValueError(f"size: got {list(self.size)}, need three positive numbers: width, height, depth")

    def formula(self, points: Array, body: Body) -> Array:
        edges = extents(points, body.points)
        longest = int(extents(body.points, body.points).argmax())
        wanted = np.array(self.size, dtype=np.float64) / max(self.size)
        error: Any = ((edges / edges[longest] - constant_like(points, wanted)) ** 2).sum()
        return cast("Array", -error)


def extents(points: Array, numbers: NDArray[np.float64]) -> Array:
    """Return the edges [3] of the box around points [n, 3], whose values are `numbers`."""
    count = max(1, math.floor(OUTER_FRACTION * len(numbers)))
    order = numbers.argsort(0)
    edges: Any = points[order[-count:], AXES].mean(0) - points[order[:count], AXES].mean(0)
    return cast("Array", edges)
