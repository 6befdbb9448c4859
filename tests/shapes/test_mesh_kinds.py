"""Laws of the mesh readers: however a file is written, it is the surface that other software and algebra have."""

import io
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_benchmarks import FOLDER, benchmark
from test_meshes import CORNERS, FACES, TETRAHEDRON, surface

from molrl.data.shapes.files import MESHES, read_shape, read_shapes
from molrl.data.shapes.glb import parse_glb
from molrl.data.shapes.mesh import Mesh, ShapeError
from molrl.data.shapes.obj import parse_obj
from molrl.data.shapes.off import parse_off
from molrl.data.shapes.pcd import decompress_lzf, parse_pcd
from molrl.data.shapes.ply import parse_ply
from molrl.data.shapes.point_text import parse_xyz
from molrl.data.shapes.polygons import mesh_from_polygons
from molrl.data.shapes.stl import parse_stl

kinds = benchmark("mesh_kinds")
L_SHAPE = [[0, 0], [3, 0], [3, 1], [1, 1], [1, 3], [0, 3]]  # 3 x 3 without 2 x 2: an area of 5, and 12 around


def volume(mesh: Mesh) -> float:
    """Return the volume within a closed surface, by the divergence theorem."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("name", kinds.KINDS)
def test_each_kind_of_file_is_the_unit_cube(name: str, tmp_path: Path) -> None:
    content = kinds.KINDS[name]
    mesh = MESHES[Path(name).suffix](content if isinstance(content, bytes) else content.encode()).without_doubles()
    corners = mesh.vertices[mesh.faces]
    assert mesh.areas().sum() == pytest.approx(6)
    assert abs(volume(mesh)) == pytest.approx(1)
    np.testing.assert_allclose([corners.min((0, 1)), corners.max((0, 1))], [[0, 0, 0], [1, 1, 1]], atol=1e-6)
    assert mesh.count_non_manifold_edges() == 0


# polygons


def prism(outline: NDArray[np.float64], start: int) -> tuple[NDArray[np.float64], list[list[int]]]:
    """Return the corners and sides of a prism of height 1, whose caps begin at a corner of the outline."""
    count = len(outline)
    order = [(start + k) % count for k in range(count)]
    corners = np.concatenate([np.insert(outline, 2, height, axis=1) for height in (0.0, 1.0)])
    sides = [[k, (k + 1) % count, (k + 1) % count + count, k + count] for k in range(count)]
    return corners, [order[::-1], [k + count for k in order], *sides]


def obj(corners: NDArray[np.float64], rings: list[list[int]]) -> str:
    return str(kinds.rows(corners, "v {}\n") + "".join(kinds.rows([np.array(ring) + 1], "f {}\n") for ring in rings))


@pytest.mark.parametrize("start", range(6))
def test_a_concave_prism_has_its_own_area_whatever_its_first_corner(start: int) -> None:
    """As a fan, the L would have an area of 26 or 30."""
    mesh = parse_obj(obj(*prism(np.array(L_SHAPE, float), start)).encode())
    assert mesh.areas().sum() == pytest.approx(2 * 5 + 12)
    assert volume(mesh) == pytest.approx(5)
    assert mesh.count_non_manifold_edges() == 0


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(0.05, 1), min_size=4, max_size=24),
    st.integers(0, 2**31),
    st.integers(0, 23),
    st.floats(-3, 3),
    st.booleans(),
)
def test_a_polygon_has_the_area_of_the_shoelace_formula(
    radii: list[float], seed: int, start: int, scale: float, backwards: bool
) -> None:
    """The outline winds around a centre once, so that it does not cut itself; it lies anywhere in space."""
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    flat = np.array(radii)[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    x, y = np.roll(flat, start, axis=0).T
    expected = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    ring = (np.stack([x, y, 0 * x], 1) @ turn + rng.normal(size=3)) * 10**scale
    ring = ring[::-1] if backwards else ring
    mesh = mesh_from_polygons(ring, np.arange(len(ring)), np.array([len(ring)]))
    assert len(mesh.faces) == len(ring) - 2
    assert mesh.areas().sum() == pytest.approx(expected * 10 ** (2 * scale), rel=1e-6)


def test_a_hole_that_a_slit_joins_to_the_outline_stays_open() -> None:
    """As programs write a square with a square hole in one polygon; the slit is passed twice."""
    ring = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0], [1, 1], [1, 3], [3, 3], [3, 1], [1, 1]]
    for start in range(len(ring)):
        corners = np.insert(np.roll(np.array(ring, float), start, axis=0), 1, 7, axis=1)
        mesh = mesh_from_polygons(corners, np.arange(10), np.array([10]))
        assert mesh.areas().sum() == pytest.approx(16 - 4)


def test_polygons_whose_triangles_would_take_too_long_are_refused() -> None:
    angles = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    star = np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1) * np.where(np.arange(5000) % 2, 1, 0.5)[:, None]
    with pytest.raises(ShapeError, match="concave polygons of 5000 corners"):
        mesh_from_polygons(star, np.arange(5000), np.array([5000]))
    disc = star / np.linalg.norm(star, axis=1, keepdims=True)
    assert mesh_from_polygons(disc, np.arange(5000), np.array([5000])).areas().sum() == pytest.approx(np.pi, rel=1e-5)


# what changes nothing

TEXTS = {"off": kinds.off(), "obj": kinds.V + kinds.T, "stl": kinds.stl(), "ply": kinds.KINDS["plain.ply"]}
CHANGES: dict[str, Callable[[str, str], str]] = {
    "mark": lambda text, _: kinds.MARK + text,
    "crlf": lambda text, _: text.replace("\n", "\r\n"),
    "end": lambda text, _: text + "\n\n",
    "blanks": lambda text, kind: text if kind == "ply" else text.replace("\n", " \t\n"),
    "tabs": lambda text, kind: text if kind == "ply" else text.replace(" ", "\t"),
    "comments": lambda text, kind: text.replace("\n", " # c\n") if kind in ("off", "obj") else text,
    "case": lambda text, kind: text.upper() if kind in ("obj", "stl") else text,
    "empty lines": lambda text, kind: text.replace("\n", "\n\n") if kind in ("off", "obj", "stl") else text,
    "zeros": lambda text, kind: text.replace(" 0 0 1\n", " 0.000 0e0 1.0\n") if kind in ("obj", "stl") else text,
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TEXTS)), st.permutations(sorted(CHANGES)), st.integers(0, len(CHANGES)), st.booleans())
def test_ways_of_writing_change_nothing(kind: str, changes: list[str], count: int, wide: bool) -> None:
    text = TEXTS[kind]
    for change in changes[:count]:
        text = CHANGES[change](text, kind)
    content = text.encode("utf-16") if wide and kind != "ply" else text.encode()
    plain, changed = MESHES[f".{kind}"](TEXTS[kind].encode()), MESHES[f".{kind}"](content)
    np.testing.assert_array_equal(plain.vertices, changed.vertices)
    np.testing.assert_array_equal(plain.faces, changed.faces)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["off", "obj", "stl", "stl_ascii", "ply", "glb"]), st.floats(-2, 4))
def test_random_triangles_are_those_of_trimesh(seed: int, kind: str, scale: float) -> None:
    trimesh = pytest.importorskip("trimesh")
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(30, 3)) * 10**scale
    faces = np.array([rng.permutation(30)[:3] for _ in range(40)])
    other = trimesh.Trimesh(vertices, faces, process=False)
    content = other.export(file_type=kind)
    content = content.encode() if isinstance(content, str) else content
    suffix = kind.partition("_")[0]
    theirs = trimesh.load(io.BytesIO(content), file_type=suffix, process=False, force="mesh")
    ours = MESHES[f".{suffix}"](content)
    found, expected = (np.sort(each.vertices[each.faces].reshape(-1, 9), axis=0) for each in (ours, theirs))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * 10**scale)


# PLY

CODES = {"char": "b", "uint8": "B", "short": "h", "uint16": "H", "int": "i", "uint32": "I", "int64": "q"}
FLOATS = {"float": "f", "float64": "d"}


@st.composite
def ply_element(draw: st.DrawFn, name: str, table: NDArray[Any]) -> tuple[str, list[list[tuple[str, float]]]]:
    """Draw the header of an element with further properties, and the numbers of its rows with their types."""
    kinds_of = {"face": [("vertex_indices", draw(st.sampled_from([*CODES])), draw(st.sampled_from([*CODES])))]}
    own = kinds_of.get(name, [(axis, "", draw(st.sampled_from(["int", *FLOATS]))) for axis in "xyz"])
    more = [
        (f"more{k}", draw(st.sampled_from(["", *CODES])), draw(st.sampled_from([*CODES, *FLOATS])))
        for k in range(draw(st.integers(0, 3)))
    ]
    properties = draw(st.permutations([*own, *more]))
    head = f"element {name} {len(table)}\n"
    head += "".join(f"property {f'list {size} {kind}' if size else kind} {key}\n" for key, size, kind in properties)
    rows = []
    for row in table.tolist():
        rows.append(list[tuple[str, float]]())
        for key, size, kind in properties:
            lists = row if key == "vertex_indices" else [7] * draw(st.integers(0, 3))
            values = lists if size else [row["xyz".index(key)]] if key in "xyz" else [5]
            rows[-1] += [(CODES[size], len(values))] if size else []
            rows[-1] += [((CODES | FLOATS)[kind], value) for value in values]
    return head, rows


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian"]))
def test_a_ply_of_any_types_is_read_by_its_header(data: st.DataObject, form: str) -> None:
    drawn = [data.draw(ply_element("vertex", CORNERS)), data.draw(ply_element("face", FACES))]
    drawn = data.draw(st.permutations(drawn))
    rows = [row for _, rows in drawn for row in rows]
    order = ">" if "big" in form else "<"
    if form == "ascii":
        body = "".join(" ".join(f"{value:g}" for _, value in row) + "\n" for row in rows).encode()
    else:
        body = b"".join(struct.pack(order + code, int(value) if code not in "fd" else value)
                        for row in rows for code, value in row)  # fmt: skip
    head = f"ply\nformat {form} 1.0\n{''.join(head for head, _ in drawn)}end_header\n"
    assert surface(parse_ply(head.encode() + body)) == TETRAHEDRON


def test_a_ply_with_more_or_fewer_numbers_than_it_announces_is_refused() -> None:
    text = kinds.KINDS["plain.ply"]
    with pytest.raises(ShapeError, match="2 numbers more than the header announces"):
        parse_ply((text + "1 2\n").encode())
    with pytest.raises(ShapeError, match="face: the file ends too early"):
        parse_ply(text[:-3].encode())


# glTF


def rotation(axis: NDArray[np.float64], angle: float) -> list[float]:
    return [*(np.sin(angle / 2) * axis / np.linalg.norm(axis)).tolist(), float(np.cos(angle / 2))]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_random_scenes_are_those_of_trimesh(seed: int, count: int) -> None:
    """A chain of nodes, each with the mesh, turned and scaled in its own way."""
    trimesh = pytest.importorskip("trimesh")
    rng = np.random.default_rng(seed)
    nodes: list[dict[str, Any]] = [
        {
            "mesh": 0,
            "rotation": rotation(rng.normal(size=3), float(rng.uniform(0, 6))),
            "translation": rng.normal(size=3).tolist(),
            "scale": [float(rng.uniform(0.5, 2))] * 3,
            **({"children": [number + 1]} if number + 1 < count else {}),
        }
        for number in range(count)
    ]
    content = kinds.glb(kinds.POSITIONS, kinds.INDICES, nodes=nodes)
    ours = parse_glb(content)
    theirs = trimesh.load_scene(io.BytesIO(content), file_type="glb", process=False).to_mesh()
    assert volume(ours) == pytest.approx(theirs.volume, rel=1e-5)
    corners = ours.vertices[ours.faces].reshape(-1, 3)
    np.testing.assert_allclose([corners.min(0), corners.max(0)], theirs.bounds, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([*range(8), -1]), min_size=3, max_size=30))
def test_a_strip_is_its_triangles_written_out(strip: list[int]) -> None:
    """In PLY -1 begins another strip; every other triangle has its first two corners exchanged."""
    expected = []
    for piece in " ".join(map(str, strip)).split("-1"):
        run = [int(word) for word in piece.split()]
        expected += [[run[k + k % 2], run[k + 1 - k % 2], run[k + 2]] for k in range(len(run) - 2)]
    text = kinds.ply(
        f"{kinds.XYZ}element tristrips 1\n{kinds.LIST}", kinds.rows(kinds.CORNERS) + kinds.rows([[len(strip), *strip]])
    )
    assert parse_ply(text.encode()).faces.tolist() == expected


def test_a_skin_moves_vertices_by_the_mean_of_its_joints() -> None:
    """Half of a joint that lifts by 2 and half of one that stays lifts by 1."""
    halves = np.zeros((8, 4), "<f4")
    halves[:, :2] = 0.5
    joints = np.tile(np.array([0, 1, 0, 0], "u1"), (8, 1))
    nodes = [{"mesh": 0, "skin": 0, "translation": [9, 9, 9]}, {"translation": [0, 2, 0]}, {}]
    scene = {"nodes": nodes, "scenes": [{"nodes": [0, 1, 2]}], "skins": [{"joints": [1, 2]}], "parts": [kinds.JOINTS]}
    mesh = parse_glb(kinds.glb(kinds.POSITIONS, kinds.INDICES, joints, halves, **scene))
    np.testing.assert_allclose(mesh.vertices - kinds.CORNERS, np.tile([0, 1, 0], (8, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "needs the extension 'KHR_draco"),
        ({"extensionsRequired": ["KHR_anything"]}, "needs the extension 'KHR_anything"),
        ({"buffers": [{"uri": "data.bin"}]}, "refers to another file"),
        ({"buffers": [{"uri": "http://localhost/x"}]}, "refers to another file"),
        ({"buffers": [{"uri": "data:;base64,?"}]}, "not base64"),
        ({"meshes": [{"primitives": [{**kinds.PART, "mode": 1}]}]}, "no triangles and no points"),
        ({"nodes": [{"mesh": 0, "rotation": [0, 0, 0, 0]}]}, "non-finite"),
        ({"nodes": [{"children": [0]}]}, "nodes, or deeper"),
    ],
)
@np.errstate(all="ignore")
def test_what_is_not_in_a_scene_is_said(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ShapeError, match=reason):
        parse_glb(kinds.glb(kinds.POSITIONS, kinds.INDICES, **change))


def test_a_compressed_mesh_without_its_numbers_is_named_as_such() -> None:
    part = {**kinds.PART, "extensions": {"KHR_draco_mesh_compression": {"bufferView": 0}}}
    bare = [{"componentType": 5126, "count": 8, "type": "VEC3"}, {"componentType": 5123, "count": 36, "type": "SCALAR"}]
    content = kinds.glb(kinds.POSITIONS, parts=[part], extensionsUsed=["KHR_draco_mesh_compression"])
    length = struct.unpack_from("<I", content, 12)[0]
    scene = {**json.loads(content[20 : 20 + length]), "accessors": bare}
    text = json.dumps(scene).encode()
    with pytest.raises(ShapeError, match="compressed with KHR_draco_mesh_compression"):
        parse_glb(content[:12] + struct.pack("<I", len(text)) + content[16:20] + text)


# points

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 4))
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(
    POINTS,
    st.sampled_from([" ", "\t", ";", ", ", ",", " ; ", "  "]),
    st.booleans(),
    st.sampled_from(["", "count", "count, text", "names", "comment"]),
    st.booleans(),
)
def test_points_are_read_by_columns_whatever_separates_them(
    points: list[tuple[float, float, float]], separator: str, decimal: bool, head: str, more: bool
) -> None:
    """A comma between digits is a decimal sign where something else separates the columns."""
    lines = [separator.join(f"{value:.4f}" for value in (*row, *([0.5] if more else []))) for row in points]
    if decimal and "," not in separator:
        lines = [line.replace(".", ",") for line in lines]
    heads = {
        "count": [str(len(points))],
        "count, text": [str(len(points)), "by a scanner"],
        "names": [separator.join("XYZI"[: 3 + more])],
        "comment": ["//X,Y,Z", "# x"],
    }
    text = "\n".join([*heads.get(head, []), *lines]) + "\n"
    np.testing.assert_allclose(parse_xyz(text.encode()), np.array(points), atol=1e-9)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3\n0 0 0\n1 1 1\n", "3 points announced, 2 there"),
        ("1\n0 0 0\n1 1 1\n", "1 points announced, 2 there"),
        ("0,5 1,5 2,5\n1,2,3\n", "commas as decimal signs and as separators"),
        ("1,234.5 2,000.1 3.0\n", "commas as decimal signs or as separators"),
        ("0,5 1,5\n", "2 coordinates, need three"),
        ("1_0 2 3\n", "not numbers"),
    ],
)
def test_points_that_could_be_others_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ShapeError, match=reason):
        parse_xyz(text.encode())


def test_blocks_of_a_laser_scanner_are_one_cloud() -> None:
    assert parse_xyz(b"1\n1 2 3 0.5 255 0 0\n2\n4 5 6 0.5 0 0 0\n7 8 9 0.5 0 0 0\n").tolist() == [
        [1, 2, 3], [4, 5, 6], [7, 8, 9]
    ]  # fmt: skip


def compress_lzf(data: bytes) -> bytes:
    """Compress by runs of up to 32 bytes, and repetitions of the 8 bytes before where there are any."""
    out, place = b"", 0
    while place < len(data):
        if place >= 8 and data[place : place + 8] == data[place - 8 : place]:
            out += bytes([(6 << 5), 7])
            place += 8
            continue
        run = data[place : place + min(32, 8)]
        out += bytes([len(run) - 1]) + run
        place += len(run)
    return out


@pytest.mark.parametrize("form", ["ascii", "binary", "binary_compressed"])
def test_a_pcd_of_each_form_has_its_points_and_not_the_missing_ones(form: str) -> None:
    record = np.dtype([("rgb", "<u1", 4), ("z", "<f8"), ("x", "<f4"), ("y", "<i2")])
    table = np.zeros(5, record)
    table["x"], table["y"], table["z"] = [1, 2, np.nan, 4, 5], range(5), np.arange(5) + 0.5
    head = "# .PCD v0.7\nVERSION 0.7\nFIELDS rgb z x y\nSIZE 1 8 4 2\nTYPE U F F I\nCOUNT 4 1 1 1\n"
    head += f"WIDTH 5\nHEIGHT 1\nPOINTS 5\nDATA {form}\n"
    if form == "ascii":
        body = "".join(f"0 0 0 0 {row['z']} {row['x']} {row['y']}\n" for row in table).encode()
    elif form == "binary":
        body = table.tobytes()
    else:
        columns = b"".join(np.ascontiguousarray(table[name]).tobytes() for name in record.names or ())
        packed = compress_lzf(columns)
        assert len(packed) < len(columns)
        body = struct.pack("<II", len(packed), len(columns)) + packed
    assert parse_pcd(head.encode() + body).tolist() == [[1, 0, 0.5], [2, 1, 1.5], [4, 3, 3.5], [5, 4, 4.5]]
    with pytest.raises(ShapeError):
        parse_pcd(head.encode() + body[:-12])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes([2]) + b"abc" + bytes([0x20 + 0, 2]), b"abcabc"),  # 1 + 2 bytes from 3 before
        (bytes([0]) + b"a" + bytes([0xE0, 3, 0]), b"a" * 13),  # 7 + 3 + 2 bytes, which overlap themselves
    ],
)
def test_lzf_repeats_what_came_before(data: bytes, expected: bytes) -> None:
    assert decompress_lzf(data, len(expected)) == expected
    with pytest.raises(ShapeError):
        decompress_lzf(data, len(expected) - 1)
    with pytest.raises(ShapeError, match="damaged"):
        decompress_lzf(bytes([0x20, 2]), 3)


# places, doubles, folders


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(-6e6, 6e6)] * 3), st.sampled_from(["off", "obj", "stl", "ply", "xyz"]))
def test_far_from_the_origin_a_shape_has_the_same_points(place: tuple[float, float, float], kind: str) -> None:
    """In single precision a table at a UTM coordinate of 5,400,000 m has a grid of half a metre."""
    near, far = (points_of(kinds.CORNERS + shift, kind) for shift in (np.zeros(3), np.array(place)))
    np.testing.assert_allclose(near, far, atol=1e-6)


def points_of(corners: NDArray[np.float64], kind: str) -> NDArray[np.float32]:
    """Return the points of a cube in a file of nine decimals."""
    lines = [" ".join(f"{value:.9f}" for value in row) + "\n" for row in corners.tolist()]
    rows = "".join(lines)
    loops = ["".join(f"vertex {lines[corner]}" for corner in ring) for ring in kinds.TRIANGLES]
    facets = "".join(f"facet normal 0 0 0\nouter loop\n{loop}endloop\nendfacet\n" for loop in loops)
    head = f"{kinds.XYZ.replace('float', 'double')}element face 12\n{kinds.LIST}"
    texts = {
        "off": f"OFF\n8 12 0\n{rows}{kinds.LISTS}",
        "obj": "".join(f"v {line}" for line in lines) + kinds.T,
        "stl": f"solid x\n{facets}endsolid x\n",
        "ply": kinds.ply(head, rows + kinds.LISTS),
        "xyz": rows,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{kind}"
        path.write_text(texts[kind])
        return read_shape(path, 200).points


def test_what_single_precision_cannot_hold_is_no_shape(tmp_path: Path) -> None:
    """Only without normalisation is there no centre."""
    (tmp_path / "x.xyz").write_text("".join(f"{x} {y} {z}\n" for x, y, z in (CORNERS / 10 + 5e6).tolist()))
    _, report = read_shapes(tmp_path / "x.xyz", 4, normalise="none")
    assert "too far from the origin" in report.skipped[0].reason
    for mode in ("shape_bbox", "shape_unit", "global_unit"):
        (cloud,), _ = read_shapes(tmp_path / "x.xyz", 4, normalise=mode)
        edges = np.linalg.norm(cloud.points[1:] - cloud.points[0], axis=1)
        np.testing.assert_allclose(edges / edges[0], [1, 2, 4], rtol=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2), st.booleans()), max_size=30), st.booleans())
def test_triangles_that_are_there_twice_count_once(doubles: list[tuple[int, int, bool]], split: bool) -> None:
    """In any order of their corners, and also with corners of their own in the same places."""
    faces = np.array(kinds.TRIANGLES)
    more = [np.roll(faces[row], turn)[:: -1 if back else 1] for row, turn, back in doubles]
    vertices, all_faces = kinds.CORNERS.astype(float), np.array([*faces, *more])
    if split:
        vertices, all_faces = vertices[all_faces].reshape(-1, 3), np.arange(3 * len(all_faces)).reshape(-1, 3)
    mesh = Mesh(vertices, all_faces).without_doubles()
    assert surface(mesh) == surface(Mesh(kinds.CORNERS.astype(float), faces))
    assert len(mesh.faces) == 12
    assert mesh.count_non_manifold_edges() == 0


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (["chair/train/a.xyz", "table/test/b.xyz"], ["chair", "table"]),
        (["test/table/b.xyz", "train/chair/a.xyz"], ["table", "chair"]),
        (["ModelNet10/chair/train/a.xyz", "ModelNet10/table/train/b.xyz"], ["chair", "table"]),
        (["chair/1a/model.xyz", "chair/2b/model.xyz", "table/3c/model.xyz"], ["chair", "chair", "table"]),
        (["set/chair/1a/models/m.xyz", "set/table/2b/models/m.xyz"], ["chair", "table"]),
        (["chair/1a/model.xyz", "chair/2b/model.xyz"], ["chair", "chair"]),
        (["Core/03001627/1a/models/m.xyz", "Core/04379243/2b/models/m.xyz"], ["chair", "table"]),
        (["chair/0001.xyz", "table/0001.xyz"], ["chair", "table"]),
        (["chair/armchair/a.xyz", "table/round/b.xyz"], ["chair", "table"]),
        (["a.xyz", "train/b.xyz"], ["", ""]),
    ],
)
def test_the_class_is_that_of_the_right_folder(tmp_path: Path, files: list[str], labels: list[str]) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(tmp_path / file, CORNERS)
    assert [cloud.label for cloud in read_shapes(tmp_path, 4)[0]] == labels


def test_the_number_of_a_class_of_shapenet_counts_also_when_it_is_the_source(tmp_path: Path) -> None:
    for name in ("1a", "2b"):
        (tmp_path / f"03001627/{name}/models").mkdir(parents=True)
        np.savetxt(tmp_path / f"03001627/{name}/models/m.xyz", CORNERS)
    assert [cloud.label for cloud in read_shapes(tmp_path / "03001627", 4)[0]] == ["chair", "chair"]


def test_lists_and_notes_in_a_folder_are_no_points(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.txt", CORNERS, delimiter=",")
    (tmp_path / "train.txt").write_text("chair_0001\nchair_0002\n")
    (tmp_path / "README.txt").write_text("Points of chairs.\n")
    (tmp_path / "._b.obj").write_bytes(b"\0\5\x16\7")
    (tmp_path / "cut.txt").write_text("0 0 0\n1 1")
    clouds, report = read_shapes(tmp_path, 4)
    assert [cloud.name for cloud in clouds] == ["a.txt"]
    assert [entry.where for entry in report.skipped] == ["cut.txt"]


def test_a_file_of_lines_alone_is_no_set_of_points() -> None:
    with pytest.raises(ShapeError, match="no faces, but 'l'"):
        parse_obj(b"v 0 0 0\nv 1 0 0\nl 1 2\n")


def test_a_text_that_ends_early_is_refused() -> None:
    for parse, text in ((parse_stl, kinds.stl()), (parse_off, kinds.off())):
        with pytest.raises(ShapeError):
            parse(text[: len(text) // 2].encode())
    with pytest.raises(ShapeError, match="ends before endsolid"):
        parse_stl((kinds.stl() + kinds.stl().removesuffix("endsolid cube\n")).encode())


def test_the_bulk_run_prints_where_two_readers_disagree(tmp_path: Path) -> None:
    """A concave side cut as a fan has a quarter too much; trimesh reads no PCD, and neither reads noise."""
    pytest.importorskip("trimesh")
    for name in ("plain.obj", "concave.obj", "plain.glb"):
        content = kinds.KINDS[name]
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    head = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 2\nHEIGHT 1\nDATA ascii\n"
    (tmp_path / "two.pcd").write_text(head + "0 0 0\n1 1 1\n")
    (tmp_path / "noise.stl").write_bytes(b"noise")
    command = [sys.executable, str(FOLDER / "readers_meshes.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert rows[0] == "| concave.obj | area | 6 | 6.25 |"
    assert rows[1].startswith("| two.pcd | read | read | ")
    assert len(rows) == 2
    assert "5 files: 1 different, 2 equal, 1 read by molrl alone, 1 read by neither" in done.stdout
