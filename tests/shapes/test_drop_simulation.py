"""The drop simulation: shapes of which geometry predicts whether they fall."""

import numpy as np
import pytest
from solids import Points, box, cloud, sphere, table
from test_shape_rewards import oblique

from molrl.data.shapes.mass import mass_of_points
from molrl.rewards.shapes.drop_simulation import DropTest, tilt
from molrl.rewards.shapes.stability import StabilityMargin

pytest.importorskip("mujoco")

DROP = DropTest(seconds=3.0)


def test_a_cube_stays_and_a_table_with_its_feet_at_one_end_falls() -> None:
    cube = box(1, 1, 1)
    assert tilt(cube, mass_of_points(cube), 2.0) < 0.5
    assert DROP.score_one(cloud(table(0.08, 0.3))).value < -20


@pytest.mark.parametrize("shear", [0.5, 0.85, 1.2, 1.6])
def test_an_oblique_prism_falls_when_its_centre_is_beyond_its_base(shear: float) -> None:
    tipped = DROP.score_one(cloud(oblique(shear))).value < -20
    assert tipped == (shear > 1)
    assert tipped == (StabilityMargin(plate=0.25).score_one(cloud(oblique(shear))).value < 0)


def test_a_spin_about_the_vertical_is_no_tilt() -> None:
    points = box(1, 1, 1)
    angle = 0.7
    turned = points @ np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    assert tilt(turned, mass_of_points(turned), 1.0) < 0.5


@pytest.mark.parametrize("points", [table(0.4), table(0.08, 0.3)])
def test_the_order_of_the_points_changes_nothing(points: Points) -> None:
    order = np.random.default_rng(1).permutation(len(points))
    assert DROP.score_one(cloud(points[order])).value == pytest.approx(DROP.score_one(cloud(points)).value, abs=1)


def test_bad_clouds_and_settings() -> None:
    flat = np.random.default_rng(0).random((500, 3)) * [1, 1, 0]
    assert DROP.score_one(cloud(flat)) == (-180.0, "flat: it has no hull")
    assert DROP.score_one(cloud(sphere(20))) == (-180.0, "too few points: 20, at least 128")
    with pytest.raises(ValueError, match="seconds: got 0"):
        DropTest(seconds=0)
    with pytest.raises(ValueError, match="mass: got 'lead', allowed are points, solid"):
        DropTest(seconds=1, mass="lead")  # type: ignore[arg-type]


def test_a_margin_brings_the_drop_along_as_its_judge() -> None:
    """It tells a cube from a table that falls, in degrees, and has no gradient to follow."""
    margin = StabilityMargin(plate=0.25, enough=0.2)
    judge = margin.held_out_reward
    stands, falls = judge([cloud(box(1, 1, 1)), cloud(table(0.08, 0.3))]).tolist()
    assert stands > -1
    assert falls < -20
    assert margin.differentiable
    assert not judge.differentiable
