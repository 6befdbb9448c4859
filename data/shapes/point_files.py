"""Files of bare points: XYZ text, NPY and NPZ arrays. Nothing in them is unpickled."""

import io
import math
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import MAX_VERTICES, ShapeError
from molrl.data.shapes.mesh_text import text

Arrays = Mapping[str, NDArray[Any]]
POINTS = ("points", "coords")  # names of the array of points in an NPZ; coords is Point-E's
MOST_SHAPES = 1_000_000
MOST_AXES = 8
KIND = re.compile(r"'descr': *'([<>|=][fiuUSb]\d{1,4})'")  # of the header of an NPY file
ORDER = re.compile(r"'fortran_order': *(True|False)")
SHAPE = re.compile(r"'shape': *\(([\d, ]{0,200})\)")


def parse_xyz(data: bytes) -> NDArray[np.float64]:
    """Points [n, 3] of text with three numbers in each line, parted by blanks, commas or semicolons.

    Further columns, such as normals and colours, and lines that begin with # or // are passed over.
    """
    rows = []
    for line in text(data).replace(",", " ").replace(";", " ").splitlines():
        words = line.split()
        if not words or words[0].startswith(("#", "//")):
            continue
        if len(words) < 3:
            raise ShapeError(f"{len(words)} columns, need at least three")
        try:
            rows.append([float(word) for word in words[:3]])
        except ValueError:
            raise ShapeError(f"not three numbers: {line[:40]!r}") from None
        if len(rows) > MAX_VERTICES:
            raise ShapeError(f"more than {MAX_VERTICES} points")
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def parse_npy(data: bytes) -> NDArray[Any]:
    """An array; its header, which numpy would run through Python's parser, may announce no more than there is."""
    start = 10 if data[6:7] == b"\1" else 12
    length = int.from_bytes(data[8:start], "little")
    head, body = data[start : start + length].decode("latin-1"), data[start + length :]
    kind, order, edges = (pattern.search(head) for pattern in (KIND, ORDER, SHAPE))
    if not data.startswith(b"\x93NUMPY") or kind is None or order is None or edges is None:
        raise ShapeError("no NPY array of numbers or text, which alone is read: nothing is unpickled")
    try:
        dtype = np.dtype(kind[1])
        shape = tuple(int(edge) for edge in edges[1].split(",") if edge.strip())
    except (TypeError, ValueError):
        raise ShapeError(f"no NPY array: {kind[1]}, ({edges[1]})") from None
    count = math.prod(shape)
    if len(shape) > MOST_AXES or not dtype.itemsize or count * dtype.itemsize > len(body):
        raise ShapeError(f"the header announces {shape} of {dtype}, there are {len(body)} bytes")
    return np.frombuffer(body, dtype, count).reshape(shape, order="F" if order[1] == "True" else "C")


def parse_npz(data: bytes, most: int) -> dict[str, NDArray[Any]]:
    """The arrays of an archive that unpacks to at most so many bytes."""
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > most:
                raise ShapeError(f"unpacks to more than {most} bytes")
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy"):
                    continue
                with archive.open(entry) as file:
                    content = file.read(most + 1)  # what the archive says of itself may be wrong
                most -= len(content)
                if most < 0:
                    raise ShapeError("unpacks to more than it says")
                arrays[entry.filename.removesuffix(".npy")] = parse_npy(content)
    except ShapeError:
        raise
    except Exception as error:  # zipfile lets through whatever a damaged archive leads it to
        raise ShapeError(f"no NPZ archive, or a damaged one ({type(error).__name__})") from None
    return arrays


def shapes_of(arrays: Arrays) -> tuple[list[NDArray[np.float64]], list[str], list[str]]:
    """The points of each shape with its class and its name, "" for none.

    The array is called points or coords, or is the only one of numbers [n, 3] or [k, n, 3]; `label` and `name` [k] go
    with it.
    """
    found = next((arrays[name] for name in POINTS if name in arrays), None)
    if found is None:
        fitting = [array for array in arrays.values() if array.ndim in (2, 3) and array.shape[-1] == 3]
        if len(fitting) != 1:
            raise ShapeError(f"{len(fitting)} arrays [n, 3] or [k, n, 3] and none called points, need one")
        found = fitting[0]
    if found.dtype.kind not in "fiu" or found.ndim not in (2, 3) or found.shape[-1] != 3:
        raise ShapeError(f"an array of {found.dtype} and shape {found.shape}, need numbers [n, 3] or [k, n, 3]")
    points = found.astype(np.float64)
    shapes = [points] if points.ndim == 2 else list(points)
    if len(shapes) > MOST_SHAPES:
        raise ShapeError(f"{len(shapes)} shapes, allowed: up to {MOST_SHAPES}")
    return shapes, texts(arrays.get("label"), len(shapes)), texts(arrays.get("name"), len(shapes))


def texts(array: NDArray[Any] | None, count: int) -> list[str]:
    """A text for each shape; "" where there are none."""
    if array is None or array.dtype.kind not in "US" or array.shape not in ((count,), ()):
        return [""] * count
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            for value in np.broadcast_to(array, (count,)).tolist()]  # fmt: skip
