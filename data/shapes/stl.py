"""STL (stereolithography), binary or text; corners in one place become one vertex."""

from array import array
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import MAX_FACES, Mesh, ShapeError, merge_places
from molrl.data.shapes.text import BYTE_ORDER_MARK, PADDING, UTF_16, decode_lines, parse_point
from molrl.machine.files import replace_file

HEADER_BYTES, FACE = 84, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])


def parse_stl(data: bytes) -> Mesh:
    """Parse the triangles of a file; what follows the announced ones of a binary file is ignored."""
    corners = text_corners(data) if is_text(data) else binary_corners(data)
    if not len(corners):
        raise ShapeError("no triangles")
    places, rows = merge_places(corners)
    return Mesh(places, rows.reshape(-1, 3))


def is_text(data: bytes) -> bool:
    """Return whether a file is text: binary ones may begin with solid, too, but soon have a byte that is 0."""
    start = data[:4096].rstrip(PADDING).removeprefix(BYTE_ORDER_MARK.encode()).lstrip().lower()
    return data.startswith(UTF_16) or (start.startswith(b"solid") and b"\0" not in start)


def binary_corners(data: bytes) -> NDArray[np.float64]:
    """Return the corners [3 f, 3] of the triangles of a binary file."""
    count = int.from_bytes(data[HEADER_BYTES - 4 : HEADER_BYTES], "little")
    found = (len(data) - HEADER_BYTES) // FACE.itemsize
    if len(data) < HEADER_BYTES or count > found or (found and not count):
        raise ShapeError(f"no STL file: {count} triangles announced, bytes for {max(0, found)}, and no text")
    if count > MAX_FACES:
        raise ShapeError(f"{count} faces, allowed: at most {MAX_FACES}")
    return np.frombuffer(data, FACE, count, HEADER_BYTES)["corners"].reshape(-1, 3).astype(np.float64)


def text_corners(data: bytes) -> NDArray[np.float64]:
    """Return the corners [3 f, 3] of the triangles of a text file."""
    coordinates = array("d")
    facets, ended = 0, False
    for line in decode_lines(data):
        words = line.lower().split()
        ended = "endsolid" in words or (ended and "facet" not in words)
        if words and words[0] in ("solid", "endsolid"):
            words = without_name(words)
        if "vertex" in words:
            for place, word in enumerate(words):
                if word == "vertex":
                    coordinates.extend(parse_point(words[place + 1 : place + 4]))
        facets += words.count("facet")
        if facets > MAX_FACES:
            raise ShapeError(f"more than {MAX_FACES} faces")
    if not ended:
        raise ShapeError("the file ends before endsolid")
    if len(coordinates) != 9 * facets:
        raise ShapeError(f"{len(coordinates) // 3} corners of {facets} facets, need three for each")
    return np.array(coordinates).reshape(-1, 3)


def without_name(words: list[str]) -> list[str]:
    """Return the words of a line behind the name of the solid, in which any word may stand: from the first facet on."""
    starts = (place for place, pair in enumerate(pairwise(words)) if pair == ("facet", "normal"))
    return words[next(starts, len(words)) :]


def write_stl(path: Path, points: NDArray[np.floating], faces: NDArray[np.integer]) -> None:
    """Write a binary STL file of a mesh of points [n, 3] with triangles [f, 3], completely or not at all."""
    table = np.zeros(len(faces), FACE)
    table["corners"] = corners = points[faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    table["normal"] = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    head = b"molrl".ljust(HEADER_BYTES - 4, b" ") + len(faces).to_bytes(4, "little")
    replace_file(path, head + table.tobytes())
