"""Procedural drawings with captions: one coloured shape on a coloured background, "a red circle on a blue background".

`read_drawing` reads shape and colours back without a model, and is exact for such drawings.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from molrl.data.images.image import CaptionedImage

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 220, 50),
    "purple": (140, 50, 170),
    "orange": (245, 140, 30),
    "black": (20, 20, 20),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "star", "ring")
WORDS = ("a", "an", "on", "background", *SHAPES, *COLOURS)
OVERSAMPLING = 4
MIN_RADIUS, MAX_RADIUS = 0.26, 0.40  # of a figure, in edges of the image
MAX_TILT = 15.0  # degrees that a figure is turned by
HOLE_RADIUS = 0.5  # of a ring, in its radius
INNER_RADIUS = 0.42  # of a star's inner corners, in its radius
MIN_CONTRAST = 40.0  # distance of the colours of figure and background; below it there is no figure
CORE_RADIUS = 0.45  # in root mean square radii; a ring is empty inside
MIN_MOMENT = 0.12  # relative strength of a moment; below it there are no corners


class Caption(NamedTuple):
    """The content of a drawing; as text, its caption."""

    colour: str
    shape: str
    background: str

    def __str__(self) -> str:
        return f"{with_article(self.colour)} {self.shape} on {with_article(self.background)} background"


def with_article(noun: str) -> str:
    """Return a noun with its article: a cat, an ant."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def all_captions() -> list[Caption]:
    """Return every shape in every colour on every other colour."""
    return [Caption(c, s, b) for s, c, b in product(SHAPES, COLOURS, COLOURS) if c != b]


def is_held_out(caption: Caption) -> bool:
    """Tell whether a combination is held out to test composition: each shape in each colour on one other colour."""
    names = list(COLOURS)
    offset = names.index(caption.background) - names.index(caption.colour)
    return offset % len(COLOURS) == 1 + SHAPES.index(caption.shape)


def captions(*, held_out: bool) -> list[str]:
    """Return the captions that are held out, or those to train with."""
    return [str(caption) for caption in all_captions() if is_held_out(caption) == held_out]


@cache
def captions_by_text() -> Mapping[str, Caption]:
    """Return all captions by their text."""
    return {str(caption): caption for caption in all_captions()}


def draw(caption: Caption, rng: np.random.Generator, edge: int = 32) -> CaptionedImage:
    """Draw the figure of a caption at a random size, place and tilt, inside an image of edge x edge pixels."""
    radius = rng.uniform(MIN_RADIUS, MAX_RADIUS)
    x, y = rng.uniform(radius + 0.03, 0.97 - radius, size=2)
    turn = math.radians(rng.uniform(-MAX_TILT, MAX_TILT))
    size = edge * OVERSAMPLING
    page = Image.new("RGB", (size, size), COLOURS[caption.background])
    pen, colour = ImageDraw.Draw(page), COLOURS[caption.colour]
    if caption.shape in ("circle", "ring"):
        pen.ellipse(bounding_box(x, y, radius, size), fill=colour)
        if caption.shape == "ring":
            pen.ellipse(bounding_box(x, y, radius * HOLE_RADIUS, size), fill=COLOURS[caption.background])
    else:
        corners = [
            (size * (x + radius * far * math.sin(turn + angle)), size * (y - radius * far * math.cos(turn + angle)))
            for far, angle in outline(caption.shape)
        ]
        pen.polygon(corners, fill=colour)
    small = page.resize((edge, edge), Image.Resampling.BOX)
    return CaptionedImage(np.asarray(small, dtype=np.uint8), str(caption))


def bounding_box(x: float, y: float, radius: float, size: int) -> tuple[float, float, float, float]:
    """Return the box around a circle, in pixels."""
    return (size * (x - radius), size * (y - radius), size * (x + radius), size * (y + radius))


def outline(shape: str) -> list[tuple[float, float]]:
    """Return the distance from the middle and the angle from the top of each corner."""
    match shape:
        case "square":
            return [(1.0, math.tau * (k + 0.5) / 4) for k in range(4)]
        case "triangle":
            return [(1.0, math.tau * k / 3) for k in range(3)]
        case "star":
            return [(INNER_RADIUS if k % 2 else 1.0, math.tau * k / 10) for k in range(10)]
    raise ValueError(f"shape: got {shape!r}, allowed {', '.join(SHAPES)}")


@dataclass(frozen=True)
class Drawings:
    """An endless sequence of drawings; drawing i depends only on the seed and on i."""

    seed: int
    edge: int = 32
    held_out: bool = False

    def __getitem__(self, index: int) -> CaptionedImage:
        """Draw the image at an index, of a random caption."""
        rng = np.random.default_rng([self.seed, index, int(self.held_out)])
        allowed = [caption for caption in all_captions() if is_held_out(caption) == self.held_out]
        return draw(allowed[int(rng.integers(len(allowed)))], rng, self.edge)


def read_drawing(image: CaptionedImage) -> Caption:
    """Read the content of an image as a drawing; the shape is "" if there is no figure.

    The background is the median of the border, the figure is what differs most from it. The shape follows from the
    moments sum w z^k of the figure about its middle, z = x + iy: k corners at equal angles give only the moment of
    order k, a circle gives none, and a ring is empty in its middle.
    """
    pixels = image.pixels.astype(np.float64)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(border, 0)
    contrast = np.sqrt(((pixels - ground) ** 2).sum(2))
    if contrast.max() < MIN_CONTRAST:
        return Caption(nearest_colour(ground), "", nearest_colour(ground))
    figure = np.median(pixels[contrast > 0.75 * contrast.max()], 0)
    across = figure - ground
    cover = (2 * (pixels - ground) @ across / max(across @ across, 1e-9) - 0.5).clip(0, 1)  # sharper: less noise
    return Caption(nearest_colour(figure), classify_shape(cover), nearest_colour(ground))


def nearest_colour(colour: NDArray[np.float64]) -> str:
    """Return the name of the nearest colour."""
    return min(COLOURS, key=lambda name: float(((np.array(COLOURS[name]) - colour) ** 2).sum()))


def classify_shape(cover: NDArray[np.float64]) -> str:
    """Return the shape of a figure from how much of each pixel it covers [height, width]."""
    y, x = np.mgrid[: cover.shape[0], : cover.shape[1]]
    z = x + 1j * y
    z = z - (cover * z).sum() / cover.sum()
    radius = math.sqrt(float((cover * abs(z) ** 2).sum() / cover.sum()))
    if cover[abs(z) < CORE_RADIUS * radius].mean() < 0.5:
        return "ring"
    strength = {
        shape: abs((cover * z**order).sum()) / (cover * abs(z) ** order).sum()
        for shape, order in (("triangle", 3), ("square", 4), ("star", 5))
    }
    best = max(strength, key=lambda shape: strength[shape])
    return best if strength[best] > MIN_MOMENT else "circle"
