"""PCD, the files of points of the Point Cloud Library (Rusu and Cousins 2011, doi:10.1109/ICRA.2011.5980567)."""

import math

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import MAX_VERTICES, ShapeError
from molrl.data.shapes.text import decode_lines, parse_integers, parse_numbers

KINDS = {"F": "f", "I": "i", "U": "u"}
LAYOUTS = ("ascii", "binary", "binary_compressed")
MAX_HEADER_BYTES = 1 << 16
MAX_FIELDS = 200

Header = dict[str, list[str]]


def parse_pcd(data: bytes) -> NDArray[np.float64]:
    """Parse points [n, 3], without those of which x, y or z is NaN: where a sensor has measured nothing.

    Raises ShapeError for a file without x, y and z, and for one that ends too early.
    """
    header, start = header_of(data)
    record, count = record_of(header)
    layout = header["DATA"][0].lower()
    if layout == "ascii":
        table = text_table(data[start:], record, count)
    elif layout == "binary":
        table = table_of(data[start:], record, count)
    else:
        table = compressed_table(data[start:], record, count)
    points = np.stack([table[axis].astype(np.float64).reshape(count, -1)[:, 0] for axis in "xyz"], 1)
    return points[~np.isnan(points).any(1)]


def header_of(data: bytes) -> tuple[Header, int]:
    """Return the lines of the header by their first word, and where the data begin."""
    header: Header = {}
    start = 0
    for line in data[:MAX_HEADER_BYTES].split(b"\n"):
        start += len(line) + 1
        words = line.decode("utf-8-sig", errors="replace").partition("#")[0].split()
        if words:
            header[words[0].upper()] = words[1:]
        if "DATA" in header:
            break
    if header.get("DATA", [""])[0].lower() not in LAYOUTS or not {"FIELDS", "SIZE", "TYPE"} <= header.keys():
        raise ShapeError(f"no PCD file: it needs FIELDS, SIZE, TYPE and DATA {', '.join(LAYOUTS)}")
    return header, start


def record_of(header: Header) -> tuple["np.dtype[np.void]", int]:
    """Return the type of a point and the number of points."""
    names, kinds = header["FIELDS"], header["TYPE"]
    sizes = parse_integers(header["SIZE"], "SIZE")
    lengths = parse_integers(header.get("COUNT", ["1"] * len(names)), "COUNT")
    edges = parse_integers(header.get("POINTS") or [*header.get("WIDTH", []), *header.get("HEIGHT", [])], "POINTS")
    count = math.prod(edges) if edges else 0
    if not len(names) == len(kinds) == len(sizes) == len(lengths) <= MAX_FIELDS or {*"xyz"} - {*names}:
        raise ShapeError(f"fields {' '.join(names)[:40]!r} with {len(sizes)} sizes and {len(kinds)} types, need x y z")
    if not 0 < count <= MAX_VERTICES or not all(0 < length <= 10_000 for length in lengths):
        raise ShapeError(f"{count} points, allowed: 1 to {MAX_VERTICES}")
    try:
        fields = [
            (name if name in {*"xyz"} else f"{name} {k}", f"<{KINDS[kind]}{size}", (length,))
            for k, (name, kind, size, length) in enumerate(zip(names, kinds, sizes, lengths, strict=True))
        ]
        return np.dtype(fields), count
    except (KeyError, TypeError, ValueError):
        raise ShapeError(f"types {' '.join(kinds)[:40]!r} of sizes {sizes[:10]}") from None


def text_table(data: bytes, record: "np.dtype[np.void]", count: int) -> NDArray[np.void]:
    """Return the table of a text, whose numbers are read in double precision."""
    rows = [parse_numbers(words, "PCD") for line in decode_lines(data) if (words := line.split())]
    names, shapes = record.names or (), [record[name].shape for name in record.names or ()]
    double = np.dtype([(name, "<f8", shape) for name, shape in zip(names, shapes, strict=True)])
    if len(rows) != count or any(8 * len(row) != double.itemsize for row in rows):
        raise ShapeError(f"{len(rows)} lines, {count} of {double.itemsize // 8} numbers each were announced")
    return table_of(np.array(rows, "<f8").tobytes(), double, count)


def table_of(data: bytes, record: "np.dtype[np.void]", count: int) -> NDArray[np.void]:
    """Return the points one after the other."""
    if record.itemsize * count > len(data):
        raise ShapeError(f"{count} points announced, bytes for {len(data) // record.itemsize}")
    return np.frombuffer(data, record, count)


def compressed_table(data: bytes, record: "np.dtype[np.void]", count: int) -> NDArray[np.void]:
    """Return the points of compressed data, which hold all values of one field after all of another."""
    packed, size = (int.from_bytes(data[k : k + 4], "little") for k in (0, 4))
    if packed > len(data) - 8 or size != record.itemsize * count:
        raise ShapeError(f"{packed} bytes of {len(data)} that unpack to {size}, need {record.itemsize * count}")
    content = decompress_lzf(data[8 : 8 + packed], size)
    table = np.zeros(count, record)
    start = 0
    for name in record.names or ():
        column = table[name]
        column[...] = np.frombuffer(content, column.dtype, column.size, start).reshape(column.shape)
        start += column.nbytes
    return table


def decompress_lzf(data: bytes, size: int) -> bytes:
    """Decompress LZF (Lehmann's liblzf): runs of bytes, and repetitions of what came before."""
    out = bytearray()
    place = 0
    try:
        while place < len(data) and len(out) <= size:
            control, place = data[place], place + 1
            if control < 32:
                out += data[place : place + control + 1]
                place += control + 1
                continue
            length = control >> 5
            if length == 7:
                length, place = length + data[place], place + 1
            distance, place = ((control & 31) << 8) + data[place] + 1, place + 1
            if distance > len(out):
                raise IndexError
            pattern = out[len(out) - distance :][: length + 2]
            out += (pattern * -(-(length + 2) // len(pattern)))[: length + 2]
    except IndexError:
        raise ShapeError("damaged compressed data") from None
    if len(out) != size:
        raise ShapeError(f"compressed data of {len(out)} bytes, {size} were announced")
    return bytes(out)
