"""Scenes of glTF 2.0 (Khronos): triangles and points as placed in the scene, before any animation.

Morph targets have their default weights and skins the pose of their joints. Materials, textures, lines and animations
are ignored.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.accessors import Accessors
from molrl.data.shapes.mesh import MAX_FACES, MAX_VERTICES, Mesh, ShapeError
from molrl.data.shapes.polygons import strip_triangles

MAX_NODES, MAX_DEPTH, MAX_INFLUENCES = 100_000, 100, 4
POINTS, LINES, TRIANGLES, STRIP, FAN = 0, (1, 2, 3), 4, 5, 6
DRACO, INSTANCING = "KHR_draco_mesh_compression", "EXT_mesh_gpu_instancing"
READ = {INSTANCING, "KHR_mesh_quantization", "EXT_mesh_features", "EXT_structural_metadata"}
APPEARANCE = re.compile(r"([A-Z]+_(materials|texture|lights|image|techniques|xmp|animation|audio)(_\w+)?|VRMC?(_\w+)?)")

Matrix = NDArray[np.float64]  # [4, 4]


class Scene:
    """A glTF scene that is being read."""

    def __init__(self, document: dict[str, Any], binary: bytes) -> None:
        needed = {str(name) for name in document.get("extensionsRequired", [])} - READ
        if unread := sorted(name for name in needed if not APPEARANCE.fullmatch(name)):
            raise ShapeError(f"needs the extension {unread[0][:40]!r}, which is not read")
        self.document, self.accessors = document, Accessors(document, binary)
        self.places: dict[int, Matrix] = {}
        self.solid: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
        self.bare: list[NDArray[np.float64]] = []
        self.vertices = self.faces = 0

    def mesh(self) -> Mesh:
        """Return the mesh of the default scene, or of all there is if there are no scenes."""
        visited = list(self.visit())
        for number, place in visited:
            self.places[number] = place
        for number, place in visited:
            node = self.document["nodes"][number]
            if "mesh" in node:
                self.add_mesh(node, place)
        if not self.document.get("nodes"):
            for number in range(len(self.document.get("meshes", []))):
                self.add_mesh({"mesh": number}, np.eye(4))
        if not self.solid and not self.bare:
            raise ShapeError("no triangles and no points")
        if not self.solid:
            return Mesh(np.concatenate(self.bare), np.zeros((0, 3), np.int64))
        offsets = np.cumsum([0, *(len(vertices) for vertices, _ in self.solid)])[:-1].tolist()
        faces = [rows + offset for (_, rows), offset in zip(self.solid, offsets, strict=True)]
        return Mesh(np.concatenate([vertices for vertices, _ in self.solid]), np.concatenate(faces))

    def visit(self) -> Iterator[tuple[int, Matrix]]:
        """Yield the number and the place of each node of the scene."""
        nodes = self.document.get("nodes", [])
        if scenes := self.document.get("scenes"):
            roots = scenes[self.document.get("scene", 0)].get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", [])}
            roots = [number for number in range(len(nodes)) if number not in children]
        waiting = [(number, np.eye(4), 0) for number in reversed(roots)]
        for _ in range(MAX_NODES):
            if not waiting:
                return
            number, above, depth = waiting.pop()
            place = above @ node_matrix(nodes[number])
            yield number, place
            if depth < MAX_DEPTH:
                waiting += [(child, place, depth + 1) for child in reversed(nodes[number].get("children", []))]
            elif nodes[number].get("children"):
                break
        raise ShapeError(f"more than {MAX_NODES} nodes, or deeper than {MAX_DEPTH}")

    def add_mesh(self, node: dict[str, Any], place: Matrix) -> None:
        """Add the primitives of the mesh of a node."""
        mesh = self.document["meshes"][node["mesh"]]
        weights = node.get("weights", mesh.get("weights", []))
        for part in mesh["primitives"]:
            mode = part.get("mode", TRIANGLES)
            if mode in LINES or "POSITION" not in part["attributes"]:
                continue
            vertices = self.positions(part, weights)
            rows = np.arange(len(vertices))
            if "indices" in part:
                rows = self.accessors.read(part["indices"])[:, 0].astype(np.int64)
                if not 0 <= rows.min() <= rows.max() < len(vertices):
                    raise ShapeError(f"a face names a vertex that is not there: there are {len(vertices)}")
            if "skin" in node:
                self.add(self.skin(vertices, part["attributes"], self.document["skins"][node["skin"]]), rows, mode)
                continue
            for instance in self.instances(node):
                matrix = place @ instance
                flipped = np.linalg.det(matrix[:3, :3]) < 0
                self.add(vertices @ matrix[:3, :3].T + matrix[:3, 3], rows, mode, flipped=bool(flipped))

    def add(self, vertices: NDArray[np.float64], rows: NDArray[np.int64], mode: int, *, flipped: bool = False) -> None:
        """Add the triangles or points of a primitive."""
        if mode != POINTS and mode not in FACES_OF:
            raise ShapeError(f"primitives of mode {mode}, allowed: 0 to 6")
        faces = np.zeros((0, 3), np.int64) if mode == POINTS else FACES_OF[mode](rows)
        self.vertices, self.faces = self.vertices + len(vertices), self.faces + len(faces)
        if self.vertices > MAX_VERTICES or self.faces > MAX_FACES:
            raise ShapeError(f"more than {MAX_VERTICES} vertices or {MAX_FACES} faces")
        if mode == POINTS:
            self.bare.append(vertices[rows])
        else:
            self.solid.append((vertices, faces[:, ::-1] if flipped else faces))

    def positions(self, part: dict[str, Any], weights: list[float]) -> NDArray[np.float64]:
        """Return the vertices of a primitive [v, 3], with its morph targets at some weights."""
        number = part["attributes"]["POSITION"]
        if DRACO in part.get("extensions", {}) and "bufferView" not in self.document["accessors"][number]:
            raise ShapeError(f"compressed with {DRACO}, which is not read")
        vertices = self.accessors.read(number)
        for weight, target in zip(weights, part.get("targets", []), strict=False):
            if weight and "POSITION" in target:
                vertices = vertices + weight * self.accessors.read(target["POSITION"])
        if vertices.shape[1] != 3:
            raise ShapeError(f"positions of {vertices.shape[1]} numbers, need 3")
        return vertices

    def skin(
        self, vertices: NDArray[np.float64], attributes: dict[str, int], skin: dict[str, Any]
    ) -> NDArray[np.float64]:
        """Return vertices [v, 3] where the joints of a skin take them; the place of their own node does not count."""
        joints = np.stack([self.places[number] for number in skin["joints"]])
        if "inverseBindMatrices" in skin:
            inverse = self.accessors.read(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
            joints = joints @ inverse[: len(joints)]
        moved, total = np.zeros_like(vertices), np.zeros((len(vertices), 1))
        for influence in range(MAX_INFLUENCES):
            if f"JOINTS_{influence}" not in attributes:
                break
            numbers = self.accessors.read(attributes[f"JOINTS_{influence}"]).astype(np.int64)
            weights = self.accessors.read(attributes[f"WEIGHTS_{influence}"])
            for number, weight in zip(numbers.T, weights.T[:, :, None], strict=True):
                turn, shift = joints[number, :3, :3], joints[number, :3, 3]
                moved += weight * (np.einsum("vij,vj->vi", turn, vertices) + shift)
                total += weight
        if not (total > 0).all():
            raise ShapeError("a skin that leaves vertices without a joint")
        return moved / total

    def instances(self, node: dict[str, Any]) -> list[Matrix]:
        """Return the places of a node's mesh relative to the node: one, or those of `EXT_mesh_gpu_instancing`."""
        instancing = node.get("extensions", {}).get(INSTANCING)
        if instancing is None:
            return [np.eye(4)]
        columns = {name.lower(): self.accessors.read(number) for name, number in instancing["attributes"].items()}
        if not columns or max(map(len, columns.values())) > MAX_NODES:
            raise ShapeError(f"instances of a node: none, or more than {MAX_NODES}")
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [node_matrix(dict(zip(columns, row, strict=True))) for row in rows]


def whole_triangles(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return triangles [f, 3], of which each has its three corners."""
    if len(rows) % 3:
        raise ShapeError(f"{len(rows)} corners, need three for each face")
    return rows.reshape(-1, 3)


def fan_triangles(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the triangles [n - 2, 3] around the first corner."""
    return np.stack([np.full(max(0, len(rows) - 2), rows[0]), rows[1:-1], rows[2:]], 1)


FACES_OF: dict[int, Callable[[NDArray[np.int64]], NDArray[np.int64]]] = {
    TRIANGLES: whole_triangles,
    STRIP: strip_triangles,
    FAN: fan_triangles,
}


def node_matrix(node: dict[str, Any]) -> Matrix:
    """Return the matrix of a node: given, or of translation, rotation (quaternion x, y, z, w) and scale."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    quaternion = np.array(node.get("rotation", (0, 0, 0, 1)), dtype=np.float64)
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
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
