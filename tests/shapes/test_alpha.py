"""Closed meshes of point clouds, against volumes and Euler characteristics that are known."""

from pathlib import Path

import numpy as np
import pytest
from solids import Points, box, boxes, cloud, sphere, table

from molrl.data.shapes.alpha import circumcircles, circumradii, solid_mesh
from molrl.data.shapes.mass import mass_of_solid, volume
from molrl.data.shapes.mesh import Mesh, ShapeError
from molrl.data.shapes.stl import parse_stl, write_stl
from molrl.models.shapes.sample_files import write_each
from molrl.rewards.shapes.drop_simulation import DropTest

spatial = pytest.importorskip("scipy.spatial")


def euler_characteristic(mesh: Mesh) -> int:
    """Return V - E + F, which is 2 - 2 g for one closed surface of genus g."""
    return len(mesh.vertices) - len(mesh.faces) * 3 // 2 + len(mesh.faces)


def torus(count: int) -> Points:
    """Sample points on a torus of radii 1 and 0.35, evenly enough."""
    rng = np.random.default_rng(0)
    around, across = rng.random((2, count)) * 2 * np.pi
    ring = 1 + 0.35 * np.cos(across)
    return np.stack([ring * np.cos(around), 0.35 * np.sin(across), ring * np.sin(around)], 1)


def test_a_ball_is_its_convex_hull() -> None:
    points = sphere(600)
    mesh = solid_mesh(points)
    assert volume(mesh) == pytest.approx(spatial.ConvexHull(points).volume)
    assert mesh.is_closed()
    assert euler_characteristic(mesh) == 2


def test_a_thick_solid_is_not_hollow() -> None:
    """The ball is smaller than the cube, so that it would fit inside, but it cannot get there."""
    mesh = solid_mesh(box(1, 1, 1, 2000), radius=0.15)
    assert 0.97 < volume(mesh) <= 1 + 1e-9


def test_a_torus_keeps_its_hole() -> None:
    mesh = solid_mesh(torus(1500))
    assert euler_characteristic(mesh) == 0
    assert volume(mesh) == pytest.approx(2 * np.pi**2 * 0.35**2, rel=0.08)


def test_the_gaps_of_a_table_stay_open() -> None:
    points = table(count=2048)
    mesh = solid_mesh(points)
    exact = 1 * 0.7 * 0.05 + 4 * 0.06**2 * 0.65
    assert volume(mesh) == pytest.approx(exact, rel=0.2)
    assert spatial.ConvexHull(points).volume > 5 * exact


@pytest.mark.parametrize("seed", [0, 1])
def test_motion_and_order_change_nothing_and_scale_its_cube(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = table(count=700, seed=seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = 3.0 * points[rng.permutation(len(points))] @ rotation + rng.normal(size=3)
    assert volume(solid_mesh(moved)) == pytest.approx(27 * volume(solid_mesh(points)), rel=1e-6)


@pytest.mark.parametrize(
    ("points", "problem"),
    [
        (np.eye(3), "3 points, a solid needs 4 to 20000"),
        (np.random.default_rng(0).random((50, 3)) * [1, 1, 0], "flat: the points enclose nothing"),
        (np.concatenate([sphere(300), sphere(300) + 100]), "in pieces: the largest solid one holds 50% of the points"),
    ],
)
def test_points_without_a_solid(points: Points, problem: str) -> None:
    with pytest.raises(ShapeError, match=problem):
        solid_mesh(points)


def test_circles_and_spheres_through_corners() -> None:
    """The right triangle 3, 4, 5 has a circle of 2.5; the corner of a cube with edge 2 has its sphere."""
    centre, radius = circumcircles(np.array([[0.0, 0, 0], [3, 0, 0], [0, 4, 0]]))
    np.testing.assert_allclose(centre, [1.5, 2, 0])
    assert radius == pytest.approx(2.5)
    corner = np.array([[[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]]])
    assert circumradii(corner)[0] == pytest.approx(3**0.5)
    assert np.isinf(circumradii(corner * [1, 1, 0])[0])


def test_the_mass_of_a_box() -> None:
    points = box(2, 4, 6, 8) + np.array([5, 6, 7])
    mass = mass_of_solid(solid_mesh(points, radius=10.0))
    np.testing.assert_allclose(mass.centre, [5, 6, 7])
    np.testing.assert_allclose(mass.covariance, np.diag([4, 16, 36]) / 12, atol=1e-12)
    np.testing.assert_allclose(np.diag(mass.inertia), [(16 + 36) / 12, (4 + 36) / 12, (4 + 16) / 12])


def test_the_mass_of_a_table_is_that_of_trimesh() -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = solid_mesh(table(0.3, 0.1, legs=3, count=600))
    peer = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert peer.is_watertight
    assert peer.volume == pytest.approx(volume(mesh))
    mass = mass_of_solid(mesh)
    np.testing.assert_allclose(peer.center_mass, mass.centre, atol=1e-9)
    np.testing.assert_allclose(peer.moment_inertia / peer.volume, mass.inertia, atol=1e-9)


def test_an_open_mesh_has_no_mass() -> None:
    mesh = solid_mesh(sphere(60), radius=2.0)
    with pytest.raises(ShapeError, match="not closed"):
        mass_of_solid(Mesh(mesh.vertices, mesh.faces[1:]))
    with pytest.raises(ShapeError, match="inside out"):
        mass_of_solid(Mesh(mesh.vertices, mesh.faces[:, ::-1]))


def test_mujoco_weighs_the_written_solid(tmp_path: Path) -> None:
    """It reads the STL file by itself and computes the mass of the exact volume."""
    mujoco = pytest.importorskip("mujoco")
    mesh = solid_mesh(table(count=600))
    write_stl(tmp_path / "a.stl", mesh.vertices, mesh.faces)
    again = parse_stl((tmp_path / "a.stl").read_bytes())
    assert again.is_closed()
    assert volume(again) == pytest.approx(volume(mesh), rel=1e-5)
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><asset><mesh name="m" file="a.stl" inertia="exact"/></asset>
        <worldbody><body><freejoint/><geom type="mesh" mesh="m" density="1000"/></body></worldbody></mujoco>""",
        {"a.stl": (tmp_path / "a.stl").read_bytes()},
    )
    assert model.body_mass[1] == pytest.approx(1000 * volume(mesh), rel=1e-4)


def test_a_block_under_the_end_of_a_board_holds_it_when_solid_and_not_when_hollow() -> None:
    """The middles of mass lie at -0.58 and -0.33 of a support that ends at -0.4."""
    pytest.importorskip("mujoco")
    board, block = ((-1.0, 0.8, -0.5), (1.0, 0.85, 0.5)), ((-1.0, 0.0, -0.5), (-0.4, 0.8, 0.5))
    shape = cloud(boxes([board, block], 2000))
    assert DropTest(seconds=2.0, mass="solid").score_one(shape).value > -5
    assert DropTest(seconds=2.0, mass="points").score_one(shape).value < -20


@pytest.mark.parametrize("name", ["a.stl", "a.ply", "a.glb"])
def test_samples_are_written_as_closed_meshes(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from molrl.data.shapes.files import parse

    samples = [cloud(sphere(200)), cloud(np.zeros((1, 3))), cloud(np.random.default_rng(0).random((50, 3)) * [1, 1, 0])]
    assert write_each(samples, tmp_path / name, meshes=True) == 1
    assert "1 of 3 samples have no closed mesh and no file: flat" in capsys.readouterr().out
    (found,) = tmp_path.iterdir()
    assert found.stem == "a-0"
    (named,) = parse(found)
    assert isinstance(named.shape, Mesh)
    assert volume(named.shape) == pytest.approx(spatial.ConvexHull(samples[0].points).volume, rel=1e-5)
