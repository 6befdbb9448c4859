"""Reading of scenes without a model: each connected figure is compared with every shape drawn at its place and size.

A figure that fits no shape well, or has no one colour, is unknown, so that blurred, merged and noisy images are wrong.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from molrl.data.images.drawings import HOLE_RADIUS, INNER_RADIUS, SHAPES
from molrl.data.images.image import CaptionedImage
from molrl.data.images.scenes import PAINTS, WHITE, Figure, SceneCaption, Thing, coverage, holds

Number = TypeVar("Number", np.bool_, np.int64)
MIN_CONTRAST = 100.0  # distance of a figure's pixels from white, of 442 at most
MIN_PIXELS = 6  # of a figure; fewer are a speck, which is ignored
MAX_COLOUR_DISTANCE = 60.0  # of a colour from the one it is taken for
MIN_UNIFORMITY = 0.75  # fraction of a figure's inner pixels near its colour
MAX_MISFIT = 0.25  # area where figure and shape differ, in areas of the figure
MAX_FIGURES = 12  # more are noise, and are not looked at
TILTS = tuple(math.radians(angle) for angle in (-16, -8, 0, 8, 16))
AREA_BY_SHAPE = {  # of radius 1
    "circle": math.pi,
    "ring": math.pi * (1 - HOLE_RADIUS**2),
    "square": 2.0,
    "triangle": 0.75 * math.sqrt(3),
    "star": 5 * INNER_RADIUS * math.sin(math.pi / 5),
}


class Found(NamedTuple):
    """A figure as it was read: colour and shape, "" where unknown, and its middle in pixels, y down."""

    thing: Thing
    x: float
    y: float


class SceneMatch(NamedTuple):
    """The comparison of an image with its caption.

    Attributes:
        colour: figures with a colour of the caption, as a fraction of those there or asked for, whichever are more.
        shape: the same of shapes.
        right: all figures, their number and their position are those of the caption.
    """

    colour: float
    shape: float
    right: bool


def match_scene(image: CaptionedImage, caption: SceneCaption) -> SceneMatch:
    """Compare the figures of an image with those of a caption."""
    found = read_scene(image)
    return SceneMatch(
        overlap([figure.thing.colour for figure in found], [thing.colour for thing in caption.things]),
        overlap([figure.thing.shape for figure in found], [thing.shape for thing in caption.things]),
        is_right(found, caption),
    )


def overlap(found: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the number of common entries, each counted as often as in both, over the longer length."""
    return (Counter(found) & Counter(wanted)).total() / max(len(found), len(wanted))


def is_right(found: Sequence[Found], caption: SceneCaption) -> bool:
    """Tell whether figures are those of a caption, in the position that it tells."""
    if sorted(figure.thing for figure in found) != sorted(caption.things):
        return False
    if not caption.relation:
        return True
    place_by_thing = {figure.thing: (figure.x, figure.y) for figure in found}
    return holds(caption.relation, [place_by_thing[thing] for thing in caption.things])


def read_scene(image: CaptionedImage) -> list[Found]:
    """Read the figures of an image, on white; none where there are too many for a scene."""
    pixels = image.pixels.astype(np.float64)
    labels = connected_parts(np.sqrt(((pixels - WHITE) ** 2).sum(2)) > MIN_CONTRAST)
    names, sizes = np.unique(labels[labels > 0], return_counts=True)
    large = names[sizes >= MIN_PIXELS]
    return [] if len(large) > MAX_FIGURES else [read_figure(pixels, labels == name) for name in large]


def connected_parts(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return a number for each pixel of a mask, the same for all that are connected by edges or corners; 0 outside."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        spread = np.where(mask, grow(labels), 0)
        if (spread == labels).all():
            return labels
        labels = spread


def grow(array: NDArray[Number]) -> NDArray[Number]:
    """Return the maximum over each pixel and its eight neighbours."""
    padded = np.pad(array, 1)
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    return np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def read_figure(pixels: NDArray[np.float64], mask: NDArray[np.bool_]) -> Found:
    """Read the colour and the shape of the figure under a mask [height, width]."""
    near = grow(mask)
    inside = mask & ~grow(~mask)
    inner = pixels[inside if inside.any() else mask]
    colour = name_colour(inner)
    paint = np.array(PAINTS[colour]) if colour else np.median(inner, 0)
    across = paint - WHITE
    cover = np.where(near, ((pixels - WHITE) @ across / (across @ across)).clip(0, 1), 0)
    y, x = (float((axis * cover).sum() / cover.sum()) for axis in np.indices(mask.shape))
    return Found(Thing(colour, name_shape(cover, x, y)), x, y)


def name_colour(inner: NDArray[np.float64]) -> str:
    """Return the colour of most pixels [n, 3], "" if they are not of one colour."""
    middle = np.median(inner, 0)
    name = min(PAINTS, key=lambda name: float(((np.array(PAINTS[name]) - middle) ** 2).sum()))
    is_near = np.sqrt(((inner - PAINTS[name]) ** 2).sum(1)) < MAX_COLOUR_DISTANCE
    return name if is_near.mean() >= MIN_UNIFORMITY else ""


def name_shape(cover: NDArray[np.float64], x: float, y: float) -> str:
    """Return the shape that differs least from a figure of some middle [height, width], "" if all differ much."""
    area = float(cover.sum())
    edge = 2 * (int(math.sqrt(area)) + 6)  # of a window around the figure: a triangle or star is larger than its area
    left, top = round(x) - edge // 2, round(y) - edge // 2
    padded = np.pad(cover, edge)[top + edge : top + 2 * edge, left + edge : left + 2 * edge]
    outside = area - float(padded.sum())
    centre = ((x - left + 0.5) / edge, (y - top + 0.5) / edge)

    def misfit(shape: str) -> float:
        radius = math.sqrt(area / AREA_BY_SHAPE[shape]) / edge
        turns = TILTS if shape in ("square", "triangle", "star") else (0.0,)
        drawn = (coverage(Figure(shape, *centre, radius, turn), edge) for turn in turns)
        return min(float(np.abs(padded - figure).sum()) for figure in drawn) + outside

    misfits = {shape: misfit(shape) / area for shape in SHAPES}
    best = min(SHAPES, key=misfits.__getitem__)
    return best if misfits[best] <= MAX_MISFIT else ""
