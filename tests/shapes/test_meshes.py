"""Laws of the shape readers: what is written comes back, and a bad file costs only itself."""

import base64
import gzip
import io
import json
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solids import sphere

from molrl.data.files import Skipped
from molrl.data.shapes import files as meshes
from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.files import MESHES, read_shape, read_shapes
from molrl.data.shapes.folders import SHAPE_SUFFIXES
from molrl.data.shapes.glb import parse_glb, write_glb
from molrl.data.shapes.mesh import Mesh, ShapeError
from molrl.data.shapes.normalisation import normalise_point_clouds
from molrl.data.shapes.obj import parse_obj
from molrl.data.shapes.off import parse_off
from molrl.data.shapes.ply import parse_ply, write_ply
from molrl.data.shapes.point_arrays import parse_npy, parse_npz
from molrl.data.shapes.point_text import parse_xyz
from molrl.data.shapes.stl import parse_stl

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 4]], dtype=np.float64)
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
AREA = 1 + 2 + 4 + np.sqrt(21)  # of the slanted face: |(-1, 2, 0) x (-1, 0, 4)| / 2
OFF = "OFF\n4 4 6\n0 0 0\n1 0 0\n0 2 0\n0 0 4\n3 0 2 1\n3 0 1 3\n3 1 2 3\n3 0 3 2\n"
OBJ = (
    "mtllib /etc/passwd\nv 0 0 0\nv 1 0 0\nv 0 2 0\nv 0 0 4\nf 1 3 2\nf 1/1 2/2/2 4//1\nusemtl x\nf -3 -2 -1\nf 1 4 3\n"
)


def off(corners: np.ndarray[Any, Any]) -> str:
    """Return the tetrahedron with other corners."""
    rows = [" ".join(map(repr, row)) for row in corners.tolist()] + [f"3 {a} {b} {c}" for a, b, c in FACES.tolist()]
    return "OFF\n4 4 6\n" + "\n".join(rows)


PLY = """ply
format ascii 1.0
comment x
element vertex 4
property float nx
property float x
property double y
property float z
element face 4
property list uchar int vertex_indices
property uchar red
element edge 1
property int a
end_header
9 0 0 0
9 1 0 0
9 0 2 0
9 0 0 4
3 0 2 1 255
3 0 1 3 255
3 1 2 3 255
3 0 3 2 255
7
"""


def stl(*, binary: bool) -> bytes:
    triangles = CORNERS[FACES]
    if binary:
        rows = b"".join(np.array([[0, 0, 0], *each], "<f4").tobytes() + b"\0\0" for each in triangles)
        return b"solid, but binary".ljust(80) + struct.pack("<I", 4) + rows
    loops = ("".join(f"vertex {x} {y} {z}\n" for x, y, z in each) for each in triangles)
    facets = "".join(f"facet normal 0 0 1\nouter loop\n{loop}endloop\nendfacet\n" for loop in loops)
    return f"solid x\n{facets}endsolid x\n".encode()


def glb(points: np.ndarray[Any, Any] = CORNERS, change: Callable[[dict[str, Any]], object] = lambda _: None) -> bytes:
    """Return a file with the tetrahedron, its scene changed."""
    points = np.asarray(points, "<f4")
    with tempfile.TemporaryDirectory() as folder:
        write_glb(Path(folder) / "x.glb", points, FACES)
        data = (Path(folder) / "x.glb").read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    scene = json.loads(data[20 : 20 + length])
    change(scene)
    content = json.dumps(scene).encode()
    return data[:12] + struct.pack("<I", len(content)) + data[16:20] + content + data[20 + length :]


def archive(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def array(values: Any, *, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=pickled)
    return file.getvalue()


def gltf() -> bytes:
    """Return the tetrahedron as JSON alone."""
    data = glb()
    length = struct.unpack_from("<I", data, 12)[0]
    scene = json.loads(data[20 : 20 + length])
    scene["buffers"][0]["uri"] = "data:;base64," + base64.b64encode(data[28 + length :]).decode()
    return json.dumps(scene).encode()


BALL = sphere(300)
ROWS = "\n".join(" ".join(map(str, row)) for row in BALL.tolist()).encode()
GOOD = {
    ".off": OFF.encode(),
    ".obj": OBJ.encode(),
    ".ply": PLY.encode(),
    ".stl": stl(binary=True),
    ".glb": glb(),
    ".gltf": gltf(),
    ".xyz": ROWS,
    ".txt": b"x, y, z\n" + ROWS.replace(b" ", b", "),
    ".pts": b"300\n" + ROWS,
    ".pcd": b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 300\nHEIGHT 1\nDATA ascii\n" + ROWS,
    ".npy": array(BALL.astype(np.float32)),
    ".npz": archive(points=BALL),
}


def surface(mesh: Mesh) -> set[frozenset[tuple[float, ...]]]:
    """Return the set of triangles by their corners."""
    return {frozenset(tuple(mesh.vertices[corner].tolist()) for corner in face) for face in mesh.faces}


TETRAHEDRON = surface(Mesh(CORNERS, FACES))


# formats


@pytest.mark.parametrize(
    ("parser", "data"),
    [
        (parse_off, OFF.encode()),
        (parse_off, OFF.replace("OFF\n", "OFF").encode()),
        (parse_off, OFF.replace("OFF\n", "# c\nOFF # d\n\n").replace("3 0 2 1", "3 0 2 1 0.5 0.5 0.5").encode()),
        (parse_obj, OBJ.encode()),
        (parse_obj, OBJ.replace("\n", "\r\n").encode()),
        (parse_ply, PLY.encode()),
        (parse_stl, stl(binary=True)),
        (parse_stl, stl(binary=False)),
        (parse_glb, glb()),
    ],
)
def test_every_format_gives_the_same_tetrahedron(parser: Callable[[bytes], Mesh], data: bytes) -> None:
    mesh = parser(data)
    assert surface(mesh) == TETRAHEDRON
    assert mesh.areas().sum() == pytest.approx(AREA)


def test_polygons_become_fans() -> None:
    square = parse_off(b"OFF\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n")
    assert square.areas().tolist() == [0.5, 0.5]


@pytest.mark.parametrize("ending", ["<", ">"])
def test_binary_ply_of_both_byte_orders_and_mixed_polygons(ending: str) -> None:
    head = f"ply\nformat binary_{'little' if ending == '<' else 'big'}_endian 1.0\nelement vertex 4\n"
    head += "property double x\nproperty float y\nproperty short z\n"
    vertices = b"".join(struct.pack(f"{ending}dfh", *row) for row in ([0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]))
    lists = "element face 2\nproperty list uchar int vertex_index\nend_header\n"
    for rings in ([[0, 1, 2, 3], [0, 1, 2]], [[0, 1, 2], [0, 2, 3]]):
        faces = b"".join(struct.pack(f"{ending}B{len(ring)}i", len(ring), *ring) for ring in rings)
        mesh = parse_ply((head + lists).encode() + vertices + faces)
        assert mesh.areas().tolist() == [0.5] * sum(len(ring) - 2 for ring in rings)


@pytest.mark.parametrize("write", [write_ply, write_glb])
@pytest.mark.parametrize("faces", [None, FACES])
def test_what_is_written_comes_back(write: Any, faces: Any, tmp_path: Path) -> None:
    path = tmp_path / f"x.{write.__name__[-3:]}"
    write(path, CORNERS, faces)
    mesh = MESHES[path.suffix](path.read_bytes())
    np.testing.assert_array_equal(mesh.vertices, CORNERS)
    np.testing.assert_array_equal(mesh.faces, np.zeros((0, 3)) if faces is None else FACES)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_other_software_reads_what_is_written(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    write_ply(tmp_path / "x.ply", CORNERS, FACES)
    write_glb(tmp_path / "x.glb", CORNERS, FACES)
    write_glb(tmp_path / "points.glb", CORNERS)
    for name in ("x.ply", "x.glb"):
        assert trimesh.load(tmp_path / name, force="mesh").area == pytest.approx(AREA)
    (points,) = trimesh.load(tmp_path / "points.glb").geometry.values()
    np.testing.assert_allclose(points.vertices, CORNERS)


def test_what_other_software_writes_is_read(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(subdivisions=1)
    scene = trimesh.Scene()
    turn = trimesh.transformations.rotation_matrix(1.0, [1, 2, 3], [0, 0, 5])
    scene.add_geometry(ball, node_name="a", transform=turn)
    scene.add_geometry(ball, node_name="b", transform=trimesh.transformations.scale_matrix(2))
    scene.export(tmp_path / "x.glb")
    expected = scene.to_mesh() if hasattr(scene, "to_mesh") else scene.dump(concatenate=True)
    found = parse_glb((tmp_path / "x.glb").read_bytes())
    assert found.areas().sum() == pytest.approx(expected.area, rel=1e-5)
    np.testing.assert_allclose(np.sort(found.vertices, 0), np.sort(expected.vertices, 0), atol=1e-5)
    for suffix in (".off", ".obj", ".stl", ".ply"):
        ball.export(tmp_path / f"x{suffix}")
        data = (tmp_path / f"x{suffix}").read_bytes()
        assert MESHES[suffix](data).areas().sum() == pytest.approx(ball.area, rel=1e-5)


def test_rotations_and_scales_of_a_scene() -> None:
    def turned(scene: dict[str, Any]) -> None:
        half = np.sqrt(0.5)
        scene["nodes"] = [
            {"children": [1], "translation": [0, 0, 1]},
            {"mesh": 0, "rotation": [0, 0, half, half], "scale": [2, 1, 1]},
        ]

    expected = np.stack([-CORNERS[:, 1], 2 * CORNERS[:, 0], CORNERS[:, 2] + 1], 1)
    np.testing.assert_allclose(parse_glb(glb(change=turned)).vertices, expected, atol=1e-6)


def test_points_of_text_and_arrays() -> None:
    rows = parse_xyz(b"# x y z\n1 2 3 255 0 0\n\n4,5,6\n7;8;9\n")
    assert rows.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    np.testing.assert_array_equal(parse_npy(array(np.asfortranarray(CORNERS))), CORNERS)
    assert parse_npz(archive(a=CORNERS, b="x"), 1 << 20)["b"].tolist() == "x"


# sampling


def test_points_lie_evenly_on_the_surface() -> None:
    mesh, rng = Mesh(CORNERS, FACES), np.random.default_rng(0)
    points = mesh.sample(20_000, rng)
    on = [np.isclose(points[:, axis], 0).mean() for axis in range(3)]
    np.testing.assert_allclose(on, np.array([4, 2, 1]) / AREA, atol=0.01)
    square = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1.0, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    np.testing.assert_allclose(square.sample(20_000, rng)[:, :2].var(0), 1 / 12, atol=2e-3)


def test_the_points_depend_on_the_shape_and_the_seed_alone(tmp_path: Path) -> None:
    """Neither the file nor the place and size count; another shape with the same triangles has other points."""
    moved = CORNERS * 3 + [5e6, 7, -2e6]
    for name, corners in (("a", CORNERS), ("b", CORNERS), ("c", moved), ("d", CORNERS * [1, 1, 0.5])):
        (tmp_path / f"{name}.off").write_text(off(corners))
    (tmp_path / "e.obj").write_text(OBJ)
    (first, same, far, flat, other), _ = read_shapes(tmp_path, 50)
    np.testing.assert_array_equal(first.points, same.points)
    np.testing.assert_array_equal(first.points, other.points)
    np.testing.assert_allclose(first.points, far.points, atol=1e-6)
    assert np.abs(first.points / first.points.max(0) - flat.points / flat.points.max(0)).max() > 0.1
    assert (read_shape(tmp_path / "a.off", 50, seed=1).points != first.points).any()


def test_open_and_non_manifold_meshes_are_sampled() -> None:
    three_wings = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 2]])
    assert len(Mesh(CORNERS, three_wings).sample(10, np.random.default_rng(0))) == 10


# folders


def layout(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(GOOD[path.suffix])
    return root


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (["chair/train/a.off", "chair/test/b.off", "table/train/c.off"], ["chair", "chair", "table"]),
        (["03001627/1a/models/model_normalized.obj"], ["chair"]),
        (["02691156/train/x.npy", "99999999/train/x.npy"], ["airplane", "99999999"]),
        (["a.off", "train/b.off"], ["", ""]),
    ],
)
def test_the_class_is_the_name_of_the_folder(tmp_path: Path, files: list[str], labels: list[str]) -> None:
    clouds, report = read_shapes(layout(tmp_path, *files), 64)
    assert [cloud.label for cloud in clouds] == labels
    assert report.skipped == ()
    assert str(report).endswith(f"{len(files)} shapes")


def test_classes_and_splits_are_chosen(tmp_path: Path) -> None:
    layout(tmp_path, "chair/train/a.off", "chair/test/b.off", "table/train/c.off")
    assert [c.name for c in read_shapes(tmp_path, 64, split="train")[0]] == ["chair/train/a.off", "table/train/c.off"]
    assert len(read_shapes(tmp_path, 64, classes=["chair"])[0]) == 2
    with pytest.raises(ValueError, match=r"classes: got 'chairs', .* has 'chair', 'table'"):
        read_shapes(tmp_path, 64, classes=["chairs"])
    with pytest.raises(ValueError, match="split: got 'val'"):
        read_shapes(tmp_path, 64, split="val")


def test_a_set_in_one_archive_has_its_labels(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(archive(points=np.stack([BALL, BALL]), label=np.array(["ball", "bowl"]), name=["a", "b"]))
    clouds, _ = read_shapes(path, 300)
    assert [(cloud.label, cloud.name) for cloud in clouds] == [("ball", "a"), ("bowl", "b")]
    path.write_bytes(archive(coords=BALL, R=np.zeros(300), G=np.zeros(300)))
    assert len(read_shape(path, 100)) == 100


def test_bad_files_are_skipped_with_their_place_and_reason(tmp_path: Path) -> None:
    layout(tmp_path, "a/good.off")
    (tmp_path / "a/bad.off").write_text("OFF\n1 0 0\nnan 0 0\n")
    (tmp_path / "a/few.xyz").write_text("0 0 0\n1 1 1\n")
    (tmp_path / "a/point.off").write_text("OFF\n1 1 0\n1 1 1\n3 0 0 0\n")
    (tmp_path / "a/empty.ply").write_text("")
    (tmp_path / "a/note.txt").write_text("not a shape")
    clouds, report = read_shapes(tmp_path, 64)
    assert [cloud.name for cloud in clouds] == ["a/good.off"]
    assert report.skipped == (
        Skipped("a/bad.off", "non-finite coordinates"),
        Skipped("a/empty.ply", "empty file"),
        Skipped("a/few.xyz", "2 points, 64 are wanted"),
        Skipped("a/point.off", "no surface: all triangles have an area of 0"),
    )
    assert "1 shapes, 4 skipped" in str(report)
    with pytest.raises(ValueError, match=r"bad\.off: non-finite coordinates"):
        read_shape(tmp_path / "a/bad.off", 64)


def test_z_up_files_are_turned_and_not_mirrored(tmp_path: Path) -> None:
    (tmp_path / "x.off").write_text(OFF)
    y_up, z_up = (read_shape(tmp_path / "x.off", 200, up=up).points for up in ("y", "z"))
    np.testing.assert_allclose(z_up, y_up[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6)
    assert np.ptp(z_up[:, 1]) == 2
    assert np.linalg.det(np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])) == 1


@pytest.mark.parametrize(
    ("mode", "law"),
    [
        ("shape_bbox", lambda points: (np.ptp(points, axis=0).max(), 2)),
        ("shape_unit", lambda points: ((points - points.mean(0)).std(), 1)),
        ("shape_half", lambda points: ((points - points.mean(0)).std(), 0.5)),
        ("shape_34", lambda points: ((points - points.mean(0)).std(), 0.75)),
        ("none", lambda points: (points.max(), 5)),
    ],
)
def test_normalisations_by_name(mode: Any, law: Callable[[Any], tuple[float, float]]) -> None:
    clouds = [PointCloud((points * 2 + 3).astype(np.float32)) for points in (CORNERS / 4, CORNERS)]
    got, expected = law(normalise_point_clouds(clouds, mode)[0].points)
    assert got == pytest.approx(expected, rel=1e-5)


def test_the_scale_of_a_set_is_shared() -> None:
    clouds = [PointCloud((points * 2 + 3).astype(np.float32)) for points in (CORNERS / 4, CORNERS)]
    first, second = (cloud.points for cloud in normalise_point_clouds(clouds, "global_unit"))
    np.testing.assert_allclose(second, 4 * first, rtol=1e-5)
    assert np.concatenate([first, second]).std() == pytest.approx(1, rel=1e-5)
    with pytest.raises(ValueError, match="normalise: got 'unit'"):
        normalise_point_clouds(clouds, "unit")  # type: ignore[arg-type]


# bad input


@pytest.mark.parametrize(
    ("parser", "data", "reason"),
    [
        (parse_off, b"hello", "does not begin with OFF"),
        (parse_off, b"OFF\n99999999 1 0\n", "got counts"),
        (parse_off, b"OFF\n3 1 0\n0 0 0\n", "1 lines of 3 numbers, 3 vertices and 1 faces were announced"),
        (parse_off, b"OFF\n1 1 0\n0 0 0\n3 0 0\n", "2 lines of 6 numbers, 1 vertices and 1 faces"),
        (parse_off, b"OFF\n1 1 0\n0 0 0\n3 0 0 7\n", "a vertex that is not there"),
        (parse_off, b"OFF\n1 0 0\n0 0\n", "1 lines of 2 numbers"),
        (parse_off, "OFF\n".encode("utf-16-le"), "expected text"),
        (parse_obj, b"f 1 2 3\n", "no vertices"),
        (parse_obj, b"v 1 2 3\nf 0 1 1\n", "vertex 0"),
        (parse_obj, b"v 1 2 3\nf 1 x 1\n", "not whole numbers"),
        (parse_obj, b"v 1 2 1e99\n", "a coordinate beyond"),
        (parse_stl, b"hello", "no STL file"),
        (parse_stl, b"solid\nvertex 0 0 0\nendsolid\n", "1 corners"),
        (parse_stl, stl(binary=False)[:-11], "ends before endsolid"),
        (parse_ply, b"ply\nformat ascii 1.0\n", "header does not end"),
        (parse_ply, b"ply\nformat utf 1.0\nend_header\n", "header line not understood: 'format utf"),
        (parse_ply, PLY.replace("double y", "double w").encode(), "vertices without y"),
        (parse_ply, PLY.replace("vertex 4", "vertex 9999999999").encode(), "9999999999 times vertex"),
        (parse_ply, PLY.replace("vertex 4", "vertex 400").encode(), "vertex: the file ends too early"),
        (parse_glb, glb()[:100], "a scene of"),
        (parse_glb, b"glTF" + bytes(40), "no GLB file"),
        (parse_glb, glb(change=lambda s: s["buffers"][0].update(uri="file:///etc/passwd")), "refers to another file"),
        (parse_glb, glb(change=lambda s: s.update(extensionsRequired=["KHR_draco_mesh_compression"])), "KHR_draco"),
        (parse_glb, glb(change=lambda s: s["accessors"][0].update(count=10**9)), "an accessor of 1000000000"),
        (parse_glb, glb(change=lambda s: s["accessors"][0].update(count=50)), "numbers up to byte"),
        (parse_glb, glb(change=lambda s: s["nodes"][0].update(children=[0])), "nodes, or deeper"),
        (parse_glb, glb(change=lambda s: s["nodes"][0].update(mesh=7)), "not a sound glTF scene"),
        (parse_glb, glb(change=lambda s: s["scenes"][0].update(nodes=[0] * 200_000)), "nodes, or deeper"),
        (parse_glb, glb(change=lambda s: s["meshes"][0]["primitives"][0].update(mode=7)), "primitives of mode 7"),
        (parse_npy, array(np.array([{}, 1], dtype=object), pickled=True), "nothing is unpickled"),
        (parse_npy, pickle.dumps(CORNERS), "no NPY array"),
        (parse_npy, array(CORNERS)[:-8], "the header announces"),
        (parse_npy, array(CORNERS).replace(b"(4, 3), ", b"(9**9,) "), "no NPY array"),
        (parse_xyz, b"1 2\n", "2 coordinates, need three"),
        (parse_xyz, b"a b c\n", "not numbers"),
    ],
)
def test_bad_content_is_one_clear_reason(parser: Callable[[bytes], object], data: bytes, reason: str) -> None:
    with pytest.raises(ShapeError, match=reason):
        parser(data)


def test_archives_that_unpack_to_too_much_are_not_unpacked() -> None:
    bomb = archive(points=np.zeros((1_000_000, 3)))
    assert len(bomb) < 100_000
    with pytest.raises(ShapeError, match="unpacks to more than 1000000 bytes"):
        parse_npz(bomb, 1_000_000)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as liar:
        liar.writestr("points.npy", array(np.zeros((100_000, 3))))
    data = bytearray(file.getvalue())
    size = struct.pack("<I", 128 + 2_400_000)
    assert data.count(size) == 2
    with pytest.raises(ShapeError, match=r"unpacks to more|NPZ archive"):
        parse_npz(bytes(data.replace(size, struct.pack("<I", 500))), 1_000_000)


def test_files_that_unpack_to_too_much_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meshes, "MAX_BYTES", 1000)
    (tmp_path / "x.off.gz").write_bytes(gzip.compress(OFF.encode() + b"# \n" * 10_000))
    (tmp_path / "y.off.gz").write_bytes(gzip.compress(OFF.encode()))
    (tmp_path / "z.off.gz").write_bytes(b"not gzip")
    clouds, report = read_shapes(tmp_path, 64)
    assert [cloud.name for cloud in clouds] == ["y.off.gz"]
    assert report.skipped[0].reason == "more than 1000 bytes"
    assert report.skipped[1].reason.startswith("cannot be read")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda root: read_shapes(root / "none.off", 64), "no such file"),
        (lambda root: read_shapes(root / "x.pkl", 64), "unknown suffix '.pkl', allowed: .off, .obj"),
        (lambda root: read_shapes(root, 64), "no shape files, allowed"),
        (lambda root: read_shapes(root, 0), "points: got 0"),
        (lambda root: read_shapes(root, 64, up="x"), "up: got 'x'"),  # type: ignore[arg-type]
        (lambda root: read_shapes(root, 64, normalise="bbox"), "normalise: got 'bbox'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_one_clear_error(tmp_path: Path, call: Callable[[Path], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tmp_path)


@pytest.mark.parametrize("suffix", SHAPE_SUFFIXES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_never_do_more_than_being_skipped(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    content = bytearray(GOOD[suffix])
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)
    ):
        content[place] = byte
    cut = data.draw(st.integers(0, len(content)))
    (tmp_path / f"x{suffix}").write_bytes(bytes(content[:cut] if data.draw(st.booleans()) else content))
    clouds, report = read_shapes(tmp_path / f"x{suffix}", 32)
    assert len(clouds) + len(report.skipped) >= 1
    assert all(np.isfinite(cloud.points).all() and len(cloud) == 32 for cloud in clouds)
    assert all(entry.where and entry.reason for entry in report.skipped)


@pytest.mark.parametrize("suffix", SHAPE_SUFFIXES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400))
def test_random_bytes_are_skipped(tmp_path: Path, suffix: str, content: bytes) -> None:
    head = {".ply": b"ply\nformat ascii 1.0\n", ".off": b"OFF\n", ".glb": b"glTF\2\0\0\0", ".stl": b"solid "}
    (tmp_path / f"x{suffix}").write_bytes(head.get(suffix, b"") + content)
    clouds, report = read_shapes(tmp_path / f"x{suffix}", 32)
    assert len(clouds) + len(report.skipped) >= 1
