"""Laws of the images of shapes."""

import numpy as np
import pytest
from PIL import Image
from solids import box, cloud, table

from molrl.data.shapes.drawing import VIEWS, draw_point_clouds, draw_turntable, project


def ink(page: Image.Image) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    return np.asarray((np.asarray(page) < 250).any(-1))


def test_a_front_view_has_x_to_the_right_and_y_up() -> None:
    points = cloud(np.array([[-1, 0, -0.5], [1, 0, 0.5], [0, 1, 0], [0, -1, 0]]))
    np.testing.assert_allclose(project(points, *VIEWS["front"]), points.points, atol=1e-6)
    from_above = project(points, *VIEWS["top"])
    np.testing.assert_allclose(from_above[:, 2], points.points[:, 1], atol=1e-6)
    np.testing.assert_allclose(from_above[:, 1], -points.points[:, 2], atol=1e-6)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_a_rotation(view: str) -> None:
    points = cloud(np.concatenate([np.eye(3), -np.eye(3)]))
    turned = project(points, *VIEWS[view])
    np.testing.assert_allclose(turned @ turned.T, points.points @ points.points.T, atol=1e-6)
    assert np.linalg.det(turned[:3]) == pytest.approx(1)


def test_width_and_height_have_one_scale() -> None:
    drawn = ink(draw_point_clouds([cloud(box(1, 2, 1, 20_000))], [""], views=["front"]))
    high, wide = (np.ptp(np.flatnonzero(drawn.any(axis))) for axis in (1, 0))
    assert high / wide == pytest.approx(2, rel=0.06)


def test_a_grid_has_a_cell_for_each_view_and_room_for_captions() -> None:
    clouds = [cloud(table())] * 5
    one = draw_point_clouds(clouds, [""] * 5, columns=5)
    two = draw_point_clouds(clouds, [""] * 5, columns=5, views=["corner", "side"])
    assert two.width == 2 * one.width
    assert (
        draw_point_clouds(clouds, ["a\nb"] * 5, columns=2).height
        > draw_point_clouds(clouds, ["a"] * 5, columns=2).height
    )
    assert draw_point_clouds(clouds, [""] * 5, columns=5, title="x").height > one.height
    turned = draw_turntable(cloud(table()), "table")
    assert turned.width > 5 * turned.height
    assert ink(turned).any()


def test_a_cloud_in_one_place_is_a_dot() -> None:
    assert 0 < ink(draw_point_clouds([cloud(np.zeros((1, 3)))], [""])).mean() < 0.01


def test_wrong_numbers_and_views_are_refused() -> None:
    shape = cloud(table())
    with pytest.raises(ValueError, match="captions: got 2 for 1 shapes"):
        draw_point_clouds([shape], ["a", "b"])
    with pytest.raises(ValueError, match="captions: got 0 for 0"):
        draw_point_clouds([], [])
    with pytest.raises(ValueError, match="columns: got 0"):
        draw_point_clouds([shape], ["a"], columns=0)
    with pytest.raises(ValueError, match=r"views: got .'left'.*allowed are corner, front"):
        draw_point_clouds([shape], ["a"], views=["left"])
