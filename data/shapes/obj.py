"""Wavefront OBJ: vertices and faces; materials, textures, normals and groups are ignored, their files not opened."""

from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from molrl.data.shapes.mesh import MAX_FACES, MAX_VERTICES, Mesh, ShapeError
from molrl.data.shapes.polygons import mesh_from_polygons
from molrl.data.shapes.text import decode_lines, parse_integers, parse_point

VERTEX, FACES = "v", ("f", "fo")
MAX_WORDS = 1_000_000  # of a statement
UNREAD = ("l", "curv", "curv2", "surf")  # lines, curves and free-form surfaces


def parse_obj(data: bytes) -> Mesh:
    """Parse a mesh, or bare points if there are no faces.

    Raises ShapeError for a file without vertices, and for one of curves and lines alone.
    """
    vertices, corners, sizes = array("d"), array("q"), array("q")
    unread = ""
    for words in statements(decode_lines(data)):
        keyword = words[0].lower()
        if keyword == VERTEX:
            vertices.extend(parse_point(words[1:4]))
        elif keyword in FACES:
            ring = corner_numbers(words[1:], len(vertices) // 3)
            corners.extend(ring)
            sizes.append(len(ring))
        elif keyword in UNREAD:
            unread = keyword
        if len(vertices) > 3 * MAX_VERTICES or len(corners) > 3 * MAX_FACES:
            raise ShapeError(f"more than {MAX_VERTICES} vertices or {MAX_FACES} faces")
    if not vertices:
        raise ShapeError("no vertices")
    if unread and not sizes:
        raise ShapeError(f"no faces, but {unread!r}: lines, curves and free-form surfaces are not read")
    return mesh_from_polygons(np.array(vertices), np.array(corners, np.int64), np.array(sizes, np.int64))


def statements(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the words of each statement without its comment; one that ends in a backslash goes on in the next line.

    Only vertices and faces go on: after a name that ends in a backslash the next statement would be lost.
    """
    words: list[str] = []
    for line in lines:
        text = line.partition("#")[0].rstrip()
        words += text.removesuffix("\\").split()
        if len(words) > MAX_WORDS:
            raise ShapeError(f"a statement of more than {MAX_WORDS} words")
        if not words or (text.endswith("\\") and words[0].lower() in (VERTEX, *FACES)):
            continue
        yield words
        words = []
    if words:
        yield words


def corner_numbers(words: list[str], count: int) -> list[int]:
    """Return the vertices of a face, from 0; in the file they count from 1, or backwards from the last one so far."""
    numbers = parse_integers([word.partition("/")[0] for word in words], "a face")
    if 0 in numbers:
        raise ShapeError("a face names vertex 0, they count from 1")
    return [number - 1 if number > 0 else count + number for number in numbers]
