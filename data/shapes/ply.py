"""PLY files (Stanford), ASCII and binary: vertices and faces; other elements and properties are ignored."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import MAX_FACES, MAX_VERTICES, Mesh, ShapeError, mesh_from_polygons
from molrl.machine.files import replace_file

TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float32": "f4", "float64": "f8"},
}
BYTE_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
MAX_HEADER_BYTES = 1 << 16
MAX_CORNERS = 1000  # of a face


@dataclass
class Element:
    """An element of the header: a table with a row for each vertex, face or other item.

    Attributes:
        properties: name, type of the length of a list ("" for a single value), and type of each column.
    """

    name: str
    count: int
    properties: list[tuple[str, str, str]] = field(default_factory=list)


def parse_ply(data: bytes) -> Mesh:
    """Parse a mesh, or bare points if there are no faces."""
    head, mark, _ = data[:MAX_HEADER_BYTES].partition(b"end_header")
    if not data.startswith(b"ply") or not mark:
        raise ShapeError("no PLY file: it does not begin with ply, or the header does not end")
    start = data.find(b"\n", len(head)) + 1
    ending, elements = parse_header(head.decode("ascii", errors="replace"))
    values: Iterator[tuple[Element, list[NDArray[np.generic]]]]
    values = ascii_values(data[start:], elements) if not ending else binary_values(data, start, ending, elements)
    vertices, polygons = np.zeros((0, 3)), list[list[int]]()
    for element, columns in values:
        named = dict(zip((name for name, _, _ in element.properties), columns, strict=True))
        if element.name == "vertex":
            if missing := [axis for axis in "xyz" if axis not in named]:
                raise ShapeError(f"vertices without {', '.join(missing)}")
            vertices = np.stack([named[axis].astype(np.float64) for axis in "xyz"], 1)
        elif element.name == "face":
            rings = named.get("vertex_indices", named.get("vertex_index"))
            if rings is None:
                raise ShapeError("faces without vertex_indices")
            polygons = [[int(corner) for corner in ring] for ring in rings]
    return mesh_from_polygons(vertices, polygons)


def parse_header(text: str) -> tuple[str, list[Element]]:
    """Return the byte order ("" for text) and the elements of the file."""
    ending, elements = None, list[Element]()
    for line in text.splitlines()[1:]:
        words = line.split()
        match words[:1]:
            case ["format"] if words[1:2] and words[1] in BYTE_ORDERS:
                ending = BYTE_ORDERS[words[1]]
            case ["element"] if len(words) == 3 and words[2].isascii() and words[2].isdigit():
                elements.append(Element(words[1], int(words[2][:12])))
            case ["property"] if elements and len(words) == 3 and words[1] in TYPES:
                elements[-1].properties.append((words[2], "", TYPES[words[1]]))
            case ["property"] if elements and len(words) == 5 and {words[2], words[3]} <= TYPES.keys():
                elements[-1].properties.append((words[4], TYPES[words[2]], TYPES[words[3]]))
            case [] | ["comment"] | ["obj_info"]:
                pass
            case _:
                raise ShapeError(f"header line not understood: {line[:40]!r}")
    if ending is None:
        raise ShapeError(f"no format in the header, allowed: {', '.join(BYTE_ORDERS)}")
    for element in elements:
        check_element(element)
    return ending, elements


def check_element(element: Element) -> None:
    """Raise ShapeError for an element that no shape has."""
    names = [name for name, _, _ in element.properties]
    if element.count > max(MAX_VERTICES, MAX_FACES) or len(names) != len(set(names)) or len(names) > 100:
        raise ShapeError(f"{element.count} times {element.name} with {len(names)} properties")
    if element.name == "vertex" and any(length for _, length, _ in element.properties):
        raise ShapeError("vertices with lists")


def ascii_values(data: bytes, elements: list[Element]) -> Iterator[tuple[Element, list[NDArray[np.generic]]]]:
    """Yield each element of a text file with a column of values, or of lists, per property."""
    lines = iter(line for line in data.decode("ascii", errors="replace").splitlines() if line.strip())
    for element in elements:
        rows: list[list[float | list[float]]] = []
        for _ in range(element.count):
            if (line := next(lines, None)) is None:
                raise ShapeError(f"{len(rows)} of {element.count} times {element.name}")
            rows.append(parse_row(line.split(), element))
        yield element, [make_column([row[k] for row in rows]) for k in range(len(element.properties))]


def parse_row(words: list[str], element: Element) -> list[float | list[float]]:
    """Parse the values of one line."""
    row: list[float | list[float]] = []
    place = 0
    try:
        for _, length, _ in element.properties:
            if not length:
                row.append(float(words[place]))
                place += 1
                continue
            size = int(words[place])
            ring = [float(int(word[:12])) for word in words[place + 1 : place + 1 + size]]
            if not 0 <= size == len(ring) <= MAX_CORNERS:
                raise ShapeError(f"a list of {size} has {len(ring)} values, allowed: up to {MAX_CORNERS}")
            row.append(ring)
            place += 1 + size
    except (IndexError, ValueError) as error:
        if isinstance(error, ShapeError):
            raise
        raise ShapeError(f"{element.name}: not its numbers: {' '.join(words)[:40]!r}") from None
    return row


def make_column(values: list[float | list[float]]) -> NDArray[np.generic]:
    """Return values as an array; lists stay lists."""
    if not values or not isinstance(values[0], list):
        return np.array(values, dtype=np.float64)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def binary_values(
    data: bytes, start: int, ending: str, elements: list[Element]
) -> Iterator[tuple[Element, list[NDArray[np.generic]]]]:
    """Yield each element of a binary file with a column of values, or of lists, per property."""
    for element in elements:
        sizes = first_list_sizes(data, start, ending, element)
        record = np.dtype(
            [
                item
                for k, (_, length, kind) in enumerate(element.properties)
                for item in ([(f"n{k}", ending + length)] if length else [])
                + [(f"v{k}", ending + kind, (sizes[k],)) if length else (f"v{k}", ending + kind)]
            ]
        )
        end = start + record.itemsize * element.count
        table = np.frombuffer(data[start:end], record) if record.itemsize and end <= len(data) else None
        lists = [k for k, (_, length, _) in enumerate(element.properties) if length]
        if table is None or any((table[f"n{k}"] != sizes[k]).any() for k in lists):
            columns, start = read_row_by_row(data, start, ending, element)
        else:
            columns, start = [table[f"v{k}"] for k in range(len(element.properties))], end
        yield element, columns


def first_list_sizes(data: bytes, start: int, ending: str, element: Element) -> dict[int, int]:
    """Return the lengths of the lists in the first row of an element, which probably hold for all rows."""
    sizes: dict[int, int] = {}
    if element.count:
        row, _ = read_binary_row(data, start, ending, element)
        sizes = {k: len(row[k]) for k, (_, length, _) in enumerate(element.properties) if length}
    return sizes or dict.fromkeys(range(len(element.properties)), 0)


def read_row_by_row(data: bytes, start: int, ending: str, element: Element) -> tuple[list[NDArray[np.generic]], int]:
    """Return the columns of an element whose lists differ in length, and the offset of its end."""
    rows = []
    for _ in range(element.count):
        row, start = read_binary_row(data, start, ending, element)
        rows.append([value.tolist() if length else value.tolist()[0]
                     for value, (_, length, _) in zip(row, element.properties, strict=True)])  # fmt: skip
    return [make_column([row[k] for row in rows]) for k in range(len(element.properties))], start


def read_binary_row(data: bytes, start: int, ending: str, element: Element) -> tuple[list[NDArray[np.generic]], int]:
    """Return the values of one row, and the offset of its end."""
    row = []
    for _, length, kind in element.properties:
        size = 1
        if length:
            lengths, start = read_values(data, start, np.dtype(ending + length), 1)
            size = int(lengths[0])
            if not 0 <= size <= MAX_CORNERS:
                raise ShapeError(f"a list of {size} values, allowed: up to {MAX_CORNERS}")
        values, start = read_values(data, start, np.dtype(ending + kind), size)
        row.append(values)
    return row, start


def read_values(data: bytes, start: int, kind: "np.dtype[np.generic]", count: int) -> tuple[NDArray[np.generic], int]:
    """Return numbers at an offset, and the offset of their end."""
    end = start + kind.itemsize * count
    if end > len(data):
        raise ShapeError("the file ends too early")
    return np.frombuffer(data, kind, count, start), end


def write_ply(path: Path, points: NDArray[np.floating], faces: NDArray[np.integer] | None = None) -> None:
    """Write a binary PLY file of points [n, 3], or of a mesh with triangles [f, 3], completely or not at all."""
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    head += [f"property float {axis}" for axis in "xyz"]
    body = points.astype("<f4").tobytes()
    if faces is not None:
        head += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        table = np.zeros(len(faces), np.dtype([("n", "u1"), ("v", "<i4", (3,))]))
        table["n"], table["v"] = 3, faces
        body += table.tobytes()
    replace_file(path, "\n".join([*head, "end_header\n"]).encode() + body)
