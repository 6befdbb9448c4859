"""Procedural shapes are closed and connected, each from its own seed, with the requested fractions of defects."""

import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from molrl.data.shapes.mesh import Mesh
from molrl.data.shapes.procedural import FAMILIES, SPLITS, Procedural, Solid
from molrl.data.shapes.solids import box, rings, union

pytest.importorskip("manifold3d", reason="solid shapes need the extra shapes")
spatial = pytest.importorskip("scipy.spatial", reason="hulls need the extra shapes")
trimesh = pytest.importorskip("trimesh", reason="the check of what is closed needs the extra shapes")

COUNT = 300


def solids(family: str, count: int = 24, **changes: object) -> list[Solid]:
    shapes = Procedural(families=(family,), **changes)  # type: ignore[arg-type]
    return [shapes.solid(index) for index in range(count)]


def body(mesh: Mesh) -> Any:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def margin(solid: Solid) -> float:
    """Return the distance of the centre of mass from the edge of the support; negative if the shape falls."""
    mesh = body(solid.mesh)
    feet = mesh.vertices[mesh.vertices[:, 1] < 0.01][:, [0, 2]]
    return -float((spatial.ConvexHull(feet).equations @ [*mesh.center_mass[[0, 2]], 1.0]).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_shape_is_closed_and_in_one_piece(family: str) -> None:
    for solid in solids(family):
        mesh = body(solid.mesh)
        assert mesh.is_watertight
        assert mesh.body_count == 1
        assert mesh.volume > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sound_shape_is_its_own_mirror_image(family: str) -> None:
    """The mirror plane is x = 0, and the mirrored body is the same."""
    for solid in solids(family, 12, tippy=0.0, asymmetric=0.0):
        assert_symmetric(solid.mesh, symmetric=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_asymmetric_shape_is_not(family: str) -> None:
    for solid in solids(family, 12, tippy=0.0, asymmetric=1.0):
        assert solid.defect == "asymmetric"
        assert_symmetric(solid.mesh, symmetric=False)


def assert_symmetric(mesh: Mesh, *, symmetric: bool) -> None:
    """Check the centre of mass and the products of inertia whose sign the mirror changes."""
    solid = body(mesh)
    inertia = solid.moment_inertia / solid.volume
    off = max(abs(solid.center_mass[0]), abs(inertia[0, 1]) ** 0.5, abs(inertia[0, 2]) ** 0.5)
    assert (off < 5e-3) == symmetric


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"airplane"}))
def test_sound_shapes_stand_and_tippy_ones_fall(family: str) -> None:
    """The centre of mass is above the feet, or beside them."""
    stands = [margin(solid) > 0 for solid in solids(family, tippy=0.0, asymmetric=0.0)]
    falls = [margin(solid) < 0 for solid in solids(family, tippy=1.0, asymmetric=0.0)]
    assert np.mean(stands) >= 0.95
    assert np.mean(falls) >= 0.9


def test_airplanes_are_never_tippy() -> None:
    assert {solid.defect for solid in solids("airplane", 8, tippy=1.0, asymmetric=0.0)} == {"sound"}


def test_defects_have_the_requested_fractions() -> None:
    """Defaults are 30 % and 30 %; three standard deviations of a count of 300 are 8 %."""
    defects = Counter(solid.defect for solid in solids("lamp", COUNT))
    assert abs(defects["tippy"] / COUNT - 0.3) < 0.08
    assert abs(defects["asymmetric"] / COUNT - 0.3) < 0.08
    other = Counter(solid.defect for solid in solids("lamp", COUNT, tippy=0.6, asymmetric=0.0))
    assert abs(other["tippy"] / COUNT - 0.6) < 0.12
    assert not other["asymmetric"]


def test_the_same_shape_comes_again() -> None:
    first, again = Procedural().point_cloud(7, 64), Procedural().point_cloud(7, 64)
    np.testing.assert_array_equal(first.points, again.points)
    assert first.name == again.name
    assert not np.array_equal(first.points, Procedural(seed=1).point_cloud(7, 64).points)


def test_a_family_has_the_same_shapes_whatever_is_beside_it() -> None:
    alone, among = Procedural(families=("chair",)), Procedural(families=("lamp", "chair"))
    assert alone.solid(3).parameters == among.solid(7).parameters


def test_no_two_splits_share_a_shape() -> None:
    numbers = [set(SPLITS[split]) for split in SPLITS]
    assert sum(map(len, numbers)) == len(set.union(*numbers))
    names = {Procedural(split=split).point_cloud(0, 8).name for split in SPLITS}
    assert len(names) == len(SPLITS)


def test_the_families_take_turns() -> None:
    shapes = Procedural(families=("table", "car"))
    assert [shapes.point_cloud(index, 8).label for index in range(4)] == ["table", "car", "table", "car"]


def test_kinds_are_labels_of_their_own() -> None:
    families, kinds = Procedural(), Procedural(kinds=True)
    named = {kinds.point_cloud(index, 8).label for index in range(60)}
    assert named == {*FAMILIES, "armchair", "pedestal_table", "swept_airplane"}
    for index in range(20):
        solid, cloud = families.solid(index), kinds.point_cloud(index, 8)
        np.testing.assert_array_equal(cloud.points, families.point_cloud(index, 8).points)
        assert (cloud.label == "armchair") == (solid.family == "chair" and solid.parameters["arms"] == 1)


def test_a_cloud_fills_the_unit_box_with_y_up() -> None:
    """A lamp is taller than it is wide, and its shade is above its pole."""
    cloud = Procedural(families=("lamp",), tippy=0.0, asymmetric=0.0).point_cloud(0, 2000).points
    assert np.ptp(cloud[:, 1]) == pytest.approx(2, abs=1e-5)
    reach = np.linalg.norm(cloud[:, [0, 2]], axis=1)
    assert reach[cloud[:, 1] > 0.6].max() > 2 * reach[np.abs(cloud[:, 1]) < 0.2].max()


def test_every_number_that_was_drawn_is_kept() -> None:
    solid = Procedural(families=("chair",), tippy=1.0, asymmetric=0.0).solid(0)
    assert 0.5 <= solid.parameters["back_tilt"] <= 0.9
    assert {"width", "depth", "seat_height", "leg_radius", "splay", "arms"} <= solid.parameters.keys()


def test_a_union_has_the_volume_of_what_it_covers() -> None:
    mesh = union([box((0, 0, 0), (1, 1, 1)), box((0.5, 0, 0), (1, 1, 1))])
    assert mesh is not None
    assert body(mesh).volume == pytest.approx(1.5)


def test_parts_that_do_not_touch_are_no_shape() -> None:
    assert union([box((0, 0, 0), (1, 1, 1)), box((3, 0, 0), (1, 1, 1))]) is None


def test_a_rod_has_its_length_and_nearly_its_volume() -> None:
    mesh = union([rings([(0, 0, 0), (3, 0, 4)], (0.5, 0.5))])
    assert mesh is not None
    assert np.ptp(mesh.vertices @ np.array([0.6, 0, 0.8])) == pytest.approx(5)
    assert body(mesh).volume == pytest.approx(np.pi * 0.25 * 5, rel=0.05)


def test_points_are_spread_evenly_over_the_surface() -> None:
    """Faces of a 1 x 2 x 3 box get points by area: 2, 3 and 6 of 11 for the three pairs."""
    mesh = union([box((0, 0, 0), (1, 2, 3))])
    assert mesh is not None
    points = mesh.sample(22000, np.random.default_rng(0)) / np.array([0.5, 1.0, 1.5])
    on = np.abs(np.abs(points) - 1) < 1e-5
    assert on.any(1).all()
    np.testing.assert_allclose(on.mean(0), np.array([6, 3, 2]) / 11, atol=0.015)
    inside = points[on[:, 0]][:, 1:]
    np.testing.assert_allclose(inside.std(0), 1 / np.sqrt(3), atol=0.02)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"families": ("boat",)}, "boat"),
        ({"families": ()}, "allowed are"),
        ({"families": ("car", "car")}, "once"),
        ({"split": "dev"}, "validation"),
        ({"tippy": 0.7, "asymmetric": 0.4}, "fractions"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_is_said(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Procedural(**changes)  # type: ignore[arg-type]


def test_a_split_has_an_end() -> None:
    shapes = Procedural(families=("car",), split="test")
    assert shapes.size == 1000
    with pytest.raises(ValueError, match="1000"):
        shapes.solid(1000)


def test_a_missing_manifold3d_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "manifold3d", None)
    with pytest.raises(ImportError, match=r"pip install 'molrl\[shapes\]'"):
        Procedural()
