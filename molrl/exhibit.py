"""Samples as a report shows them: with facts to sort and filter by, and something to look at and to turn in space."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGE_EDGE = 256  # pixels
MAX_POINTS = 1024  # of a point cloud
PALETTE = 64  # colours of a small drawing


@dataclass(frozen=True)
class Exhibit:
    """One sample as the gallery of a report shows it.

    Attributes:
        title: what it is, such as a SMILES, a class or a prompt.
        facts: by name, numbers to sort by and words to filter by.
        image: a picture of it as a PNG file; empty: none.
        sdf: a molfile with positions in angstrom and bonds, which can be turned in space; "": none.
        points: positions [n, 3] in [-1, 1] with y up, which can be turned in space; None: none.
    """

    title: str
    facts: Mapping[str, str | float] = field(default_factory=dict)
    image: bytes = b""
    sdf: str = ""
    points: NDArray[np.float32] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the sample for JSON: bytes in base64, points as int16 thousandths of 32, little-endian."""
        shown: dict[str, Any] = {"title": self.title, "facts": dict(self.facts)}
        if self.image:
            shown["image"] = base64.b64encode(self.image).decode("ascii")
        if self.sdf:
            shown["sdf"] = self.sdf
        if self.points is not None:
            shown["points"] = encode_points(self.points)
        return shown


class Counts(NamedTuple):
    """How often each outcome of some property occurs among samples.

    Attributes:
        counts: outcome -> number.
        total: number that shares are taken of.
        of: what is counted, in the plural, such as "heavy atoms".
    """

    counts: Mapping[str, int]
    total: int
    of: str


POINT_SCALE = 32_000  # of coordinates in [-1, 1] as int16


def encode_points(points: NDArray[np.floating]) -> str:
    """Return at most `MAX_POINTS` points [n, 3] in base64: little-endian int16, `POINT_SCALE` for 1."""
    rows = np.linspace(0, len(points) - 1, min(len(points), MAX_POINTS)).astype(int)
    return base64.b64encode((points[rows].clip(-1, 1) * POINT_SCALE).astype("<i2").tobytes()).decode("ascii")


def encode_png(image: "Image", *, colours: int | None = None) -> bytes:
    """Return an image as a PNG file, its edges at most `MAX_IMAGE_EDGE` pixels.

    Args:
        image: of any size.
        colours: of a palette, for drawings; None: as they are.
    """
    small = image.convert("RGB")
    small.thumbnail((MAX_IMAGE_EDGE, MAX_IMAGE_EDGE))
    file = io.BytesIO()
    (small if colours is None else small.quantize(colours)).save(file, "PNG", optimize=True)
    return file.getvalue()


def count(outcomes: Sequence[str], of: str) -> Counts:
    """Return how often each outcome occurs, where each of these `of` has one."""
    names = dict.fromkeys(outcomes, 0)
    for outcome in outcomes:
        names[outcome] += 1
    return Counts(names, len(outcomes), of)
