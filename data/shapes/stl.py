"""STL (stereolithography), binary or text; corners in one place become one vertex."""

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import MAX_FACES, Mesh, ShapeError, merge_places
from molrl.data.shapes.text import BYTE_ORDER_MARK, parse_point, decode_lines

HEADER_BYTES, FACE = 84, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])


def parse_stl(data: bytes) -> Mesh:
    """Parse the triangles of a file; what follows the announced ones of a binary file is ignored."""
    corners = text_corners(data) if is_text(data) else binary_corners(data)
    if not len(corners):
        raise ShapeError("no triangles")
    places, rows = merge_places(corners)
    return Mesh(places, rows.reshape(-1, 3))


def is_text(data: bytes) -> bool:
    """Return whether a file is text: binary ones may begin with solid, too."""
    start = data[:4096].removeprefix(BYTE_ORDER_MARK.encode()).lstrip().lower()
    return start.startswith((b"solid", b"s\0o\0", b"\xff\xfe", b"\xfe\xff")) and (
        b"\0" not in start or data.startswith((b"\xff\xfe", b"\xfe\xff"))
    )


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
    points: list[list[float]] = []
    facets = 0
    for line in decode_lines(data):
        words = line.lower().split()
        if words[:1] in (["solid"], ["endsolid"]) and "facet" not in words:
            continue  # the name, in which any word may stand
        points += [parse_point(words[k + 1 : k + 4]) for k, word in enumerate(words) if word == "vertex"]
        facets += words.count("facet")
        if facets > MAX_FACES:
            raise ShapeError(f"more than {MAX_FACES} faces")
    if len(points) != 3 * facets:
        raise ShapeError(f"{len(points)} corners of {facets} facets, need three for each")
    return np.array(points, dtype=np.float64).reshape(-1, 3)
