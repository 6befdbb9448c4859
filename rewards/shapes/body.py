"""Rewards of point clouds: which clouds are worth scoring, and how one formula serves numbers and gradients.

What a cloud is scored by is its body: the largest part of it, without stray points, in the unit box. Twenty stray
points of 2048 suffice to turn any measure of a bounding box or of a hull, and a policy finds them.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.neighbours import component_labels, nearest_distances
from molrl.rewards.scores import PerSample, Scored, Values

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", "NDArray[np.float64]", "Tensor")
"""Numbers without or with a gradient; formulas use only what both have."""

FEWEST, MOST = 128, 4096  # points; of more, as many are taken as evenly as they lie along x
GAP = 5.0  # median distances between neighbours: more parts two parts of a cloud; a bit more again in sparse ones
REFERENCE = 2048  # points that lengths are meant for
WHOLE = 0.8  # smallest share of the points in the largest part
THINNEST = 0.02  # smallest standard deviation along the second of the principal axes
AXES = np.arange(3)


class UnsoundError(Exception):
    """Why a cloud must not be scored, as "category" or "category: detail"."""


@dataclass(frozen=True, eq=False)
class Body:
    """A sound cloud.

    Attributes:
        points: without strays, in the unit box, float64 [m, 3].
        kept: their rows in the sample.
        strays: the share of the sample's points that were dropped.
    """

    points: NDArray[np.float64]
    kept: NDArray[np.intp]
    strays: float


@dataclass(frozen=True, kw_only=True)
class PointCloudReward(PerSample[PointCloud]):
    """A number worked out from the body of a cloud, or a floor for what has none.

    Neither the order of the points nor the place and size of the cloud change the value.

    Attributes:
        floor: the value of a bad sample, and the least that any has. A higher one than is given tells a policy that
            faults beyond it are all the same, so that a few large ones do not decide the spread of the rewards.
    """

    floor: float
    kind: ClassVar[str] = "shapes"

    def __post_init__(self) -> None:
        from molrl.data.shapes.neighbours import import_scipy

        if not math.isfinite(self.floor):
            raise ValueError(f"floor: got {self.floor}, need a finite number")
        import_scipy("spatial")  # a missing package is an error now, not a lost measurement each time

    @abstractmethod
    def measured(self, body: Body) -> Scored:
        """The number for a sound cloud; may raise UnsoundError."""

    def score_one(self, sample: PointCloud, /) -> Scored:
        try:
            return self.measured(body_of(sample.points))
        except UnsoundError as flaw:
            return Scored(self.floor, str(flaw))


@dataclass(frozen=True, kw_only=True)
class DifferentiableReward(PointCloudReward):
    """A reward with a gradient: samples may be traced clouds too, all of a batch or none, as a domain decodes states
    that have a gradient.

    Which points are nearest or outermost is taken as it is; the gradient is that of the formula with these choices. It
    is zero where the value is the floor.
    """

    differentiable: ClassVar[bool] = True

    @abstractmethod
    def formula(self, points: Array, body: Body) -> Array:
        """The value of points [m, 3], a scalar; `body` has the same points as numbers."""

    def measured(self, body: Body) -> Scored:
        return Scored(max(float(self.formula(body.points, body)), self.floor))

    def __call__(self, samples: Sequence[Any]) -> Values:
        """One float32 for each sample, with a gradient if the samples have one."""
        if not samples or isinstance(samples[0], PointCloud):
            return super().__call__(samples)
        import torch

        return torch.stack([self.traced(sample.points) for sample in samples])

    def traced(self, sample: "Tensor") -> "Tensor":
        """The value of points [n, 3] with a gradient; NaN for those that hold a NaN."""
        try:
            inside, body = traceable(sample)
            return self.formula(inside, body).clamp(min=self.floor).float()
        except UnsoundError:
            return (sample.sum() * 0 + self.floor).float()
        except ValueError:
            return sample.sum() * float("nan")


def traceable(sample: "Tensor") -> "tuple[Tensor, Body]":
    """The body of a tensor [n, 3], its points with their gradient; ValueError for what is not finite."""
    numbers = sample.detach().cpu().numpy()
    if not np.isfinite(numbers).all():
        raise ValueError("non-finite points")
    body = body_of(numbers)
    return in_box(sample[body.kept], numbers[body.kept]), body


def body_of(points: NDArray[np.floating]) -> Body:
    """The largest part of a cloud [n, 3].

    Raises UnsoundError for a cloud of too few points, in several large parts, or collapsed to a place or a line.
    """
    if len(points) < FEWEST:
        raise UnsoundError(f"too few points: {len(points)}, at least {FEWEST}")
    rows = np.arange(len(points)) if len(points) <= MOST else evenly(points)
    cloud = boxed(points[rows].astype(np.float64))
    spacing = float(np.median(nearest_distances(cloud)))
    if spacing == 0:
        raise UnsoundError("collapsed: most points coincide")
    labels = component_labels(cloud, GAP * spacing * rarity(len(cloud)) ** 0.5)  # legs of few points have wide gaps
    sizes = np.bincount(labels)
    kept = np.flatnonzero(labels == sizes.argmax())
    if len(kept) < WHOLE * len(cloud):
        raise UnsoundError(f"in pieces: {len(sizes)}, the largest has {len(kept) / len(cloud):.0%} of the points")
    body = boxed(cloud[kept])
    second = float(np.sqrt(max(np.linalg.eigvalsh(np.cov(body.T))[1], 0.0)))
    if second < THINNEST:
        raise UnsoundError("collapsed: a line")
    return Body(body, rows[kept], 1 - len(kept) / len(cloud))


def boxed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points with the middle of their box at 0 and its longest edge 2."""
    if not np.ptp(points, axis=0).max() > 0:
        raise UnsoundError("collapsed: all points in one place")
    return in_box(points, points)


def in_box(points: Array, numbers: NDArray[np.floating]) -> Array:
    """The same for points with a gradient; `numbers` are their values."""
    low, high = points[numbers.argmin(0), AXES], points[numbers.argmax(0), AXES]
    longest = int(np.ptp(numbers, axis=0).argmax())
    inside: Any = (points - (low + high) / 2) * (2 / (high - low)[longest])
    return cast("Array", inside)


def like(points: Array, numbers: NDArray[np.float64]) -> Array:
    """Constants as something that can be added to the points."""
    if isinstance(points, np.ndarray):
        return numbers
    import torch

    return torch.from_numpy(numbers).to(points)


def rarity(count: int) -> float:
    """How much farther apart points of a surface are than those of a cloud of REFERENCE points, at least 1."""
    return float(np.sqrt(REFERENCE / min(count, REFERENCE)))


def evenly(points: NDArray[np.floating]) -> NDArray[np.intp]:
    """The rows of MOST points, whatever their order, evenly along x."""
    order: NDArray[np.intp] = np.lexsort(points.T[::-1])
    return order[np.linspace(0, len(points) - 1, MOST).round().astype(np.intp)]
