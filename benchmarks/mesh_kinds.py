"""Write one file of each kind of mesh, and read them with molrl and with trimesh. Every file is the unit cube.

    python benchmarks/mesh_kinds.py runs/kinds

Right is an area of 6, a volume of 1 and a box from 0 to 1. The table has, for each format, the number of kinds, how
many each reader reads right, and how many trimesh reads as something else without an error. The last column is the CPU
time of each for a sphere of 327,680 triangles.
"""

import base64
import json
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
SIDES = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
TRIANGLES = [[a, *pair] for a, b, c, d in SIDES for pair in ([b, c], [c, d])]
MIDDLES = [[0.5, 0.5, 1], [1, 0.5, 1], [0.5, 1, 1]]  # corners 8 to 10, which cut the side z = 1 into an L and a square
NOTCHED = [*SIDES[:5], [5, 9, 8, 10, 3, 1], [9, 7, 10, 8]]
RIGHT = {"area": 6.0, "volume": 1.0, "box": [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]}


def rows(values: Sequence[Sequence[float] | NDArray[Any]] | NDArray[Any], form: str = "{}\n") -> str:
    """Return a line for each row of numbers."""
    return "".join(form.format(" ".join(f"{value:g}" for value in row)) for row in np.asarray(values).tolist())


def off(keyword: str = "OFF\n", behind: str = "", faces: Sequence[Sequence[int]] = TRIANGLES, counts: str = "0") -> str:
    corners = CORNERS if faces is not NOTCHED else [*CORNERS.tolist(), *MIDDLES]
    lists = "".join(f"{len(ring)} {' '.join(map(str, ring))}\n" for ring in faces)
    return f"{keyword}{len(corners)} {len(faces)} {counts}\n{rows(corners, '{}' + behind + chr(10))}{lists}"


def off_binary() -> bytes:
    lists = b"".join(struct.pack(">5i", 3, *ring, 0) for ring in TRIANGLES)
    return b"OFF BINARY\n" + struct.pack(">3i", 8, 12, 0) + CORNERS.astype(">f4").tobytes() + lists


V = rows(CORNERS, "v {}\n")
F = "".join(f"f {a + 1} {b + 1} {c + 1} {d + 1}\n" for a, b, c, d in SIDES)
T = "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in TRIANGLES)
MARK = "\ufeff"


def stl(form: str = "facet normal 0 0 0\nouter loop\n{}endloop\nendfacet\n", name: str = "cube") -> str:
    facets = "".join(form.format(rows(CORNERS[ring], "vertex {}\n")) for ring in TRIANGLES)
    return f"solid {name}\n{facets}endsolid {name}\n"


def stl_binary(head: bytes = b"", behind: bytes = b"") -> bytes:
    table = np.zeros(12, [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])
    table["corners"] = CORNERS[np.array(TRIANGLES)]
    return head.ljust(80, b"\0") + struct.pack("<I", 12) + table.tobytes() + behind


STRIPS = [0, 1, 2, 3, -1, 4, 6, 5, 7, -1, 0, 4, 1, 5, -1, 2, 3, 6, 7, -1, 0, 2, 4, 6, -1, 1, 5, 3, 7]
XYZ = "element vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
LIST = "property list uchar int vertex_indices\n"
LISTS = rows(TRIANGLES, "3 {}\n")


def ply(elements: str, body: str, comment: str = "") -> str:
    return f"ply\nformat ascii 1.0\n{comment}{elements}end_header\n{body}"


def ply_binary(order: str, newline: str = "\n", sides: Sequence[Sequence[int]] = (*SIDES[:3], *TRIANGLES[6:])) -> bytes:
    """Return a file of squares and triangles in double precision."""
    name = {"<": "little", ">": "big"}[order]
    head = f"ply\nformat binary_{name}_endian 1.0\n{XYZ.replace('float', 'double')}element face {len(sides)}\n{LIST}"
    head = (head + "end_header\n").replace("\n", newline)
    lists = b"".join(struct.pack(f"{order}B{len(ring)}i", len(ring), *ring) for ring in sides)
    return head.encode() + CORNERS.astype(f"{order}f8").tobytes() + lists


Array = NDArray[Any]
POSITIONS, INDICES = CORNERS.astype("<f4"), np.array(TRIANGLES, "<u2").ravel()
PART: dict[str, Any] = {"attributes": {"POSITION": 0}, "indices": 1}
HALF_TURN = [0, 1.2, 0, 0]  # about y, not of length 1


def glb(
    *arrays: Array, parts: Sequence[dict[str, Any]] = (PART,), uri: bool = False, accessors: Any = None, **scene: Any
) -> bytes:
    """Return a file whose first accessors are these arrays, each with the members that `accessors` adds to it."""
    binary, views, table = b"", list[dict[str, Any]](), list[dict[str, Any]]()
    kinds = {"f4": 5126, "u2": 5123, "u1": 5121, "u4": 5125}
    for number, values in enumerate(arrays):
        width = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}[values.shape[1] if values.ndim == 2 else 1]
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": values.nbytes})
        own = (accessors or {}).get(number, {})
        about = {"bufferView": number, "componentType": kinds[values.dtype.str[1:]], "count": len(values)}
        table.append({**about, "type": width, **own})
        binary += values.tobytes() + bytes(-values.nbytes % 4)
    buffer: dict[str, Any] = {"byteLength": len(binary)}
    if uri:
        buffer["uri"] = "data:application/octet-stream;base64," + base64.b64encode(binary).decode()
    document = {
        **{"asset": {"version": "2.0"}, "accessors": table, "bufferViews": views, "buffers": [buffer]},
        **{"meshes": [{"primitives": list(parts)}], "nodes": [{"mesh": 0}], "scenes": [{"nodes": [0]}], "scene": 0},
        **scene,
    }
    content = json.dumps(document).encode()
    content += b" " * (-len(content) % 4)
    chunk = b"" if uri else struct.pack("<II", len(binary), 0x4E4942) + binary
    head = struct.pack("<4sII", b"glTF", 2, 20 + len(content) + len(chunk))
    return head + struct.pack("<II", len(content), 0x4E4F534A) + content + chunk


def glb_sides(mode: int, order: Sequence[int]) -> bytes:
    """Return a file with a primitive for each side."""
    sides = [np.array(side, "<u2")[list(order)] for side in SIDES]
    parts = [{"attributes": {"POSITION": 0}, "indices": number + 1, "mode": mode} for number in range(6)]
    return glb(POSITIONS, *sides, parts=parts)


def glb_quantised(scale: float, *, normalized: bool) -> bytes:
    values = np.zeros((8, 4), "<u2")
    values[:, :3] = 65535 * CORNERS
    scene: dict[str, Any] = {
        "extensionsRequired": ["KHR_mesh_quantization"],
        "nodes": [{"mesh": 0, "scale": [scale] * 3}],
        "bufferViews": [
            {"buffer": 0, "byteLength": 64, "byteStride": 8},
            {"buffer": 0, "byteOffset": 64, "byteLength": 72},
        ],
    }
    return glb(values, INDICES, accessors={0: {"type": "VEC3", "normalized": normalized}}, **scene)


FLAT = (CORNERS * [1, 0.5, 1]).astype("<f4")
LIFT = (CORNERS * [0, 0.5, 0]).astype("<f4")
MORPHED = {**PART, "targets": [{"POSITION": 2}]}
JOINTS = {**PART, "attributes": {"POSITION": 0, "JOINTS_0": 2, "WEIGHTS_0": 3}}
SKINNED = [{"mesh": 0, "skin": 0, "scale": [1, 10, 1]}, {"scale": [1, 2, 1]}]
INFLUENCES = (np.zeros((8, 4), "u1"), np.eye(1, 4, dtype="<f4").repeat(8, 0), np.eye(4, dtype="<f4").reshape(1, 16))
SPARSE = {"count": 8, "indices": {"bufferView": 2, "componentType": 5123}, "values": {"bufferView": 3}}
NESTED = [
    {"children": [1], "translation": [0, 0, 1], "rotation": HALF_TURN},
    {"mesh": 0, "matrix": [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]},
]

KINDS: dict[str, str | bytes] = {
    "plain.off": off(),
    "glued_counts.off": off("OFF"),
    "lower_case.off": off("off\n"),
    "no_keyword.off": off(""),
    "two_counts.off": off(counts=""),
    "counts_on_lines.off": off().replace("8 12 0", "8\n12\n0"),
    "comments.off": off("# by x\nOFF # y\n\n").replace("8 12 0", "8 12 0 # z"),
    "crlf.off": off().replace("\n", "\r\n"),
    "colours.off": off("COFF\n", " 255 0 0 255"),
    "three_colours.off": off("COFF\n", " 0.5 0 0").replace("\n3", "\n 3"),
    "normals.off": off("NOFF\n", " 0 0 1"),
    "colours_normals.off": off("CNOFF\n", " 0 0 1 1 0 0 1"),
    "texture.off": off("STOFF\n", " 0 0"),
    "weighted.off": off("4OFF\n", " 1"),
    "dimensions.off": off("nOFF 3\n"),
    "face_colours.off": off().replace("\n3 0", "\n 3 0").replace(" 3\n", " 3 255 0 0\n"),
    "wrapped_faces.off": off().replace("\n3 ", "\n3\n"),
    "one_line.off": off().replace("\n", " "),
    "squares.off": off(faces=SIDES),
    "concave.off": off(faces=NOTCHED),
    "mark.off": MARK + off(),
    "utf16.off": off().encode("utf-16"),
    "binary.off": off_binary(),
    "plain.obj": V + T,
    "squares.obj": V + F,
    "mixed.obj": V + F[: F.index("f", 1)] + T.split("\n", 2)[2],
    "concave.obj": V + rows(MIDDLES, "v {}\n") + "".join(rows([np.array(ring) + 1], "f {}\n") for ring in NOTCHED),
    "backwards.obj": V + "".join(f"f {a - 8} {b - 8} {c - 8}\n" for a, b, c in TRIANGLES),
    "backwards_between.obj": "".join(rows(CORNERS[side], "v {}\n") + "f -4 -3 -2 -1\n" for side in SIDES),
    "slashes.obj": V + "vt 0 0\nvn 0 0 1\n" + "".join(f"f {a + 1}//1 {b + 1}/1/1 {c + 1}/1\n" for a, b, c in TRIANGLES),
    "continued_face.obj": V + F.replace(" ", " \\\n ").replace("f \\\n", "f"),
    "continued_vertex.obj": V.replace("v 0 ", "v 0 \\\n") + F,
    "comment_behind.obj": (V + F).replace("\n", " # side\n"),
    "name_with_backslash.obj": "mtllib C:\\models\\\n" + V + T,
    "comment_with_backslash.obj": V[:8] + "# C:\\models\\\n" + V[8:] + T,
    "mark.obj": MARK + V + T,
    "mark_and_spare_vertex.obj": MARK + V + "v 0.5 0.5 0.5\n" + T,
    "joined_files.obj": V + "# next\n" + MARK + "v 0.5 0.5 0.5\n" + T,
    "utf16.obj": (V + T).encode("utf-16"),
    "bytes_behind.obj": V + T + "\0\0\x1a",
    "latin1.obj": "# Stühle\ng Fuß\n".encode("latin-1") + (V + T).encode(),
    "tabs.obj": (V + T).replace(" ", "\t"),
    "indented.obj": "  " + (V + T).replace("\n", "\n  "),
    "cr.obj": (V + T).replace("\n", "\r"),
    "upper_case.obj": (V + T).upper(),
    "colours.obj": V.replace("\n", " 0.5 0.5 0.5\n") + T,
    "lines_too.obj": V + "p 1 2\nl 1 2\n" + T,
    "doubled.obj": V + T + "".join(f"f {c + 1} {b + 1} {a + 1}\n" for a, b, c in TRIANGLES),
    "plain.stl": stl(),
    "upper_case.stl": stl().upper(),
    "mixed_case.stl": stl().replace("facet", "Facet").replace("vertex", "Vertex"),
    "one_line.stl": stl().replace("\n", " "),
    "keyword_in_name.stl": stl(name="vertex of a facet loop"),
    "mark.stl": MARK + stl(),
    "crlf.stl": stl().replace("\n", "\r\n"),
    "binary.stl": stl_binary(),
    "binary_solid.stl": stl_binary(b"solid by a CAD program"),
    "bytes_behind.stl": stl_binary(behind=b"\0\0"),
    "bytes_behind_solid.stl": stl_binary(b"solid x", b"\0" * 10),
    "plain.ply": ply(f"{XYZ}element face 12\n{LIST}", rows(CORNERS) + LISTS),
    "float_lists.ply": ply(
        f"{XYZ}element face 12\n{LIST}property list uchar float texcoord\n",
        rows(CORNERS) + rows(TRIANGLES, "3 {} 6 0.1 0.2 0.3 0.4 0.5 0.6\n"),
    ),
    "long_lists.ply": ply(f"{XYZ}element face 12\n{LIST.replace('int', 'int64')}", rows(CORNERS) + LISTS),
    "vertex_lists.ply": ply(
        f"{XYZ}property list uchar double more\nelement face 12\n{LIST}", rows(CORNERS, "{} 2 0.5 7\n") + LISTS
    ),
    "face_colours.ply": ply(
        f"{XYZ}element face 6\n{LIST}property uchar red\n", rows(CORNERS) + rows(SIDES, "4 {} 255\n")
    ),
    "edges.ply": ply(f"{XYZ}element face 12\n{LIST}element edge 1\nproperty int a\n", rows(CORNERS) + LISTS + "7\n"),
    "faces_first.ply": ply(f"element face 12\n{LIST}{XYZ}", LISTS + rows(CORNERS)),
    "comment_end_header.ply": ply(
        f"{XYZ}element face 12\n{LIST}", rows(CORNERS) + LISTS, "comment see end_header below\n"
    ),
    "unknown_header_line.ply": ply(f"{XYZ}element face 12\n{LIST}", rows(CORNERS) + LISTS, "Created by Blender\n"),
    "concave.ply": ply(
        XYZ.replace("8", "11") + f"element face 7\n{LIST}",
        rows([*CORNERS.tolist(), *MIDDLES]) + "".join(rows([[len(ring), *ring]]) for ring in NOTCHED),
    ),
    "strips.ply": ply(
        f"{XYZ}element tristrips 1\n{LIST.replace('uchar', 'int')}", rows(CORNERS) + rows([[len(STRIPS), *STRIPS]])
    ),
    "mark.ply": MARK + ply(f"{XYZ}element face 12\n{LIST}", rows(CORNERS) + LISTS),
    "crlf.ply": ply(f"{XYZ}element face 12\n{LIST}", rows(CORNERS) + LISTS).replace("\n", "\r\n"),
    "binary.ply": ply_binary("<", sides=TRIANGLES),
    "binary_mixed.ply": ply_binary("<"),
    "binary_big_mixed.ply": ply_binary(">"),
    "binary_crlf.ply": ply_binary("<", "\r\n"),
    "binary_cr.ply": ply_binary("<", "\r"),
    "bytes_behind.ply": ply_binary("<", sides=TRIANGLES) + b"\0\0\0",
    "plain.glb": glb(POSITIONS, INDICES),
    "byte_indices.glb": glb(POSITIONS, INDICES.astype("u1")),
    "strips.glb": glb_sides(5, (0, 1, 3, 2)),
    "fans.glb": glb_sides(6, (0, 1, 2, 3)),
    "lines_too.glb": glb(POSITIONS, INDICES, parts=[PART, {**PART, "mode": 1}]),
    "line_strip_too.glb": glb(POSITIONS, INDICES, parts=[{**PART, "mode": 3}, PART]),
    "points_too.glb": glb(POSITIONS, INDICES, parts=[PART, {"attributes": {"POSITION": 0}, "mode": 0}]),
    "empty_part.glb": glb(POSITIONS, INDICES, parts=[PART, {"attributes": {}}]),
    "data_uri.glb": glb(POSITIONS, INDICES, uri=True),
    "texture_extension.glb": glb(POSITIONS, INDICES, extensionsRequired=["KHR_texture_basisu"]),
    "material_extension.glb": glb(POSITIONS, INDICES, extensionsRequired=["KHR_materials_clearcoat"]),
    "quantised.glb": glb_quantised(1 / 65535, normalized=False),
    "quantised_normalised.glb": glb_quantised(1.0, normalized=True),
    "sparse.glb": glb(
        np.zeros((8, 3), "<f4"), INDICES, np.arange(8, dtype="<u2"), POSITIONS, accessors={0: {"sparse": SPARSE}}
    ),
    "morph_of_mesh.glb": glb(FLAT, INDICES, LIFT, meshes=[{"primitives": [MORPHED], "weights": [1.0]}]),
    "morph_of_node.glb": glb(FLAT, INDICES, LIFT, parts=[MORPHED], nodes=[{"mesh": 0, "weights": [1.0]}]),
    "skin.glb": glb(
        *(FLAT, INDICES, *INFLUENCES), parts=[JOINTS], nodes=SKINNED, scenes=[{"nodes": [0, 1]}],
        skins=[{"joints": [1], "inverseBindMatrices": 4}],
    ),
    "instances.glb": glb(
        *(FLAT, INDICES, np.array([[1, 2, 1]], "<f4")),
        nodes=[{"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": {"SCALE": 2}}}}],
    ),
    "nested.glb": glb(POSITIONS, INDICES, nodes=NESTED),
    "second_scene.glb": glb(
        FLAT, INDICES, nodes=[{"mesh": 0}, {"mesh": 0, "scale": [1, 2, 1]}],
        scenes=[{"nodes": [0]}, {"nodes": [1]}], scene=1,
    ),
    "no_scene.glb": glb(FLAT, INDICES, nodes=[{"children": [1], "scale": [1, 2, 1]}, {"mesh": 0}], scenes=[]),
}  # fmt: skip


def is_right(measured: dict[str, Any]) -> bool:
    """Return whether a file was read as the unit cube."""
    return all(measured.get(name) == value for name, value in RIGHT.items())


def seconds(measure: Callable[[Path], object], path: Path) -> str:
    """Return the CPU time that a reader takes for a file."""
    start = time.process_time()
    measure(path)
    return f"{time.process_time() - start:.1f}"


def main(folder: Path) -> None:
    import trimesh
    from readers_meshes import MEASURES, measure_molrl, measure_trimesh

    folder.mkdir(parents=True, exist_ok=True)
    table: dict[str, list[tuple[bool, bool, bool]]] = {}
    for name, content in KINDS.items():
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        ours, theirs = is_right(measure_molrl(path)), measure_trimesh(path)
        wrong = not is_right(theirs) and bool(theirs.keys() & {*MEASURES, "points"})
        table.setdefault(path.suffix, []).append((ours, is_right(theirs), wrong))
        if not ours or not is_right(theirs):
            print(f"{name}: {'' if ours else 'molrl is wrong; '}trimesh: {theirs}")
    head = "| format | kinds | molrl right | trimesh right | trimesh wrong, no error | seconds of molrl, trimesh |"
    print(f"\n{head}\n|---|---|---|---|---|---|")
    ball = trimesh.creation.icosphere(subdivisions=7)
    for suffix, results in table.items():
        ball.export(folder / f"ball{suffix}")
        took = ", ".join(seconds(measure, folder / f"ball{suffix}") for measure in (measure_molrl, measure_trimesh))
        counts = [len(results), *(sum(column) for column in zip(*results, strict=True))]
        print(f"| `{suffix}` | {' | '.join(map(str, counts))} | {took} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
