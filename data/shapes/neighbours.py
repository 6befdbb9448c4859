"""Points and their neighbours, by the trees of scipy (`pip install 'molrl[shapes]'`)."""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray


def scipy_part(name: str) -> Any:
    """A part of scipy, such as "spatial", loaded when it is first used.

    Raises ImportError with what to install.
    """
    try:
        return import_module(f"scipy.{name}")
    except ModuleNotFoundError as error:
        raise ImportError("shapes need scipy: pip install 'molrl[shapes]'") from error


def tree(points: NDArray[np.floating]) -> Any:
    """A tree to ask for the neighbours of points [n, d]."""
    return scipy_part("spatial").cKDTree(points)


def nearest(query: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.intp]:
    """The row of the nearest of the points [n, d] to each of the query's [m, d]."""
    rows: NDArray[np.intp] = tree(points).query(query)[1]
    return rows


def neighbours(points: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """The rows [n, count] of the nearest others of each point [n, d]; there must be more points than `count`."""
    rows: NDArray[np.intp] = tree(points).query(points, count + 1)[1]
    return rows[:, 1:]


def distances(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """How far the nearest other is from each point [n, d]."""
    found: NDArray[np.float64] = tree(points).query(points, 2)[0]
    return found[:, 1]


def neighbour_counts(points: NDArray[np.floating], radius: float) -> NDArray[np.intp]:
    """How many others are within the radius of each point [n, d]."""
    counts: NDArray[np.intp] = tree(points).query_ball_point(points, radius, return_length=True)
    return counts - 1


def parts(points: NDArray[np.floating], radius: float) -> NDArray[np.intp]:
    """A number for each point [n], equal for those that are connected by steps no longer than the radius."""
    pairs = tree(points).query_pairs(radius, output_type="ndarray")
    ones = np.ones(len(pairs), dtype=np.bool_)
    graph = scipy_part("sparse").coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    labels: NDArray[np.intp] = scipy_part("sparse.csgraph").connected_components(graph, directed=False)[1]
    return labels
