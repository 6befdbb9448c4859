"""GLB, the binary form of glTF 2.0: triangles and points as placed in the scene.

Only the file itself is read: a buffer, an extension or a compression that needs anything else is refused. Materials,
textures and animations are ignored.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import MAX_FACES, MAX_VERTICES, Mesh, ShapeError
from molrl.machine.files import replace_file

MAGIC, VERSION = b"glTF", 2
JSON_CHUNK, BIN_CHUNK = 0x4E4F534A, 0x004E4942
MAX_JSON_BYTES = 16 << 20
MAX_NODES, MAX_DEPTH = 100_000, 100
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
POINTS, TRIANGLES = 0, 4
SUPPORTED_EXTENSIONS = {"KHR_materials_unlit", "KHR_texture_transform"}  # they affect only what is ignored


def parse_glb(data: bytes) -> Mesh:
    """Parse all triangles of the scene, or all its points if it has no triangles."""
    scene, binary = chunks(data)
    try:
        return Scene(scene, binary).mesh()
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error, ShapeError):
            raise
        raise ShapeError(f"not a sound glTF scene ({type(error).__name__}: {str(error)[:80]})") from None


def chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON scene and the binary chunk of a GLB file."""
    if len(data) < 20 or data[:4] != MAGIC or int.from_bytes(data[4:8], "little") != VERSION:
        raise ShapeError("no GLB file of version 2")
    length, kind = struct.unpack_from("<II", data, 12)
    if kind != JSON_CHUNK or length > min(MAX_JSON_BYTES, len(data) - 20):
        raise ShapeError(f"a scene of {length} bytes in a file of {len(data)}, allowed: up to {MAX_JSON_BYTES}")
    try:
        scene = json.loads(data[20 : 20 + length])
    except (ValueError, RecursionError):
        raise ShapeError("the scene is not JSON") from None
    if not isinstance(scene, dict):
        raise ShapeError("the scene is not a JSON object")
    start = 20 + length
    binary = b""
    if len(data) >= start + 8:
        length, kind = struct.unpack_from("<II", data, start)
        binary = data[start + 8 : start + 8 + length] if kind == BIN_CHUNK else b""
    return scene, binary


class Scene:
    """A glTF scene that is being read."""

    def __init__(self, scene: dict[str, Any], binary: bytes) -> None:
        self.scene, self.binary = scene, binary
        if needed := sorted(set(scene.get("extensionsRequired", [])) - SUPPORTED_EXTENSIONS):
            raise ShapeError(f"needs the extension {str(needed[0])[:40]!r}, which is not read")
        if any("uri" in buffer for buffer in scene.get("buffers", [])):
            raise ShapeError("refers to another file, which is not opened")
        self.parts: dict[int, list[tuple[NDArray[np.float64], NDArray[np.int64]]]] = {POINTS: [], TRIANGLES: []}
        self.nodes = self.vertices = self.faces = 0

    def mesh(self) -> Mesh:
        """Return the mesh of the default scene, or of all meshes if there is no scene."""
        scenes = self.scene.get("scenes", [])
        if scenes:
            for node in scenes[self.scene.get("scene", 0)].get("nodes", []):
                self.visit(node, np.eye(4), 0)
        else:
            for number in range(len(self.scene.get("meshes", []))):
                self.add_mesh(number, np.eye(4))
        kept = self.parts[TRIANGLES] or self.parts[POINTS]
        if not kept:
            raise ShapeError("no triangles and no points")
        offsets = np.cumsum([0, *(len(vertices) for vertices, _ in kept)])
        faces = [rows + offset for (_, rows), offset in zip(kept, offsets[:-1], strict=True)]
        return Mesh(np.concatenate([vertices for vertices, _ in kept]), np.concatenate(faces))

    def visit(self, number: int, place: NDArray[np.float64], depth: int) -> None:
        """Add the meshes of a node and of those below it."""
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ShapeError(f"more than {MAX_NODES} nodes, or deeper than {MAX_DEPTH}")
        node = self.scene["nodes"][number]
        place = place @ node_matrix(node)
        if "mesh" in node:
            self.add_mesh(node["mesh"], place)
        for child in node.get("children", []):
            self.visit(child, place, depth + 1)

    def add_mesh(self, number: int, place: NDArray[np.float64]) -> None:
        """Add the primitives of a mesh, transformed by a matrix [4, 4]."""
        for part in self.scene["meshes"][number]["primitives"]:
            mode = part.get("mode", TRIANGLES)
            if mode not in self.parts:
                raise ShapeError(f"primitives of mode {mode}, allowed: triangles ({TRIANGLES}), points ({POINTS})")
            vertices = self.read_accessor(part["attributes"]["POSITION"]).reshape(-1, 3).astype(np.float64)
            rows = (
                self.read_accessor(part["indices"]).astype(np.int64) if "indices" in part else np.arange(len(vertices))
            )
            if mode == TRIANGLES and len(rows) % 3:
                raise ShapeError(f"{len(rows)} corners, need three for each face")
            self.vertices, self.faces = self.vertices + len(vertices), self.faces + len(rows) // 3
            if self.vertices > MAX_VERTICES or self.faces > MAX_FACES:
                raise ShapeError(f"more than {MAX_VERTICES} vertices or {MAX_FACES} faces")
            if len(rows) and not 0 <= rows.min() <= rows.max() < len(vertices):
                raise ShapeError(f"a face names a vertex that is not there: there are {len(vertices)}")
            faces = rows.reshape(-1, 3) if mode == TRIANGLES else np.zeros((0, 3), np.int64)
            self.parts[mode].append((vertices @ place[:3, :3].T + place[:3, 3], faces))

    def read_accessor(self, number: int) -> NDArray[np.generic]:
        """Return the values of an accessor, [count, width] flattened."""
        accessor = self.scene["accessors"][number]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise ShapeError("sparse accessors are not read")
        view = self.scene["bufferViews"][accessor["bufferView"]]
        kind, width, count = (
            np.dtype(COMPONENTS[accessor["componentType"]]),
            WIDTHS[accessor["type"]],
            accessor["count"],
        )
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        stride = view.get("byteStride", kind.itemsize * width)
        end = start + stride * (count - 1) + kind.itemsize * width
        if not (0 < count <= 3 * MAX_FACES and start >= 0 and stride >= kind.itemsize * width):
            raise ShapeError(f"an accessor of {count} values from byte {start} with stride {stride}")
        if view.get("buffer", 0) != 0 or end > len(self.binary):
            raise ShapeError(f"numbers up to byte {end}, the file has {len(self.binary)}")
        table = np.ndarray((count, width), kind, self.binary, start, (stride, kind.itemsize))
        return np.array(table).ravel()


def node_matrix(node: dict[str, Any]) -> NDArray[np.float64]:
    """Return the matrix [4, 4] of a node: given, or of translation, rotation (quaternion x, y, z, w) and scale."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    x, y, z, w = (float(value) for value in node.get("rotation", (0, 0, 0, 1)))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    place = np.eye(4)
    place[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), dtype=np.float64)
    place[:3, 3] = node.get("translation", (0, 0, 0))
    return place


def write_glb(path: Path, points: NDArray[np.floating], faces: NDArray[np.integer] | None = None) -> None:
    """Write a GLB file of points [n, 3] with y up, or of a mesh with triangles [f, 3], completely or not at all."""
    vertices = np.ascontiguousarray(points, dtype="<f4")
    binary = vertices.tobytes()
    views = [{"buffer": 0, "byteOffset": 0, "byteLength": len(binary)}]
    low, high = vertices.min(0).tolist(), vertices.max(0).tolist()
    accessors: list[dict[str, Any]] = [
        {"bufferView": 0, "componentType": 5126, "count": len(vertices), "type": "VEC3", "min": low, "max": high}
    ]
    part: dict[str, Any] = {"attributes": {"POSITION": 0}, "mode": POINTS if faces is None else TRIANGLES}
    if faces is not None:
        rows = np.ascontiguousarray(faces, dtype="<u4").tobytes()
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(rows)})
        accessors.append({"bufferView": 1, "componentType": 5125, "count": 3 * len(faces), "type": "SCALAR"})
        part["indices"], binary = 1, binary + rows
    scene = {
        "asset": {"version": "2.0", "generator": "molrl"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [part]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    content = json.dumps(scene).encode()
    content += b" " * (-len(content) % 4)
    size = 12 + 8 + len(content) + 8 + len(binary)
    head = struct.pack("<4sII", MAGIC, VERSION, size) + struct.pack("<II", len(content), JSON_CHUNK)
    replace_file(path, head + content + struct.pack("<II", len(binary), BIN_CHUNK) + binary)
