"""Accessors of glTF 2.0: the numbers of a scene, from buffers that are part of the file."""

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import MAX_FACES, ShapeError

COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
MAX_NUMBERS = 64_000_000  # of all accessors that are read


class Accessors:
    """The accessors of a document.

    Attributes:
        document: the scene.
        binary: the buffer of a GLB file.
    """

    def __init__(self, document: dict[str, Any], binary: bytes) -> None:
        self.document, self.binary = document, binary
        self.left = MAX_NUMBERS
        self.decoded: dict[int, bytes] = {}

    def read(self, number: int) -> NDArray[np.float64]:
        """Return the values of an accessor [count, width]; normalised integers are in [-1, 1].

        Raises ShapeError for one without data, of too many numbers, and of a buffer in another file.
        """
        accessor = self.document["accessors"][number]
        kind, width, count = (
            np.dtype(COMPONENTS[accessor["componentType"]]),
            WIDTHS[accessor["type"]],
            accessor["count"],
        )
        if not 0 < count <= 3 * MAX_FACES:
            raise ShapeError(f"an accessor of {count} values, allowed: up to {3 * MAX_FACES}")
        self.left -= count * width
        if self.left < 0:
            raise ShapeError(f"more than {MAX_NUMBERS} numbers")
        sparse = accessor.get("sparse")
        if "bufferView" in accessor:
            values = self.table(accessor, kind, width, count).astype(np.float64)
        elif sparse is not None:
            values = np.zeros((count, width))
        else:
            raise ShapeError("numbers that are not in the file, or compressed by an extension that is not read")
        if sparse is not None:
            rows = self.table(sparse["indices"], np.dtype(COMPONENTS[sparse["indices"]["componentType"]]), 1,
                              sparse["count"])[:, 0]  # fmt: skip
            values[rows] = self.table(sparse["values"], kind, width, sparse["count"])
        if accessor.get("normalized") and kind.kind in "iu":
            values = (values / np.iinfo(kind).max).clip(-1)
        return values

    def table(self, place: dict[str, Any], kind: "np.dtype[Any]", width: int, count: int) -> NDArray[Any]:
        """Return numbers [count, width] from a buffer; the place names a view of it and an offset."""
        view = self.document["bufferViews"][place["bufferView"]]
        start = view.get("byteOffset", 0) + place.get("byteOffset", 0)
        stride = view.get("byteStride", kind.itemsize * width)
        if not (0 < count <= 3 * MAX_FACES and start >= 0 and stride >= kind.itemsize * width):
            raise ShapeError(f"an accessor of {count} values from byte {start} with stride {stride}")
        buffer = self.buffer(view.get("buffer", 0))
        end = start + stride * (count - 1) + kind.itemsize * width
        if end > len(buffer):
            by = f", compressed with {min(view['extensions'])}" if view.get("extensions") else ""
            raise ShapeError(f"numbers up to byte {end}, the file has {len(buffer)}{by}")
        return np.ndarray((count, width), kind, buffer, start, (stride, kind.itemsize))

    def buffer(self, number: int) -> bytes:
        """Return the bytes of a buffer: those of the GLB file, or of a data URI."""
        if number not in self.decoded:
            uri = self.document["buffers"][number].get("uri")
            self.decoded[number] = decode_uri(uri) if uri is not None else self.binary if number == 0 else b""
        return self.decoded[number]


def decode_uri(uri: str) -> bytes:
    """Return the bytes that a data URI holds; any other URI names a file, which is not opened."""
    head, comma, content = uri.partition(",")
    if not head.startswith("data:") or not comma:
        raise ShapeError("refers to another file, which is not opened")
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        raise ShapeError("a data URI that is not base64") from None
