"""Nearest neighbours of points, by the k-d trees of scipy (`pip install 'molrl[shapes]'`)."""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray


def import_scipy(name: str) -> Any:
    """Import a subpackage of scipy, such as "spatial", when it is first used.

    Raises ImportError, which says what to install.
    """
    try:
        return import_module(f"scipy.{name}")
    except ModuleNotFoundError as error:
        raise ImportError("shapes need scipy: pip install 'molrl[shapes]'") from error


def tree(points: NDArray[np.floating]) -> Any:
    """Build a k-d tree of points [n, d]."""
    return import_scipy("spatial").cKDTree(points)


def nearest_rows(query: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the rows [m] of the points [n, d] that are nearest to those of the query [m, d]."""
    rows: NDArray[np.intp] = tree(points).query(query)[1]
    return rows


def neighbours(points: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Return the rows [n, count] of the nearest others of each point [n, d], which must be more than `count`."""
    rows: NDArray[np.intp] = tree(points).query(points, count + 1)[1]
    return rows[:, 1:]


def nearest_distances(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the distance [n] of each point [n, d] from its nearest other."""
    distances: NDArray[np.float64] = tree(points).query(points, 2)[0]
    return distances[:, 1]


def neighbour_counts(points: NDArray[np.floating], radius: float) -> NDArray[np.intp]:
    """Count the others [n] within a radius of each point [n, d]."""
    counts: NDArray[np.intp] = tree(points).query_ball_point(points, radius, return_length=True)
    return counts - 1


def component_labels(points: NDArray[np.floating], radius: float) -> NDArray[np.intp]:
    """Label each point [n], equally if they are connected by steps no longer than the radius."""
    pairs = tree(points).query_pairs(radius, output_type="ndarray")
    ones = np.ones(len(pairs), dtype=np.bool_)
    graph = import_scipy("sparse").coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    labels: NDArray[np.intp] = import_scipy("sparse.csgraph").connected_components(graph, directed=False)[1]
    return labels
