"""Mirror symmetry: how far a shape is from its mirror image."""

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.neighbours import nearest_rows, neighbours, tree
from molrl.rewards.shapes.body import Array, Body, DifferentiableReward, UnsoundError, like

MIRROR = np.array([-1.0, 1.0, 1.0])  # in the plane x = 0
THIN = 0.1  # along x, where the box is 2 long; less is its own mirror image
SETTLED, MOVES = 1e-4, 30  # the plane is found when it moves by less, or so often
X = np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True, kw_only=True)
class MirrorSymmetry(DifferentiableReward):
    """Minus the root of the mean squared distance from the mirrored points to the shape, beyond what chance explains.

    0 for a symmetric shape, by default at least -0.5, the floor of a bad sample. As a length it heeds small faults; in
    the square a few shapes with large ones decide the mean and the spread of all. The mirror is the plane x = c in
    which the shape comes closest to its image: the middle of the box depends on which points happen to be outermost.
    Two samplings of one surface differ as well; each point's squared distance to its nearest neighbour is as large on
    the average, and this is subtracted, so that the luck of the points is not paid for. A shape that is thin along x is
    bad: it would be its own mirror image.

    Attributes:
        sound: a distance up to which a shape counts as symmetric; a larger one is then worth minus the logarithm of how
            many times larger it is. A fault that is a fifth smaller gains little in this way and none at all gains
            most, where the plain distance pays for short legs, in which a missing one is a smaller fault. None: the
            distance as it is.
    """

    floor: float = -0.5
    sound: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sound is not None and not 0 < self.sound < math.inf:
            raise ValueError(f"sound: got {self.sound}, need a positive number or null")

    def formula(self, points: Array, body: Body) -> Array:
        if np.ptp(body.points[:, 0]) < THIN:
            raise UnsoundError(f"flat: {np.ptp(body.points[:, 0]):.2g} wide along x, at least {THIN}")
        across = 2 * mirror_plane(body.points) * X  # a constant: in the best plane the distance does not feel its place
        mirrored = points * like(points, MIRROR) + like(points, across)
        away = mirrored - points[nearest_rows(body.points * MIRROR + across, body.points)]
        excess: Any = (away**2).sum(-1).mean() - chance(body.points)
        nothing = (self.sound or 0.0) ** 2
        if excess <= nothing:
            return cast("Array", excess * 0.0)
        # the logarithm of a distance is half that of its square
        return cast("Array", -logarithm(excess / nothing) / 2 if nothing else -(excess**0.5))


def logarithm(number: Any) -> Any:
    """Of a number, or of a scalar with a gradient."""
    return np.log(number) if isinstance(number, float) else number.log()


def mirror_plane(points: NDArray[np.float64]) -> float:
    """The c of the plane x = c near 0 in which points [n, 3] come closest to their mirror image.

    By turns each mirrored point is paired with the nearest of the shape, and c is that of the least squares for these
    pairs, the mean of their middles (iterative closest points: Besl and McKay 1992, doi:10.1109/34.121791).
    """
    shape, c = tree(points), 0.0
    for _ in range(MOVES):
        pairs = shape.query(points * MIRROR + 2 * c * X)[1]
        before, c = c, float((points[:, 0] + points[pairs, 0]).mean() / 2)
        if abs(c - before) < SETTLED:
            break
    return c


def chance(points: NDArray[np.float64]) -> float:
    """The mean squared distance between a point of a surface and the nearest of another sampling of it [n, 3]."""
    return float(((points - points[neighbours(points, 1)[:, 0]]) ** 2).sum(-1).mean())
