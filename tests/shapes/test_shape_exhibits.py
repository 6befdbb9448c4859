"""Shapes in a report: points in space and what the samples are made of."""

import numpy as np

from molrl.data.shapes.cloud import PointCloud
from molrl.exhibit import Counts
from molrl.models.shapes.exhibits import count_makeup, exhibit_shape

BOARD = PointCloud(np.array([[0, 0, 0], [4, 0, 0], [4, 1, 2]], np.float32), label="table")
NOTHING = PointCloud(np.zeros((3, 3), np.float32), label="chair")


def test_a_shape_has_its_points_in_the_unit_box_and_its_proportions() -> None:
    shown = exhibit_shape(BOARD)
    assert (shown.title, shown.facts["width"], shown.facts["height"], shown.facts["depth"]) == ("table", 1, 0.25, 0.5)
    assert shown.points is not None
    assert shown.points.tolist() == [[-1, -0.25, -0.5], [1, -0.25, -0.5], [1, 0.25, 0.5]]


def test_what_is_no_shape_has_no_points() -> None:
    shown = exhibit_shape(NOTHING)
    assert (shown.title, shown.facts["valid"], shown.points) == ("chair: no shape", "no", None)


def test_the_makeup_is_counted_over_the_shapes() -> None:
    found = count_makeup([BOARD, BOARD, NOTHING])
    assert found["classes"] == Counts({"table": 2}, 2, "shapes")
    assert found["height, longest edge 1"] == Counts({"0.25": 2}, 2, "shapes")
