"""Does a shape stand: how far its centre of mass is from the edge of what it stands on, without a simulation."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from molrl.data.neighbours import neighbour_counts, scipy_part, tree
from molrl.rewards.cloud import Body, CloudReward, UnsoundError, rarity
from molrl.rewards.scores import Explained, Scored

LOWEST = 0.005  # quantile of the heights that is the floor
REACH = 0.1  # above it, a foot is taken to stand on it: the lowest point drawn on a leg is not its end
LEVEL, ASIDE = 0.02, 0.1  # a foot is as low as what is so far aside from it, seen from above, but for a little
NEAR, COMPANY, CROWD = 0.125, 2, 6.0  # within which a foot has this many others, or a sixth of what is usual


@dataclass(frozen=True, kw_only=True)
class StabilityMargin(CloudReward):
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
    floor: ClassVar[float] = -1.0
    parts: ClassVar[tuple[str, ...]] = ("contact", "strays")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.plate <= 1:
            raise ValueError(f"plate: got {self.plate}, need a share above 0, up to 1")
        if self.enough is not None and not self.enough > 0:
            raise ValueError(f"enough: got {self.enough}, need a margin above 0, or null")

    def measured(self, body: Body) -> Scored:
        contacts = standing(body.points)
        share = float((raised(body.points)[contacts] < LEVEL * rarity(len(body.points))).sum()) / len(body.points)
        if share > self.plate:
            raise UnsoundError(f"base plate: {share:.0%} of the points on the floor, at most {self.plate:.0%}")
        margin = inside(body.points[:, [0, 2]].mean(0), body.points[contacts][:, [0, 2]])
        margin = margin if self.enough is None else min(margin, self.enough)
        return Explained(max(margin, self.floor), "", {"contact": share, "strays": body.strays})


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


def inside(centre: NDArray[np.float64], contacts: NDArray[np.float64]) -> float:
    """How far a point [2] is from the edge of the convex hull of others [n, 2]; negative outside.

    Raises UnsoundError where these have no hull.
    """
    spatial = scipy_part("spatial")
    if len(contacts) < 3:
        raise UnsoundError(f"no footing: {len(contacts)} points on the floor")
    try:
        edges = spatial.ConvexHull(contacts).equations  # outward normal and offset
    except spatial.QhullError:
        raise UnsoundError("no footing: the points on the floor are on a line") from None
    return -float((edges[:, :2] @ centre + edges[:, 2]).max())
