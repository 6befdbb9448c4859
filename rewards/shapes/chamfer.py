"""Likeness to a given shape by the Chamfer distance (Fan et al. 2017, arXiv:1612.00603)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.files import read_shape
from molrl.data.shapes.neighbours import nearest_rows
from molrl.rewards.shapes.body import Array, Body, DifferentiableReward, UnsoundError, body_of, like

POINTS, SEED = 2048, 0  # sampled on the surface of a target that is a mesh


@dataclass(frozen=True, kw_only=True)
class Likeness(DifferentiableReward):
    """Minus the Chamfer distance to a target, both in the unit box; at least -1, which is the floor of a bad sample.

    The mean squared distance to the nearest point of the other, both directions added. Two samplings of one surface
    are not at 0 but near -0.003 (2048 points each on a chair), and that is as good as it gets.

    Attributes:
        target: a mesh or point file, or a cloud.
    """

    target: str | PointCloud
    floor: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self.goal  # noqa: B018  # a bad target fails here
        except UnsoundError as flaw:
            raise ValueError(f"target: {flaw}") from flaw

    @cached_property
    def goal(self) -> NDArray[np.float64]:
        """Points of the target [k, 3]."""
        found = read_shape(self.target, POINTS, seed=SEED) if isinstance(self.target, str) else self.target
        return body_of(found.points).points

    def formula(self, points: Array, body: Body) -> Array:
        goal = like(points, self.goal)
        there = points - goal[nearest_rows(body.points, self.goal)]
        back = points[nearest_rows(self.goal, body.points)] - goal
        distance: Any = (there**2).sum(-1).mean() + (back**2).sum(-1).mean()
        return cast("Array", -distance)
