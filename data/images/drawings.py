"""Drawings with captions, made up: one coloured shape on a coloured background, "a red circle on a blue background".

A drawing can be read again without a model: `read_drawing` tells shape and colours, and is right for real drawings.
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
OVERSAMPLED = 4
SMALLEST, LARGEST = 0.26, 0.40  # radius of a figure, in edges of the image
TILT = 15.0  # degrees that a figure is turned by at most
HOLE = 0.5  # of a ring, in its radius
INNER = 0.42  # radius of a star's inner corners, in its radius
FAINTEST = 40.0  # distance of a figure's colour from the background's, below which there is none
EMPTY = 0.45  # of the root mean square radius, inside which a ring is empty
ROUND = 0.12  # relative strength of a moment, below which there are no corners


class Caption(NamedTuple):
    """What a drawing shows."""

    colour: str
    shape: str
    background: str

    def __str__(self) -> str:
        return f"{with_article(self.colour)} {self.shape} on {with_article(self.background)} background"


def with_article(noun: str) -> str:
    """A cat, an ant."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def all_captions() -> list[Caption]:
    """Every shape in every colour on every other colour."""
    return [Caption(c, s, b) for s, c, b in product(SHAPES, COLOURS, COLOURS) if c != b]


def is_held_out(caption: Caption) -> bool:
    """Whether this combination is kept for testing composition: for each shape, each colour once on one other."""
    names = list(COLOURS)
    apart = names.index(caption.background) - names.index(caption.colour)
    return apart % len(COLOURS) == 1 + SHAPES.index(caption.shape)


def captions(*, held_out: bool) -> list[str]:
    """The captions that are trained with, or the others."""
    return [str(caption) for caption in all_captions() if is_held_out(caption) == held_out]


@cache
def meanings() -> Mapping[str, Caption]:
    """Caption as text -> what it says."""
    return {str(caption): caption for caption in all_captions()}


def draw(caption: Caption, rng: np.random.Generator, edge: int = 32) -> CaptionedImage:
    """The figure at a random size, place and tilt, all of it inside an image of edge x edge pixels."""
    radius = rng.uniform(SMALLEST, LARGEST)
    x, y = rng.uniform(radius + 0.03, 0.97 - radius, size=2)
    turn = math.radians(rng.uniform(-TILT, TILT))
    size = edge * OVERSAMPLED
    page = Image.new("RGB", (size, size), COLOURS[caption.background])
    pen, colour = ImageDraw.Draw(page), COLOURS[caption.colour]
    if caption.shape in ("circle", "ring"):
        pen.ellipse(box(x, y, radius, size), fill=colour)
        if caption.shape == "ring":
            pen.ellipse(box(x, y, radius * HOLE, size), fill=COLOURS[caption.background])
    else:
        corners = [
            (size * (x + radius * far * math.sin(turn + angle)), size * (y - radius * far * math.cos(turn + angle)))
            for far, angle in outline(caption.shape)
        ]
        pen.polygon(corners, fill=colour)
    small = page.resize((edge, edge), Image.Resampling.BOX)
    return CaptionedImage(np.asarray(small, dtype=np.uint8), str(caption))


def box(x: float, y: float, radius: float, size: int) -> tuple[float, float, float, float]:
    """Around a circle, in pixels."""
    return (size * (x - radius), size * (y - radius), size * (x + radius), size * (y + radius))


def outline(shape: str) -> list[tuple[float, float]]:
    """Distance from the middle, and angle from the top, of each corner."""
    match shape:
        case "square":
            return [(1.0, math.tau * (k + 0.5) / 4) for k in range(4)]
        case "triangle":
            return [(1.0, math.tau * k / 3) for k in range(3)]
        case "star":
            return [(INNER if k % 2 else 1.0, math.tau * k / 10) for k in range(10)]
    raise ValueError(f"shape: got {shape!r}, allowed {', '.join(SHAPES)}")


@dataclass(frozen=True)
class Drawings:
    """An endless row of drawings; drawing i depends on the seed and on i alone."""

    seed: int
    edge: int = 32
    held_out: bool = False

    def __getitem__(self, index: int) -> CaptionedImage:
        """One drawing, of a caption at random."""
        rng = np.random.default_rng([self.seed, index, int(self.held_out)])
        allowed = [caption for caption in all_captions() if is_held_out(caption) == self.held_out]
        return draw(allowed[int(rng.integers(len(allowed)))], rng, self.edge)


def read_drawing(image: CaptionedImage) -> Caption:
    """What an image shows, taken for a drawing: its shape is "" where there is no figure.

    The background is the median of the border, the figure what differs most from it. The shape follows from the moments
    sum w z^k of the figure about its middle, z = x + iy: corners at every k-th part of a turn leave one of order k
    alone, and a circle none; a ring has its middle empty.
    """
    pixels = image.pixels.astype(np.float64)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(border, 0)
    away = np.sqrt(((pixels - ground) ** 2).sum(2))
    if away.max() < FAINTEST:
        return Caption(nearest(ground), "", nearest(ground))
    figure = np.median(pixels[away > 0.75 * away.max()], 0)
    across = figure - ground
    cover = (2 * (pixels - ground) @ across / max(across @ across, 1e-9) - 0.5).clip(0, 1)  # sharper: less of the noise
    return Caption(nearest(figure), shape_of(cover), nearest(ground))


def nearest(colour: NDArray[np.float64]) -> str:
    """The name of the colour."""
    return min(COLOURS, key=lambda name: float(((np.array(COLOURS[name]) - colour) ** 2).sum()))


def shape_of(cover: NDArray[np.float64]) -> str:
    """The shape of a figure by how much of each pixel it covers [height, width]."""
    y, x = np.mgrid[: cover.shape[0], : cover.shape[1]]
    z = x + 1j * y
    z = z - (cover * z).sum() / cover.sum()
    reach = math.sqrt(float((cover * abs(z) ** 2).sum() / cover.sum()))
    if cover[abs(z) < EMPTY * reach].mean() < 0.5:
        return "ring"
    strength = {
        shape: abs((cover * z**order).sum()) / (cover * abs(z) ** order).sum()
        for shape, order in (("triangle", 3), ("square", 4), ("star", 5))
    }
    best = max(strength, key=lambda shape: strength[shape])
    return best if strength[best] > ROUND else "circle"
