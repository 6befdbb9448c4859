"""PLY files (Stanford), text and binary: vertices, faces and strips; other elements and properties are ignored."""

import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import MAX_FACES, MAX_VERTICES, Mesh, ShapeError
from molrl.data.shapes.polygons import mesh_from_polygons, strip_triangles, whole_numbers
from molrl.data.shapes.text import BYTE_ORDER_MARK, decode_lines, parse_numbers
from molrl.machine.files import replace_file

TYPES = {
    **{"char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d"},
    **{"int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "float32": "f"},
    **{"int64": "q", "uint64": "Q", "float16": "e", "float64": "d"},
}
BYTE_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
MAX_HEADER_BYTES = 1 << 16
CORNERS = ("vertex_indices", "vertex_index")


@dataclass
class Element:
    """An element of the header: a table with a row for each vertex, face or other item.

    Attributes:
        properties: name, type of the length of a list ("" for a single value), and type of each column.
    """

    name: str
    count: int
    properties: list[tuple[str, str, str]] = field(default_factory=list)


class Column(NamedTuple):
    """The values of a property: one for each row, or lists one after the other with the length of each."""

    values: NDArray[np.float64]
    sizes: NDArray[np.int64] | None


def parse_ply(data: bytes) -> Mesh:
    """Parse a mesh, or bare points if there are neither faces nor strips.

    Raises ShapeError for a file that ends before its header does, or has other data than the header announces.
    """
    lines, start = split_header(data)
    ending, elements = parse_header(lines)
    is_text, body = not ending, data[start:]
    if is_text:  # the same table, with each number in double precision
        ending, body = "<", double_table(body)
        for element in elements:
            element.properties = [(name, length and "d", "d") for name, length, _ in element.properties]
    tables: dict[str, dict[str, Column]] = {}
    start = 0
    for element in elements:
        tables[element.name], start = read_element(body, start, ending, element)
    if is_text and start < len(body):
        raise ShapeError(f"{(len(body) - start) // 8} numbers more than the header announces")
    return make_mesh(tables)


def make_mesh(tables: Mapping[str, Mapping[str, Column]]) -> Mesh:
    """Make a mesh of the elements of a file."""
    columns = tables.get("vertex", {})
    if missing := [axis for axis in "xyz" if axis not in columns]:
        raise ShapeError(f"vertices without {', '.join(missing)}")
    vertices = np.stack([columns[axis].values for axis in "xyz"], 1)
    corners, sizes = corners_of(tables.get("face", {}), "face")
    strips, lengths = corners_of(tables.get("tristrips", {}), "tristrips")
    parts = [strip_triangles(strip) for strip in np.split(strips, np.cumsum(lengths)[:-1])] if len(lengths) else []
    triangles = np.concatenate([np.zeros((0, 3), np.int64), *parts])
    return mesh_from_polygons(
        vertices, np.concatenate([corners, triangles.ravel()]), np.concatenate([sizes, np.full(len(triangles), 3)])
    )


def corners_of(columns: Mapping[str, Column], name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the corners in the lists of an element, and the length of each list; none if there is no such element."""
    lists = {key: (values, sizes) for key, (values, sizes) in columns.items() if sizes is not None}
    named = [lists[key] for key in CORNERS if key in lists] or list(lists.values())
    if columns and len(named) != 1:
        raise ShapeError(f"{name} without {CORNERS[0]}")
    return (whole_numbers(named[0][0]), named[0][1]) if named else (np.zeros(0, np.int64), np.zeros(0, np.int64))


def split_header(data: bytes) -> tuple[list[str], int]:
    """Return the lines of the header, which may end in LF, CRLF or CR, and where the data begin."""
    start = 3 * data.startswith(BYTE_ORDER_MARK.encode())
    head = data[start : start + MAX_HEADER_BYTES]
    newline = b"\n" if b"\n" in head.partition(b"end_header")[0] else b"\r"
    lines: list[str] = []
    for line in head.split(newline):
        start += len(line) + 1
        lines.append(line.decode("ascii", errors="replace").strip())
        if lines[0] != "ply":
            break
        if lines[-1] == "end_header":
            return lines[1:-1], start
    raise ShapeError("no PLY file: it does not begin with ply, or the header does not end")


def parse_header(lines: list[str]) -> tuple[str, list[Element]]:
    """Return the byte order ("" for text) and the elements of the file."""
    ending, elements = None, list[Element]()
    for line in lines:
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
            case ["format"] | ["element"] | ["property"]:
                raise ShapeError(f"header line not understood: {line[:40]!r}")
    if ending is None:
        raise ShapeError(f"no format in the header, allowed: {', '.join(BYTE_ORDERS)}")
    for element in elements:
        names = [name for name, _, _ in element.properties]
        if element.count > max(MAX_VERTICES, MAX_FACES) or len(names) != len(set(names)) or len(names) > 100:
            raise ShapeError(f"{element.count} times {element.name} with {len(names)} properties")
    return ending, elements


def double_table(data: bytes) -> bytes:
    """Return the numbers of a text in double precision."""
    values = array("d")
    for line in decode_lines(data):
        values.extend(parse_numbers(line.split(), "PLY"))
    return np.array(values, "<f8").tobytes()


def read_element(data: bytes, start: int, ending: str, element: Element) -> tuple[dict[str, Column], int]:
    """Return the columns of an element, and where it ends."""
    sizes = first_sizes(data, start, ending, element)
    record = np.dtype([
        item
        for (name, length, kind), size in zip(element.properties, sizes, strict=True)
        for item in ([(f"{name} length", ending + length), (name, ending + kind, (size,))] if length else
                     [(name, ending + kind)])
    ])  # fmt: skip
    end = start + record.itemsize * element.count
    if not record.itemsize or end > len(data):
        return read_rows(data, start, ending, element)
    table = np.frombuffer(data, record, element.count, start)
    columns = {}
    for (name, length, _), size in zip(element.properties, sizes, strict=True):
        if length and (table[f"{name} length"] != size).any():
            return read_rows(data, start, ending, element)
        rows = np.full(element.count, size) if length else None
        columns[name] = Column(table[name].astype(np.float64).ravel(), rows)
    return columns, end


def first_sizes(data: bytes, start: int, ending: str, element: Element) -> list[int]:
    """Return the lengths of the lists in the first row of an element, which are often those of all rows."""
    sizes = []
    for _, length, kind in element.properties if element.count else ():
        size, start = (1, start) if not length else read_size(data, start, ending + length)
        sizes.append(size)
        start += size * struct.calcsize(ending + kind)
    return sizes or [0] * len(element.properties)


def read_rows(data: bytes, start: int, ending: str, element: Element) -> tuple[dict[str, Column], int]:
    """Return the columns of an element whose lists differ in length, and where it ends."""
    values = [array("d") for _ in element.properties]
    sizes = [array("q") for _ in element.properties]
    for _ in range(element.count):
        for column, (_, length, kind) in enumerate(element.properties):
            size, start = (1, start) if not length else read_size(data, start, ending + length)
            end = start + size * struct.calcsize(ending + kind)
            if end > len(data):
                raise ShapeError(f"{element.name}: the file ends too early")
            values[column].extend(struct.unpack_from(f"{ending}{size}{kind}", data, start))
            sizes[column].append(size)
            start = end
    return {
        name: Column(np.array(values[column]), np.array(sizes[column], np.int64) if length else None)
        for column, (name, length, _) in enumerate(element.properties)
    }, start


def read_size(data: bytes, start: int, kind: str) -> tuple[int, int]:
    """Return the length of a list, and where the list begins."""
    end = start + struct.calcsize(kind)
    (size,) = struct.unpack_from(kind, data, start) if end <= len(data) else (-1,)
    if not 0 <= size <= len(data) - end or size != int(size):
        raise ShapeError(f"a list of {size} values in a file that ends after {max(0, len(data) - end)} bytes")
    return int(size), end


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
