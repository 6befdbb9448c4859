"""Scenes with captions: up to four coloured shapes on white, for the four abilities that DPOK trains (Fan et al. 2023,
arXiv:2305.16381, Sec. 5.1): colour, composition, count and position.

`molrl.data.images.scene_reader` reads a scene back without a model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from molrl.data.images.drawings import (
    COLOURS,
    HOLE_RADIUS,
    MAX_TILT,
    OVERSAMPLING,
    SHAPES,
    bounding_box,
    outline,
    with_article,
)
from molrl.data.images.image import CaptionedImage

WHITE = (255, 255, 255)
PAINTS = {name: rgb for name, rgb in COLOURS.items() if name != "white"}
COUNTS = {2: "two", 3: "three", 4: "four"}
RELATIONS: Mapping[str, tuple[int, int]] = {  # from the first figure to the second, y down
    "left of": (1, 0),
    "right of": (-1, 0),
    "above": (0, 1),
    "below": (0, -1),
}
KINDS = ("colour", "composition", "count", "position")
SCENE_WORDS = ("a", "an", "and", *COUNTS.values(), *SHAPES, *(f"{shape}s" for shape in SHAPES), *PAINTS)
RELATION_WORDS = tuple(dict.fromkeys(" ".join(RELATIONS).split()))
SINGLE_RADIUS = (0.20, 0.36)  # of a figure that is alone, in edges of the image
SHARED_RADIUS = (0.13, 0.18)  # of one of several
MARGIN, GAP = 0.03, 0.05  # between a figure and the border, and between two figures, in edges of the image
PROMPTS_PER_KIND = 90  # in lists of all kinds, so that one kind, the largest, is not nearly all
MAX_SLOPE = 0.5  # of the line between two figures whose position is told


class Thing(NamedTuple):
    """A coloured shape, such as "a red circle"."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return with_article(f"{self.colour} {self.shape}")


class SceneCaption(NamedTuple):
    """The content of a scene; as text, its caption.

    Attributes:
        things: one for each figure.
        relation: position of the first of two things to the second, one of RELATIONS; "" if it is not told.
    """

    things: tuple[Thing, ...]
    relation: str = ""

    @property
    def kind(self) -> str:
        """Return the ability that the caption asks for, one of KINDS."""
        if len(self.things) == 1:
            return "colour"
        if len(set(self.things)) == 1:
            return "count"
        return "position" if self.relation else "composition"

    def __str__(self) -> str:
        first = self.things[0]
        match self.kind:
            case "colour":
                return str(first)
            case "count":
                return f"{COUNTS[len(self.things)]} {first.colour} {first.shape}s"
        return f"{first} {self.relation or 'and'} {self.things[1]}"


class Figure(NamedTuple):
    """A shape in its place.

    Attributes:
        shape: one of SHAPES.
        x, y, radius: in edges of the image, y down.
        turn: clockwise, in radians.
    """

    shape: str
    x: float
    y: float
    radius: float
    turn: float


def all_things() -> list[Thing]:
    """Return every shape in every colour."""
    return [Thing(colour, shape) for shape, colour in product(SHAPES, PAINTS)]


def is_held_out_thing(thing: Thing) -> bool:
    """Tell whether a thing is held out to test composition: each shape in one colour, another one for each shape."""
    return list(PAINTS).index(thing.colour) == (2 * SHAPES.index(thing.shape) + 1) % len(PAINTS)


def is_held_out_scene(caption: SceneCaption) -> bool:
    """Tell whether a caption is held out: any of its things is, so that no training image shows such a thing."""
    return any(map(is_held_out_thing, caption.things))


@cache
def scenes_by_text() -> Mapping[str, SceneCaption]:
    """Return all captions of scenes by their text."""
    alone = [SceneCaption((thing,)) for thing in all_things()]
    counted = [SceneCaption((thing,) * count) for thing in all_things() for count in COUNTS]
    pairs = [SceneCaption(pair, relation) for pair in permutations(all_things(), 2) for relation in ("", *RELATIONS)]
    return {str(caption): caption for caption in (*alone, *counted, *pairs)}


@cache
def scene_captions(kind: str, *, held_out: bool) -> tuple[SceneCaption, ...]:
    """Return the captions of a kind that are held out, or those to train with."""
    captions = scenes_by_text().values()
    return tuple(c for c in captions if c.kind == kind and is_held_out_scene(c) == held_out)


def scene_prompts(*, held_out: bool) -> list[str]:
    """Return the texts of at most PROMPTS_PER_KIND captions of each kind, evenly spread over all of the kind."""
    prompts: list[str] = []
    for kind in KINDS:
        captions = scene_captions(kind, held_out=held_out)
        count = min(PROMPTS_PER_KIND, len(captions))
        prompts += [str(captions[k * len(captions) // count]) for k in range(count)]
    return prompts


def draw_scene(caption: SceneCaption, rng: np.random.Generator, edge: int = 64) -> CaptionedImage:
    """Draw the figures of a caption at random sizes, places and tilts, apart from each other, on white."""
    canvas = np.full((edge, edge, 3), WHITE, np.float64)
    for thing, (x, y, radius) in zip(caption.things, place_figures(caption, rng), strict=True):
        turn = math.radians(rng.uniform(-MAX_TILT, MAX_TILT))
        cover = coverage(Figure(thing.shape, x, y, radius, turn), edge)[..., None]
        canvas += cover * (np.array(PAINTS[thing.colour]) - canvas)
    return CaptionedImage(canvas.round().astype(np.uint8), str(caption))


def place_figures(caption: SceneCaption, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw x, y and radius of each figure [figures, 3] until none overlap and the relation holds clearly."""
    count = len(caption.things)
    lowest, highest = SINGLE_RADIUS if count == 1 else SHARED_RADIUS
    while True:
        radius = rng.uniform(lowest, highest, count)
        border = radius[:, None] + MARGIN
        places = border + (1 - 2 * border) * rng.random((count, 2))
        apart = [np.hypot(*(places[i] - places[j])) - radius[i] - radius[j] for i in range(count) for j in range(i)]
        if min(apart, default=GAP) >= GAP and (not caption.relation or holds(caption.relation, places, MAX_SLOPE)):
            return np.column_stack([places, radius])


def holds(relation: str, places: Sequence[Sequence[float]] | NDArray[np.float64], max_slope: float = 1.0) -> bool:
    """Tell whether the line from the first place to the second has the direction of a relation.

    Args:
        places: x and y, y down.
        max_slope: largest distance across that direction, in distances along it.
    """
    across, along = np.array(RELATIONS[relation])[::-1], np.array(RELATIONS[relation])
    line = np.asarray(places[1]) - np.asarray(places[0])
    return bool(abs(line @ across) < max_slope * (line @ along))


def coverage(figure: Figure, edge: int) -> NDArray[np.float64]:
    """Return the fraction of each pixel that a figure covers [edge, edge]."""
    size = edge * OVERSAMPLING
    page = Image.new("L", (size, size), 0)
    pen, (shape, x, y, radius, turn) = ImageDraw.Draw(page), figure
    if shape in ("circle", "ring"):
        pen.ellipse(bounding_box(x, y, radius, size), fill=255)
        if shape == "ring":
            pen.ellipse(bounding_box(x, y, radius * HOLE_RADIUS, size), fill=0)
    else:
        corners = [
            (size * (x + radius * far * math.sin(turn + angle)), size * (y - radius * far * math.cos(turn + angle)))
            for far, angle in outline(shape)
        ]
        pen.polygon(corners, fill=255)
    return np.asarray(page.resize((edge, edge), Image.Resampling.BOX), dtype=np.float64) / 255


@dataclass(frozen=True)
class Scenes:
    """An endless sequence of scenes; scene i depends only on the seed and on i. All kinds are equally frequent."""

    seed: int
    edge: int = 64
    held_out: bool = False

    def __getitem__(self, index: int) -> CaptionedImage:
        """Draw the image at an index, of a random caption."""
        rng = np.random.default_rng([self.seed, index, int(self.held_out)])
        captions = scene_captions(KINDS[int(rng.integers(len(KINDS)))], held_out=self.held_out)
        return draw_scene(captions[int(rng.integers(len(captions)))], rng, self.edge)
