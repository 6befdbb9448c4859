"""Similarity to a given shape by the Chamfer distance (Fan et al. 2017, arXiv:1612.00603)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.files import read_shape
from molrl.data.shapes.neighbours import nearest_rows
from molrl.rewards.shapes.body import Array, Body, DifferentiableReward, UnsoundError, body_of, constant_like

POINTS, SEED = 2048, 0  # sampled on the surface of a target that is a mesh


@dataclass(frozen=True, kw_only=True)
class Likeness(DifferentiableReward):
    """Minus the Chamfer distance to a target, both in the unit box; at least -1, which is the floor of a bad sample.

    The distance is the mean squared distance to the nearest point of the other, added in both directions. The best
    value in practice is not 0 but near -0.003, that of two samplings of one surface (2048 points each on a chair).

    Attributes:
        target: a mesh or point file, or a cloud.
    """

    target: str | PointCloud
    floor: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self.target_points  # noqa: B018  # a bad target fails here
        except UnsoundError as flaw:
            raise ValueError(f"target: {flaw}") from flaw

    @cached_property
    def target_points(self) -> NDArray[np.float64]:
        """Return the points of the target in the unit box [k, 3]."""
        cloud = read_shape(self.target, POINTS, seed=SEED) if isinstance(self.target, str) else self.target
        return body_of(cloud.points).points

    def formula(self, points: Array, body: Body) -> Array:
        target = constant_like(points, self.target_points)
        to_target = points - target[nearest_rows(body.points, self.target_points)]
        from_target = points[nearest_rows(self.target_points, body.points)] - target
        distance: Any = (to_target**2).sum(-1).mean() + (from_target**2).sum(-1).mean()
        return cast("Array", -distance)
