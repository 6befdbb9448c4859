"""GLB and glTF 2.0 files: a scene of JSON and, in a GLB file, its numbers behind it."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.gltf import POINTS, TRIANGLES, Scene
from molrl.data.shapes.mesh import Mesh, ShapeError
from molrl.data.shapes.text import BYTE_ORDER_MARK
from molrl.machine.files import replace_file

MAGIC, VERSION = b"glTF", 2
JSON_CHUNK, BIN_CHUNK = 0x4E4F534A, 0x004E4942
MAX_JSON_BYTES, MAX_JSON_ITEMS = 128 << 20, 4_000_000


def parse_glb(data: bytes) -> Mesh:
    """Parse all triangles of the scene of a GLB file, or all its points if it has no triangles."""
    if len(data) < 20 or data[:4] != MAGIC or int.from_bytes(data[4:8], "little") != VERSION:
        raise ShapeError("no GLB file of version 2")
    length, kind = struct.unpack_from("<II", data, 12)
    start = 20 + length
    if kind != JSON_CHUNK or start > len(data):
        raise ShapeError(f"a scene of {length} bytes in a file of {len(data)}")
    binary = b""
    if len(data) >= start + 8:
        length, kind = struct.unpack_from("<II", data, start)
        binary = data[start + 8 : start + 8 + length] if kind == BIN_CHUNK else b""
    return scene_mesh(data[20:start], binary)


def parse_gltf(data: bytes) -> Mesh:
    """Parse a glTF file, whose numbers must be in it as data URIs."""
    return scene_mesh(data, b"")


def scene_mesh(content: bytes, binary: bytes) -> Mesh:
    """Return the mesh of a scene of JSON; the binary is its buffer without a URI."""
    if len(content) > MAX_JSON_BYTES or sum(map(content.count, (b",", b"[", b"{"))) > MAX_JSON_ITEMS:
        raise ShapeError(f"a scene of {len(content)} bytes, allowed: up to {MAX_JSON_BYTES}, {MAX_JSON_ITEMS} items")
    try:
        document = json.loads(content.rstrip(b"\0").removeprefix(BYTE_ORDER_MARK.encode()))
    except (ValueError, RecursionError):
        raise ShapeError("the scene is not JSON") from None
    if not isinstance(document, dict):
        raise ShapeError("the scene is not a JSON object")
    try:
        return Scene(document, binary).mesh()
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error, ShapeError):
            raise
        raise ShapeError(f"not a sound glTF scene ({type(error).__name__}: {str(error)[:80]})") from None


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
