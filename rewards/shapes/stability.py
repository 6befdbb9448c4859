"""Does a shape stand: how far its centre of mass is from the edge of what it stands on, without a simulation."""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.neighbours import import_scipy, neighbour_counts, tree
from molrl.rewards.scores import Explained, Scored
from molrl.rewards.shapes.body import Array, Body, DifferentiableReward, UnsoundError, like, rarity

LOWEST = 0.005  # quantile of the heights that is the floor
REACH = 0.1  # above it, a foot is taken to stand on it: the lowest point drawn on a leg is not its end
LEVEL, ASIDE = 0.02, 0.1  # a foot is as low as what is so far aside from it, seen from above, but for a little
PLAN = [0, 2]  # seen from above
LEFT = np.array([-1.0, 1.0])  # times a direction's numbers in reverse: that direction turned by 90 degrees
NEAR, COMPANY, CROWD = 0.125, 2, 6.0  # within which a foot has this many others, or a sixth of what is usual


@dataclass(frozen=True, kw_only=True)
class StabilityMargin(DifferentiableReward):
    """Distance of the centre of mass, seen from above, to the edge of the support polygon; larger is more stable.

    In half lengths of the longest edge: a cube has 1. Negative outside the polygon: the largest violation of an edge,
    at least -1. -1 for a bad sample. Mass is spread evenly over the points. What stands on the floor are points with
    neighbours, so that a few stray ones below a tippy shape do not hold it up; a sheet of a tenth of all points does.

    On tables with thin legs the standard error is 0.014 with 2048 points, 0.03 with 1024, 0.1 with 512 and 0.2 with
    256, as the ends of legs are not drawn. A ball has 0.3 instead of 0.

    What hangs close above the floor, as the wings of an airplane, supports as well. Low shapes tip less than the margin
    says: a car with its wheels at one end stops when its body meets the floor. `DropTest` sees that, and is the check
    for a policy that was trained with this.

    Attributes:
        plate: largest share of the points that may stand on the floor; more is a base plate, which is a bad sample. A
            cube has 0.18 there.
        enough: larger margins are worth no more than this: a policy that is to make shapes stand would go on making
            their feet wider; None: no limit.

    Parts: the share of points on the floor itself, and of those dropped as strays.
    """

    plate: float
    enough: float | None = None
    floor: float = -1.0
    parts: ClassVar[tuple[str, ...]] = ("contact", "strays")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.plate <= 1:
            raise ValueError(f"plate: got {self.plate}, need a share above 0, up to 1")
        if self.enough is not None and not self.enough > 0:
            raise ValueError(f"enough: got {self.enough}, need a margin above 0, or null")

    def measured(self, body: Body) -> Scored:
        value, contact = super().measured(body).value, on_floor(body.points, standing(body.points))
        return Explained(value, "", {"contact": contact, "strays": body.strays})

    def formula(self, points: Array, body: Body) -> Array:
        """n . (a - c): c is the centre of mass, a b the edge that is nearest to it or most violated, n its normal."""
        ground, feet = points[:, PLAN], standing(body.points)
        if (contact := on_floor(body.points, feet)) > self.plate:
            raise UnsoundError(f"base plate: {contact:.0%} of the points on the floor, at most {self.plate:.0%}")
        edge, outward = nearest_edge(body.points[:, PLAN].mean(0), body.points[feet][:, PLAN])
        a, b = ground[feet[edge]]
        along: Any = b - a
        normal = along[[1, 0]] * like(ground, outward) / (along**2).sum() ** 0.5
        margin: Any = (normal * (a - ground.mean(0))).sum()
        return cast("Array", margin if self.enough is None else margin.clip(max=self.enough))


def on_floor(points: NDArray[np.float64], feet: NDArray[np.intp]) -> float:
    """The share of the points [n, 3] that are feet and on the floor itself."""
    return float((raised(points)[feet] < LEVEL * rarity(len(points))).sum()) / len(points)


def standing(points: NDArray[np.float64]) -> NDArray[np.intp]:
    """The rows of points [n, 3] that touch the floor: low, not above others nearby, and no outliers.

    Lengths are for clouds of 2048 points or more and grow as they get sparser. Within them a leg ends at its lowest
    point, while of a ball only the pole stands.
    """
    scale = rarity(len(points))
    height = raised(points)
    low = np.flatnonzero(height < REACH * scale)
    around = tree(points[low][:, [0, 2]]).query_ball_point(points[low][:, [0, 2]], ASIDE * scale)
    lowest = np.array([height[low[near]].min() for near in around])
    feet = low[height[low] <= lowest + LEVEL * scale]
    company = neighbour_counts(points, NEAR * scale)
    return feet[company[feet] >= max(COMPANY, float(np.median(company)) / (CROWD * scale))]


def raised(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """How high points [n, 3] are above the floor."""
    return np.asarray(points[:, 1] - np.quantile(points[:, 1], LOWEST))


def nearest_edge(
    centre: NDArray[np.float64], contacts: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The edge of the convex hull of contacts [n, 2] that a place [2] is nearest to or farthest beyond.

    Returns:
        The rows of its ends a and b, and the signs that turn (b - a)[::-1] outward.

    Raises UnsoundError where there is no hull.
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
