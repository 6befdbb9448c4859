"""OFF, the Object File Format of Geomview, Princeton and ModelNet, as text or binary; colours are ignored."""

import re
from array import array
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import MAX_FACES, MAX_VERTICES, Mesh, ShapeError
from molrl.data.shapes.polygons import mesh_from_polygons, whole_numbers
from molrl.data.shapes.text import decode_lines, parse_numbers, words_of

KEYWORD = re.compile("(ST)?(C)?(N)?(4)?(n)?OFF")  # the manual of Geomview, "OFF Files"
BINARY = re.compile(rb"\s*(?:ST)?C?N?4?n?OFF[ \t]+BINARY[ \t]*\r?\n", re.IGNORECASE)
MAX_NUMBERS = 8 * (MAX_VERTICES + MAX_FACES)

Table: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]
"""Vertices [v, width], the corners of all faces, and the number of corners of each face."""


class Header(NamedTuple):
    """The layout of a vertex, as the keyword says it.

    Attributes:
        widths: the possible numbers of values of a vertex.
        weighted: whether the fourth value divides the first three.
        dimensional: whether the number of dimensions comes before the counts.
        words: what follows the keyword in its line.
    """

    widths: tuple[int, ...]
    weighted: bool
    dimensional: bool
    words: list[str]


class Numbers(NamedTuple):
    """Numbers of a file.

    Attributes:
        values: [n].
        starts: where each line begins.
    """

    values: NDArray[np.float64]
    starts: NDArray[np.int64]

    def rest(self, used: int) -> "Numbers":
        """Return the numbers behind the first ones."""
        rest = self.starts[self.starts > used] - used
        return Numbers(self.values[used:], np.concatenate([[0], rest]))


def parse_off(data: bytes) -> Mesh:
    """Parse a mesh, or bare points if there are no faces.

    Raises ShapeError for other numbers than are announced, and for vertices of other than three dimensions.
    """
    if binary := BINARY.match(data):
        vertices, corners, sizes = binary_table(data, binary.end())
        return mesh_from_polygons(vertices[:, :3], whole_numbers(corners), sizes)
    lines = words_of(decode_lines(data))
    header = split_keyword(next(lines, [""]))
    numbers = read_numbers([header.words] if header.words else [], lines)
    if header.dimensional:
        if numbers.values[:1].tolist() != [3]:
            raise ShapeError(f"vertices of {numbers.values[:1].tolist()} dimensions, need 3")
        numbers = numbers.rest(1)
    points, faces, numbers = read_counts(numbers)
    vertices, corners, sizes = row_table(numbers, points, faces) or token_table(numbers, points, faces, header.widths)
    if header.weighted:
        vertices = vertices[:, :3] / vertices[:, 3:4]
    return mesh_from_polygons(vertices[:, :3], whole_numbers(corners), sizes)


def split_keyword(line: list[str]) -> Header:
    """Return what the first line says; the keyword may be left out, and the counts may follow it without a blank."""
    found = KEYWORD.match(line[0]) or KEYWORD.match(line[0].upper())
    if found is None:
        if not line[0].isdecimal():
            raise ShapeError("no OFF file: it does not begin with OFF")
        return Header((3,), weighted=False, dimensional=False, words=line)
    texture, colours, normals, weighted, dimension = map(bool, found.groups())
    width = 3 + weighted + 3 * normals + 2 * texture
    words = [word for word in (line[0][found.end() :], *line[1:]) if word]
    return Header((width + 4, width + 3) if colours else (width,), weighted, dimension, words)


def read_numbers(*lines: Iterable[list[str]]) -> Numbers:
    """Read the numbers of lines."""
    values, starts = array("d"), array("q")
    for part in lines:
        for words in part:
            starts.append(len(values))
            values.extend(parse_numbers(words, "OFF"))
            if len(values) > MAX_NUMBERS:
                raise ShapeError(f"more than {MAX_NUMBERS} numbers")
    return Numbers(np.array(values), np.array(starts, np.int64))


def read_counts(numbers: Numbers) -> tuple[int, int, Numbers]:
    """Return the numbers of vertices and of faces, and what follows; the number of edges may be left out."""
    values, starts = numbers
    counts = values[:2].tolist()
    if len(counts) < 2 or not (0 < counts[0] <= MAX_VERTICES and 0 <= counts[1] <= MAX_FACES):
        raise ShapeError(f"got counts {counts}, allowed: up to {MAX_VERTICES} vertices and {MAX_FACES} faces")
    lengths = np.diff(starts, append=len(values))
    used = 2 if (lengths[starts == 2] > 1).any() else 3
    return int(counts[0]), int(counts[1]), numbers.rest(used)


def row_table(numbers: Numbers, points: int, faces: int) -> Table | None:
    """Return the numbers of a line for each vertex and each face, or None if the lines are other ones.

    Colours, and what else may stand behind the coordinates and corners, are left out.
    """
    values, starts = numbers
    lengths = np.diff(starts, append=len(values))
    if len(starts) < points + faces or lengths[:points].min() < 3:
        return None
    rings, room = starts[points : points + faces], lengths[points : points + faces] - 1
    sizes = values[rings]
    if not ((sizes >= 0) & (sizes <= room) & (sizes == np.floor(sizes))).all():
        return None
    width = int(lengths[:points].min().clip(max=4))
    vertices = values[starts[:points, None] + np.arange(width)]
    return vertices, gather(values, rings, sizes.astype(np.int64)), sizes.astype(np.int64)


def gather(values: NDArray[np.float64], starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the values behind the ones at `starts`, so many of each."""
    offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    following: NDArray[np.float64] = values[np.repeat(starts + 1, sizes) + offsets]
    return following


def token_table(numbers: Numbers, points: int, faces: int, widths: tuple[int, ...]) -> Table:
    """Return numbers that follow one another without regard to lines, of which none may be left over."""
    values = numbers.values
    for width in widths:
        starts = face_starts(values, points * width, faces)
        if len(starts) > faces and starts[-1] == len(values):
            rings = np.array(starts, np.int64)
            vertices = values[: points * width].reshape(points, width)
            return vertices, gather(values, rings[:-1], np.diff(rings) - 1), np.diff(rings) - 1
    raise ShapeError(
        f"{len(numbers.starts)} lines of {len(values)} numbers, {points} vertices and {faces} faces were announced"
    )


def face_starts(values: NDArray[np.float64], start: int, faces: int) -> list[int]:
    """Return where each face begins and the last one ends, as far as they fit."""
    starts = [start]
    for _ in range(faces):
        size = values[starts[-1]] if starts[-1] < len(values) else -1.0
        if not (0 <= size < len(values) and size == int(size)):
            break
        starts.append(starts[-1] + 1 + int(size))
    return starts


def binary_table(data: bytes, start: int) -> Table:
    """Return the big-endian integers and numbers of single precision of a binary file."""
    width = split_keyword([data[:start].split()[0].decode("ascii")]).widths[0]
    points, faces = np.frombuffer(data, ">i4", 2, start).tolist() if len(data) >= start + 12 else (0, 0)
    end = start + 12 + 4 * width * points
    if not (0 < points <= MAX_VERTICES and 0 <= faces <= MAX_FACES and end <= len(data)):
        raise ShapeError(f"got counts {[points, faces]} in a file of {len(data)} bytes")
    vertices = np.frombuffer(data, ">f4", width * points, start + 12).reshape(points, width)
    words = np.frombuffer(data, ">i4", (len(data) - end) // 4, end)
    starts, sizes = np.zeros(faces, np.int64), np.zeros(faces, np.int64)
    place = 0
    for face in range(faces):  # the size, the corners, the number of colours, the colours
        size = int(words[place]) if place < len(words) else -1
        if not 0 <= size < len(words) - place - 1 or words[place + 1 + size] < 0:
            raise ShapeError("the file ends too early")
        starts[face], sizes[face] = place, size
        place += 2 + size + int(words[place + 1 + size])
    return vertices.astype(np.float64), gather(words.astype(np.float64), starts, sizes), sizes
