"""Static stability of a shape: the distance of its centre of mass from the edge of its support polygon."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.neighbours import import_scipy, neighbour_counts, tree
from molrl.rewards.scores import Explained, Scored
from molrl.rewards.shapes.body import Array, Body, DifferentiableReward, UnsoundError, constant_like, relative_spacing
from molrl.rewards.shapes.drop_simulation import DropTest

FLOOR_QUANTILE = 0.005  # of the heights, at which the floor is
MAX_FOOT_HEIGHT = 0.1  # above the floor: the lowest point sampled on a leg is not its end
LEVEL, SIDE_RADIUS = 0.02, 0.1  # a foot is at most LEVEL higher than the points within SIDE_RADIUS, seen from above
PLAN = [0, 2]  # the axes of the view from above
LEFT = np.array([-1.0, 1.0])  # times the reversed components of a direction: that direction turned by 90 degrees
CROWD_RADIUS = 0.125  # of the neighbourhood in which a foot needs other points
DROP_SECONDS = 4.0  # of the held-out simulation; most shapes that fall lie by then
MIN_NEIGHBOURS, CROWD_DIVISOR = 2, 6.0  # it needs this many, and a sixth of the median number


@dataclass(frozen=True, kw_only=True)
class StabilityMargin(DifferentiableReward):
    """The distance of the centre of mass, seen from above, to the edge of the support polygon; larger is more stable.

    In half lengths of the longest edge: a cube has 1. Negative outside the polygon: the largest violation of an edge,
    at least -1. -1 for a bad sample. All points have the same mass. Feet are points on the floor with neighbours, so
    that a few stray ones do not support a shape; a sheet of a tenth of all points does.

    On tables with thin legs the standard error is 0.014 with 2048 points, 0.03 with 1024, 0.1 with 512 and 0.2 with
    256, as the ends of legs are not sampled. A ball has 0.3 instead of 0.

    Parts that hang close above the floor, as the wings of an airplane, count as support. Low shapes tip less than the
    margin predicts: a car with its wheels at one end stops when its body meets the floor. `DropTest` includes that, and
    is the check for a policy that was trained with this.

    Attributes:
        plate: largest fraction of the points that may stand on the floor; more is a base plate, which is a bad sample.
            A cube has 0.18 there.
        enough: the maximum of the value, since a policy would otherwise go on making feet wider; None: no maximum.

    Parts: the fraction of points on the floor itself, and of those dropped as strays.
    """

    plate: float
    enough: float | None = None
    floor: float = -1.0
    parts: ClassVar[tuple[str, ...]] = ("contact", "strays")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.plate <= 1:
            raise ValueError(f"plate: got {self.plate}, need a fraction above 0, up to 1")
        if self.enough is not None and not self.enough > 0:
            raise ValueError(f"enough: got {self.enough}, need a margin above 0, or null")

    @cached_property
    def held_out_reward(self) -> DropTest:
        """Return the judge of a policy that follows this margin: a simulated drop."""
        return DropTest(seconds=DROP_SECONDS)

    def measure(self, body: Body) -> Scored:
        value, contact = super().measure(body).value, contact_fraction(body.points, find_feet(body.points))
        return Explained(value, "", {"contact": contact, "strays": body.strays})

    def formula(self, points: Array, body: Body) -> Array:
        """Return n . (a - c), where c is the centre of mass and n the normal of the edge from a to b.

        The edge is the one that c is nearest to, or the most violated one.
        """
        ground, feet = points[:, PLAN], find_feet(body.points)
        if (contact := contact_fraction(body.points, feet)) > self.plate:
            raise UnsoundError(f"base plate: {contact:.0%} of the points on the floor, at most {self.plate:.0%}")
        edge, outward = nearest_edge(body.points[:, PLAN].mean(0), body.points[feet][:, PLAN])
        a, b = ground[feet[edge]]
        along: Any = b - a
        normal = along[[1, 0]] * constant_like(ground, outward) / (along**2).sum() ** 0.5
        margin: Any = (normal * (a - ground.mean(0))).sum()
        return cast("Array", margin if self.enough is None else margin.clip(max=self.enough))


def contact_fraction(points: NDArray[np.float64], feet: NDArray[np.intp]) -> float:
    """Return the fraction of the points [n, 3] that are feet and on the floor itself."""
    return float((heights(points)[feet] < LEVEL * relative_spacing(len(points))).sum()) / len(points)


def find_feet(points: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the rows of points [n, 3] that touch the floor: low, not above others nearby, and no outliers.

    Lengths are for clouds of 2048 points or more and grow as they get sparser. On these scales a leg ends at its lowest
    point, while a ball touches the floor at its pole only.
    """
    scale = relative_spacing(len(points))
    height = heights(points)
    low = np.flatnonzero(height < MAX_FOOT_HEIGHT * scale)
    beside = tree(points[low][:, [0, 2]]).query_ball_point(points[low][:, [0, 2]], SIDE_RADIUS * scale)
    lowest = np.array([height[low[rows]].min() for rows in beside])
    feet = low[height[low] <= lowest + LEVEL * scale]
    counts = neighbour_counts(points, CROWD_RADIUS * scale)
    return feet[counts[feet] >= max(MIN_NEIGHBOURS, float(np.median(counts)) / (CROWD_DIVISOR * scale))]


def heights(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the heights [n] of points [n, 3] above the floor."""
    return np.asarray(points[:, 1] - np.quantile(points[:, 1], FLOOR_QUANTILE))


def nearest_edge(
    centre: NDArray[np.float64], contacts: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the edge of the convex hull of contacts [n, 2] that a point [2] is nearest to or farthest beyond.

    Returns:
        The rows of its ends a and b, and the signs that turn (b - a)[::-1] outward.

    Raises:
        UnsoundError: there is no hull.
    """
    spatial = import_scipy("spatial")
    if len(contacts) < 3:
        raise UnsoundError(f"no footing: {len(contacts)} points on the floor")
    try:
        hull = spatial.ConvexHull(contacts)
    except spatial.QhullError:
        raise UnsoundError("no footing: the points on the floor are on a line") from None
    normals, offsets = hull.equations[:, :2], hull.equations[:, 2]  # outward
    worst = int((normals @ centre + offsets).argmax())
    a, b = hull.simplices[worst]
    turned = (contacts[b] - contacts[a])[::-1] * LEFT
    return hull.simplices[worst], LEFT if turned @ normals[worst] > 0 else -LEFT
