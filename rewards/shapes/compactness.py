"""Compactness of a shape: the isoperimetric quotient of its convex hull."""

from dataclasses import dataclass

import numpy as np

from molrl.data.shapes.neighbours import import_scipy
from molrl.rewards.scores import Scored
from molrl.rewards.shapes.body import Body, PointCloudReward, UnsoundError


@dataclass(frozen=True, kw_only=True)
class Compactness(PointCloudReward):
    """The quotient 36 pi V^2 / A^3 of the convex hull, in [0, 1]: 1 for a ball, pi / 6 for a cube, 0 for a flat or bad
    sample.
    """

    floor: float = 0.0

    def measure(self, body: Body) -> Scored:
        spatial = import_scipy("spatial")
        try:
            hull = spatial.ConvexHull(body.points)
        except spatial.QhullError:
            raise UnsoundError("flat: it has no hull") from None
        return Scored(max(36 * np.pi * float(hull.volume) ** 2 / float(hull.area) ** 3, self.floor))
