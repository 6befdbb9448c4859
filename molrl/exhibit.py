"""Samples as a report shows them: with facts to sort and filter by, and something to look at and to turn in space."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGE_EDGE = 256  # pixels
MAX_POINTS = 1024  # of a point cloud
PALETTE = 64  # colours of a drawing: a formula has few, and smooth edges, on a shade as well
POINT_SCALE = 32_000  # of coordinates in [-1, 1] as int16
MAX_PNG_BYTES, JPEG_QUALITY = 16_000, 85  # of a picture that stays exact, and of one that does not


@dataclass(frozen=True)
class Exhibit:
    """One sample as the gallery of a report shows it.

    Attributes:
        title: what it is, such as a SMILES, a class or a prompt.
        facts: by name, numbers to sort by and words to filter by.
        image: a picture of it as a PNG or JPEG file; empty: none.
        sdf: a molfile with positions in angstrom and bonds, which can be turned in space; "": none.
        points: positions [n, 3] in [-1, 1] with y up, which can be turned in space; None: none.
    """

    title: str
    facts: Mapping[str, str | float] = field(default_factory=dict)
    image: bytes = b""
    sdf: str = ""
    points: NDArray[np.float32] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the sample for JSON: bytes in base64, points as `encode_points` has them."""
        shown: dict[str, Any] = {"title": self.title, "facts": dict(self.facts)}
        if self.image:
            shown["image"] = base64.b64encode(self.image).decode("ascii")
        if self.sdf:
            shown["sdf"] = self.sdf
        if self.points is not None:
            shown["points"] = encode_points(self.points)
        return shown


class Scene(Protocol):
    """A reward of samples within something fixed, such as poses in a pocket, which a report shows together."""

    def surroundings(self) -> str:
        """Return the fixed atoms as the text of a PDB file."""
        ...

    def pose(self, sample: Any) -> Any | None:
        """Return a sample where the reward sees it; None where it has no place."""
        ...


def find_scene(reward: Any) -> Scene | None:
    """Return the first scene among a reward and those that it wraps; None where there is none."""
    if hasattr(reward, "surroundings"):
        return cast(Scene, reward)
    return next(filter(None, map(find_scene, getattr(reward, "inner", ()))), None)


class Counts(NamedTuple):
    """The counts of each outcome of some property among samples.

    Attributes:
        counts: outcome -> number.
        total: number that shares are taken of.
        of: what is counted, in the plural, such as "heavy atoms".
    """

    counts: Mapping[str, int]
    total: int
    of: str


def encode_points(points: NDArray[np.floating]) -> str:
    """Return at most `MAX_POINTS` points [n, 3] in base64: little-endian int16, `POINT_SCALE` for 1."""
    rows = np.linspace(0, len(points) - 1, min(len(points), MAX_POINTS)).astype(int)
    return base64.b64encode((points[rows].clip(-1, 1) * POINT_SCALE).astype("<i2").tobytes()).decode("ascii")


def encode_drawing(image: "Image") -> bytes:
    """Return a drawing of few colours as a PNG file, its edges at most `MAX_IMAGE_EDGE` pixels."""
    return encode(reduced(image).quantize(PALETTE), "PNG", optimize=True)


def encode_image(image: "Image") -> bytes:
    """Return an image, its edges at most `MAX_IMAGE_EDGE` pixels, as a PNG file, or as JPEG where that is large."""
    small = reduced(image)
    exact = encode(small, "PNG", optimize=True)
    return exact if len(exact) <= MAX_PNG_BYTES else encode(small, "JPEG", quality=JPEG_QUALITY)


def reduced(image: "Image") -> "Image":
    """Return an image in RGB, its edges at most `MAX_IMAGE_EDGE` pixels."""
    small = image.convert("RGB")
    small.thumbnail((MAX_IMAGE_EDGE, MAX_IMAGE_EDGE))
    return small


def encode(image: "Image", kind: str, **settings: Any) -> bytes:
    """Return an image as a file of a kind that Pillow knows."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def count(outcomes: Sequence[str], of: str) -> Counts:
    """Return how often each outcome occurs, where each of these `of` has one."""
    names = dict.fromkeys(outcomes, 0)
    for outcome in outcomes:
        names[outcome] += 1
    return Counts(names, len(outcomes), of)
