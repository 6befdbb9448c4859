"""Mirror symmetry: how far a shape is from its mirror image (the SDI of Quartet of Diffusions, ICLR 2026)."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from molrl.data.neighbours import nearest, neighbours
from molrl.rewards.cloud import Array, Body, DifferentiableReward, UnsoundError, like

MIRROR = np.array([-1.0, 1.0, 1.0])  # the plane x = 0
THIN = 0.1  # along x, where the box is 2 long; less is its own mirror image


@dataclass(frozen=True, kw_only=True)
class MirrorSymmetry(DifferentiableReward):
    """Minus the root of the mean squared distance from the mirrored points to the shape, beyond what chance explains.

    0 for a symmetric shape, at least -0.5, which is the floor of a bad sample; its square is the SDI. As a length it
    heeds small faults; in the square a few shapes with large ones decide the mean and the spread of all. Two samplings
    of one surface differ as well; each point's squared distance to its nearest neighbour is as large on the average,
    and this is subtracted, so that the luck of the points is not paid for. A shape that is thin along x is bad: it
    would be its own mirror image.
    """

    floor: float = -0.5

    def formula(self, points: Array, body: Body) -> Array:
        if np.ptp(body.points[:, 0]) < THIN:
            raise UnsoundError(f"flat: {np.ptp(body.points[:, 0]):.2g} wide along x, at least {THIN}")
        mirrored = points * like(points, MIRROR)
        away = mirrored - points[nearest(body.points * MIRROR, body.points)]
        excess = (away**2).sum(-1).mean() - chance(body.points)
        penalty: Any = -(excess**0.5) if excess > 0 else excess * 0.0
        return cast("Array", penalty)


def chance(points: NDArray[np.float64]) -> float:
    """The mean squared distance between a point of a surface and the nearest of another sampling of it [n, 3]."""
    return float(((points - points[neighbours(points, 1)[:, 0]]) ** 2).sum(-1).mean())
