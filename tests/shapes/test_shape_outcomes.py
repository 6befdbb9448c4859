"""The descriptors of shapes by which a run keeps variety."""

import numpy as np
import pytest
import torch

from molrl.data.shapes.cloud import PointCloud, TracedPointCloud
from molrl.models.shapes.outcomes import describe_shape


def cloud(points: list[list[float]], label: str = "table") -> PointCloud:
    return PointCloud(np.array(points, np.float32), label)


FLAT_TOP = [[-1.0, 0.5, -0.5], [1.0, 0.5, 0.5], [0.0, 0.5, 0.0], [1.0, -0.5, 0.5]]


def test_the_outline_by_hand() -> None:
    """Edges 2, 1 and 1 are 4, 2 and 2 quarters of the longest; one of four points is low and three are high."""
    assert describe_shape(cloud(FLAT_TOP)) == {"bucket": "table 4 2 2 1 0 0 3", "class": "table"}


def test_shapes_of_other_classes_share_no_bucket() -> None:
    assert describe_shape(cloud(FLAT_TOP, "chair"))["bucket"] != describe_shape(cloud(FLAT_TOP))["bucket"]


def test_the_order_of_the_points_and_a_gradient_do_not_matter() -> None:
    traced = TracedPointCloud(torch.tensor(FLAT_TOP[::-1], requires_grad=True), "table")
    assert describe_shape(traced) == describe_shape(cloud(FLAT_TOP))


@pytest.mark.parametrize("points", [[[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]])
def test_points_in_one_place_are_no_shape(points: list[list[float]]) -> None:
    assert describe_shape(cloud(points)) == {}


def test_points_that_are_no_numbers_are_no_shape() -> None:
    assert describe_shape(TracedPointCloud(torch.tensor([[0.0, 0.0, 0.0], [1.0, float("nan"), 0.0]]))) == {}
