"""Mirror symmetry of a shape: the distance from its mirror image."""

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.neighbours import nearest_rows, neighbours, tree
from molrl.rewards.shapes.body import Array, Body, DifferentiableReward, UnsoundError, constant_like

MIRROR = np.array([-1.0, 1.0, 1.0])  # in the plane x = 0
MIN_WIDTH = 0.1  # along x, where the box is 2 long; a thinner shape is its own mirror image
PLANE_TOLERANCE, MAX_ITERATIONS = 1e-4, 30  # of the search for the mirror plane
X = np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True, kw_only=True)
class MirrorSymmetry(DifferentiableReward):
    """Minus the root mean squared distance from the mirrored points to the shape, less that of two samplings.

    0 for a symmetric shape, by default at least -0.5, the floor of a bad sample. The distance itself is sensitive to
    small faults; with its square a few shapes with large ones dominate mean and spread. The mirror is the plane x = c
    in which the shape comes closest to its image, since the middle of the box depends on the outermost points alone.
    Two samplings of one surface differ as well, in the mean square by as much as a point and its nearest neighbour;
    this is subtracted, so that the chance of sampling has no influence. A shape that is thin along x is bad: it would
    be its own mirror image.

    Attributes:
        sound: the distance up to which a shape counts as symmetric; the value of a larger one is minus the logarithm of
            its ratio to `sound`. Reducing a fault by a fifth then gains little and removing it most, while the plain
            distance rewards short legs, since a missing one is then a smaller fault. None: the plain distance.
    """

    floor: float = -0.5
    sound: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sound is not None and not 0 < self.sound < math.inf:
            raise ValueError(f"sound: got {self.sound}, need a positive number or null")

    def formula(self, points: Array, body: Body) -> Array:
        if np.ptp(body.points[:, 0]) < MIN_WIDTH:
            raise UnsoundError(f"flat: {np.ptp(body.points[:, 0]):.2g} wide along x, at least {MIN_WIDTH}")
        shift = 2 * mirror_plane(body.points) * X  # constant: at the best plane the derivative by its position is 0
        mirrored = points * constant_like(points, MIRROR) + constant_like(points, shift)
        offset = mirrored - points[nearest_rows(body.points * MIRROR + shift, body.points)]
        excess: Any = (offset**2).sum(-1).mean() - sampling_distance(body.points)
        tolerated = (self.sound or 0.0) ** 2
        if excess <= tolerated:
            return cast("Array", excess * 0.0)
        # the logarithm of a distance is half that of its square
        return cast("Array", -logarithm(excess / tolerated) / 2 if tolerated else -(excess**0.5))


def logarithm(number: Any) -> Any:
    """Return the logarithm of a number, or of a scalar with a gradient."""
    return np.log(number) if isinstance(number, float) else number.log()


def mirror_plane(points: NDArray[np.float64]) -> float:
    """Return the c of the plane x = c near 0 in which points [n, 3] come closest to their mirror image.

    In turn each mirrored point is paired with the nearest of the shape, and c becomes the least-squares solution for
    these pairs, the mean of their midpoints (iterative closest points: Besl and McKay 1992, doi:10.1109/34.121791).
    """
    shape, c = tree(points), 0.0
    for _ in range(MAX_ITERATIONS):
        pairs = shape.query(points * MIRROR + 2 * c * X)[1]
        previous, c = c, float((points[:, 0] + points[pairs, 0]).mean() / 2)
        if abs(c - previous) < PLANE_TOLERANCE:
            break
    return c


def sampling_distance(points: NDArray[np.float64]) -> float:
    """Estimate the mean squared distance of a point to the nearest of another sampling of its surface, from [n, 3]."""
    return float(((points - points[neighbours(points, 1)[:, 0]]) ** 2).sum(-1).mean())
