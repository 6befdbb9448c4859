"""Rewards of point clouds: the check that a cloud is worth scoring, and formulas with and without a gradient.

A cloud is scored by its body: the largest connected part of it, without stray points, in the unit box. Twenty stray
points of 2048 suffice to change any measure of a bounding box or of a hull, and a policy learns to make them.
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
"""Numbers without or with a gradient; formulas use only operations that both have."""

MIN_POINTS, MAX_POINTS = 128, 4096  # larger clouds are thinned out to MAX_POINTS
GAP_FACTOR = 5.0  # median distances between neighbours: a wider gap separates two parts of a cloud of 2048 points
REFERENCE_POINTS = 2048  # of the clouds that lengths are given for
MIN_LARGEST_PART = 0.8  # fraction of the points
MIN_SPREAD = 0.02  # standard deviation along the second of the principal axes
AXES = np.arange(3)


class UnsoundError(Exception):
    """The reason why a cloud must not be scored, as "category" or "category: detail"."""


@dataclass(frozen=True, eq=False)
class Body:
    """The sound part of a cloud that is scored.

    Attributes:
        points: without strays, in the unit box, float64 [m, 3].
        rows: of the points in the sample, int [m].
        strays: the fraction of the sample's points that were dropped.
    """

    points: NDArray[np.float64]
    rows: NDArray[np.intp]
    strays: float


@dataclass(frozen=True, kw_only=True)
class PointCloudReward(PerSample[PointCloud]):
    """A value computed from the body of a cloud, or a floor for a cloud without one.

    The value does not depend on the order of the points, nor on position and size of the cloud.

    Attributes:
        floor: the value of a bad sample, and the minimum of all. With a higher one than the default, faults beyond it
            count alike, so that a few large ones do not dominate the spread of the rewards.
    """

    floor: float
    kind: ClassVar[str] = "shapes"

    def __post_init__(self) -> None:
        from molrl.data.shapes.neighbours import import_scipy

        if not math.isfinite(self.floor):
            raise ValueError(f"floor: got {self.floor}, need a finite number")
        import_scipy("spatial")  # a missing package is an error now, not a lost measurement each time

    @abstractmethod
    def measure(self, body: Body) -> Scored:
        """Return the value of a sound cloud; may raise UnsoundError."""

    def score_one(self, sample: PointCloud, /) -> Scored:
        try:
            return self.measure(body_of(sample.points))
        except UnsoundError as flaw:
            return Scored(self.floor, str(flaw))


@dataclass(frozen=True, kw_only=True)
class DifferentiableReward(PointCloudReward):
    """A reward with a gradient: the samples of a batch may all be traced clouds, decoded from states with a gradient.

    The choice of nearest or outermost points is held fixed; the gradient is that of the formula with these choices. It
    is zero where the value is the floor.
    """

    differentiable: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleMethodOverride]

    @abstractmethod
    def formula(self, points: Array, body: Body) -> Array:
        """Return the value of points [m, 3], a scalar; `body` has the same points without a gradient."""

    def measure(self, body: Body) -> Scored:
        return Scored(max(float(self.formula(body.points, body)), self.floor))

    def __call__(self, samples: Sequence[Any]) -> Values:
        """Return one float32 for each sample, with a gradient if the samples have one."""
        if not samples or isinstance(samples[0], PointCloud):
            return super().__call__(samples)
        import torch

        return torch.stack([self.traced(sample.points) for sample in samples])

    def traced(self, sample: "Tensor") -> "Tensor":
        """Return the value of points [n, 3] with a gradient; NaN for points that are not finite."""
        try:
            points, body = trace_body(sample)
            return self.formula(points, body).clamp(min=self.floor).float()
        except UnsoundError:
            return (sample.sum() * 0 + self.floor).float()
        except ValueError:
            return sample.sum() * float("nan")


def trace_body(sample: "Tensor") -> "tuple[Tensor, Body]":
    """Return the points of the body of a tensor [n, 3] with their gradient, and the body; ValueError if not finite."""
    numbers = sample.detach().cpu().numpy()
    if not np.isfinite(numbers).all():
        raise ValueError("non-finite points")
    body = body_of(numbers)
    return place_in_unit_box(sample[body.rows], numbers[body.rows]), body


def body_of(points: NDArray[np.floating]) -> Body:
    """Return the largest part of a cloud [n, 3].

    Raises:
        UnsoundError: the cloud has too few points or several large parts, or it is collapsed to a point or a line.
    """
    if len(points) < MIN_POINTS:
        raise UnsoundError(f"too few points: {len(points)}, at least {MIN_POINTS}")
    rows = np.arange(len(points)) if len(points) <= MAX_POINTS else thin_out(points)
    cloud = unit_box(points[rows].astype(np.float64))
    spacing = float(np.median(nearest_distances(cloud)))
    if spacing == 0:
        raise UnsoundError("collapsed: most points coincide")
    labels = component_labels(
        cloud, GAP_FACTOR * spacing * relative_spacing(len(cloud)) ** 0.5
    )  # sparse legs have wide gaps
    sizes = np.bincount(labels)
    largest = np.flatnonzero(labels == sizes.argmax())
    if len(largest) < MIN_LARGEST_PART * len(cloud):
        raise UnsoundError(f"in pieces: {len(sizes)}, the largest has {len(largest) / len(cloud):.0%} of the points")
    body = unit_box(cloud[largest])
    spread = float(np.sqrt(max(np.linalg.eigvalsh(np.cov(body.T))[1], 0.0)))
    if spread < MIN_SPREAD:
        raise UnsoundError("collapsed: a line")
    return Body(body, rows[largest], 1 - len(largest) / len(cloud))


def unit_box(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the points [n, 3] with the centre of their box at 0 and its longest edge 2."""
    if not np.ptp(points, axis=0).max() > 0:
        raise UnsoundError("collapsed: all points in one place")
    return place_in_unit_box(points, points)


def place_in_unit_box(points: Array, numbers: NDArray[np.floating]) -> Array:
    """Place points [n, 3], with or without a gradient, in the unit box; `numbers` are their values."""
    low, high = points[numbers.argmin(0), AXES], points[numbers.argmax(0), AXES]
    longest = int(np.ptp(numbers, axis=0).argmax())
    placed: Any = (points - (low + high) / 2) * (2 / (high - low)[longest])
    return cast("Array", placed)


def constant_like(points: Array, numbers: NDArray[np.float64]) -> Array:
    """Return constants as an array or tensor of the type, dtype and device of the points."""
    if isinstance(points, np.ndarray):
        return numbers
    import torch

    return torch.from_numpy(numbers).to(points)


def relative_spacing(count: int) -> float:
    """Return the spacing of so many points on a surface, in units of that of REFERENCE_POINTS points; at least 1."""
    return float(np.sqrt(REFERENCE_POINTS / min(count, REFERENCE_POINTS)))


def thin_out(points: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the rows of MAX_POINTS points, evenly along x and whatever their order."""
    order: NDArray[np.intp] = np.lexsort(points.T[::-1])
    return order[np.linspace(0, len(points) - 1, MAX_POINTS).round().astype(np.intp)]
