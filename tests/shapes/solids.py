"""Small shapes with measures in closed form, as points on their surfaces."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.cloud import PointCloud

Points = NDArray[np.float64]
Corners = tuple[Sequence[float], Sequence[float]]


def boxes(corners: Sequence[Corners], count: int, seed: int = 0) -> Points:
    """Sample points uniformly on the surfaces of boxes, each given by its lowest and its highest corner."""
    rng = np.random.default_rng(seed)
    low, high = (np.array([pair[side] for pair in corners], dtype=np.float64) for side in (0, 1))
    edges = high - low
    areas = np.stack([edges[:, 1] * edges[:, 2], edges[:, 0] * edges[:, 2], edges[:, 0] * edges[:, 1]], 1).repeat(2, 1)
    faces = rng.choice(areas.size, count, p=areas.ravel() / areas.sum())
    box, axis, top = faces // 6, faces % 6 // 2, faces % 2
    points = low[box] + rng.random((count, 3)) * edges[box]
    rows = np.arange(count)
    points[rows, axis] = np.where(top, high[box, axis], low[box, axis])
    return points


def box(width: float, height: float, depth: float, count: int = 2048, seed: int = 0) -> Points:
    """Sample points on a box around the origin, its corners included."""
    half = np.array([width, height, depth]) / 2
    inside = boxes([(tuple(-half), tuple(half))], count - 8, seed)
    return np.concatenate([inside, np.array(list(product(*zip(-half, half, strict=True))))])


def sphere(count: int = 2048, seed: int = 0) -> Points:
    """Sample points uniformly on the unit sphere."""
    points = np.random.default_rng(seed).normal(size=(count, 3))
    unit: Points = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit


def table_boxes(foot: float, shift: float = 0.0, legs: int = 4) -> list[Corners]:
    """Return the boxes of a table, 1 wide and 0.7 deep and high.

    Args:
        foot: distance of the feet from the middle, in sizes of the table.
        shift: of all feet to the side.
        legs: how many.
    """
    top: Corners = ((-0.5, 0.65, -0.35), (0.5, 0.7, 0.35))
    places = [(x * foot + shift, z * foot * 0.7) for x, z in product((-1, 1), repeat=2)][:legs]
    return [top, *(((x - 0.03, 0.0, z - 0.03), (x + 0.03, 0.65, z + 0.03)) for x, z in places)]


def table(foot: float = 0.4, shift: float = 0.0, legs: int = 4, count: int = 2048, seed: int = 0) -> Points:
    """Sample points on the surface of `table_boxes`."""
    return boxes(table_boxes(foot, shift, legs), count, seed)


def table_margin(foot: float, shift: float = 0.0) -> float:
    """Return the exact stability margin of a table with four legs and its mass in its surface, in half lengths."""
    corners = np.array(table_boxes(foot, shift))  # [parts, 2, 3]
    edges = corners[:, 1] - corners[:, 0]
    areas = 2 * (edges[:, 0] * edges[:, 1] + edges[:, 1] * edges[:, 2] + edges[:, 2] * edges[:, 0])
    centre = (areas[:, None] * corners.mean(1)).sum(0) / areas.sum()
    low, high = corners[1:, 0].min(0), corners[1:, 1].max(0)
    return 2 * float(min((centre - low)[[0, 2]].min(), (high - centre)[[0, 2]].min()))


def cloud(points: NDArray[np.floating], label: str = "") -> PointCloud:
    """Return points as the point cloud that rewards take."""
    return PointCloud(points.astype(np.float32), label)
