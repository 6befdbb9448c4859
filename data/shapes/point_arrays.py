"""Bare points in NPY and NPZ arrays; nothing in them is unpickled."""

import io
import math
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import ShapeError

Arrays = Mapping[str, NDArray[Any]]
POINTS = ("points", "coords")  # names of the array of points in an NPZ; Point-E uses coords
MAX_SHAPES = 1_000_000
MAX_AXES = 8
DTYPE = re.compile(r"'descr': *'([<>|=][fiuUSb]\d{1,4})'")  # in the header of an NPY file
FORTRAN_ORDER = re.compile(r"'fortran_order': *(True|False)")
SHAPE = re.compile(r"'shape': *\(([\d, ]{0,200})\)")


def parse_npy(data: bytes) -> NDArray[Any]:
    """Parse an array without numpy's reader, which evaluates the header; it may announce no more than there is."""
    start = 10 if data[6:7] == b"\1" else 12
    length = int.from_bytes(data[8:start], "little")
    head, body = data[start : start + length].decode("latin-1"), data[start + length :]
    kind, order, edges = (pattern.search(head) for pattern in (DTYPE, FORTRAN_ORDER, SHAPE))
    if not data.startswith(b"\x93NUMPY") or kind is None or order is None or edges is None:
        raise ShapeError("no NPY array of numbers or text, which alone is read: nothing is unpickled")
    try:
        dtype = np.dtype(kind[1])
        shape = tuple(int(edge) for edge in edges[1].split(",") if edge.strip())
    except (TypeError, ValueError):
        raise ShapeError(f"no NPY array: {kind[1]}, ({edges[1]})") from None
    count = math.prod(shape)
    if len(shape) > MAX_AXES or not dtype.itemsize or count * dtype.itemsize > len(body):
        raise ShapeError(f"the header announces {shape} of {dtype}, there are {len(body)} bytes")
    return np.frombuffer(body, dtype, count).reshape(shape, order="F" if order[1] == "True" else "C")


def parse_npz(data: bytes, max_bytes: int) -> dict[str, NDArray[Any]]:
    """Parse the arrays of an archive that unpacks to at most `max_bytes`."""
    arrays: dict[str, NDArray[Any]] = {}
    left = max_bytes
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > max_bytes:
                raise ShapeError(f"unpacks to more than {max_bytes} bytes")
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy"):
                    continue
                with archive.open(entry) as file:
                    content = file.read(left + 1)  # the announced size may be wrong
                left -= len(content)
                if left < 0:
                    raise ShapeError("unpacks to more than it says")
                arrays[entry.filename.removesuffix(".npy")] = parse_npy(content)
    except ShapeError:
        raise
    except Exception as error:  # a damaged archive makes zipfile raise many errors
        raise ShapeError(f"no NPZ archive, or a damaged one ({type(error).__name__})") from None
    return arrays


def split_shapes(arrays: Arrays) -> tuple[list[NDArray[np.float64]], list[str], list[str]]:
    """Return the points of each shape, its class and its name, "" for none.

    The array is called points or coords, or is the only one of shape [n, 3] or [k, n, 3]; `label` and `name` [k] are
    optional.
    """
    array = next((arrays[name] for name in POINTS if name in arrays), None)
    if array is None:
        fitting = [each for each in arrays.values() if each.ndim in (2, 3) and each.shape[-1] == 3]
        if len(fitting) != 1:
            raise ShapeError(f"{len(fitting)} arrays [n, 3] or [k, n, 3] and none called points, need one")
        array = fitting[0]
    if array.dtype.kind not in "fiu" or array.ndim not in (2, 3) or array.shape[-1] != 3:
        raise ShapeError(f"an array of {array.dtype} and shape {array.shape}, need numbers [n, 3] or [k, n, 3]")
    points = array.astype(np.float64)
    shapes = [points] if points.ndim == 2 else list(points)
    if len(shapes) > MAX_SHAPES:
        raise ShapeError(f"{len(shapes)} shapes, allowed: up to {MAX_SHAPES}")
    return shapes, text_column(arrays.get("label"), len(shapes)), text_column(arrays.get("name"), len(shapes))


def text_column(array: NDArray[Any] | None, count: int) -> list[str]:
    """Return a text for each shape, "" if there is none."""
    if array is None or array.dtype.kind not in "US" or array.shape not in ((count,), ()):
        return [""] * count
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            for value in np.broadcast_to(array, (count,)).tolist()]  # fmt: skip
