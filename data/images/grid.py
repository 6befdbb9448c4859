"""Grids of pictures with captions."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from molrl.data.images.image import Picture

CELL, GAP = 224, 12  # pixels of an edge of a cell, and between cells
FONT, LINE, LETTERS = 13, 17, 34  # pixels of a letter and of a line, and letters in a line
INK = "#24292f"


def draw_pictures(pictures: Sequence[Picture], captions: Sequence[str], *, columns: int = 4) -> Image.Image:
    """A grid of pictures, all enlarged or shrunk to one size, with captions of one or several lines below.

    Raises ValueError for other numbers of captions than of pictures, and none at all.
    """
    if len(captions) != len(pictures) or not pictures:
        raise ValueError(
            f"captions: got {len(captions)} for {len(pictures)} pictures, need one for each and at least one"
        )
    lines = ["\n".join(textwrap.fill(line, LETTERS) for line in caption.split("\n")) for caption in captions]
    below = LINE * max(text.count("\n") + 1 for text in lines)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    step = (CELL + GAP, CELL + below + GAP)
    page = Image.new("RGB", (GAP + columns * step[0], GAP + rows * step[1]), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(FONT)
    for number, (picture, text) in enumerate(zip(pictures, lines, strict=True)):
        left, top = GAP + number % columns * step[0], GAP + number // columns * step[1]
        page.paste(enlarged(picture), (left, top))
        pen.multiline_text((left, top + CELL + 2), text, fill=INK, font=font, spacing=LINE - FONT)
    return page


def enlarged(picture: Picture) -> Image.Image:
    """At the size of a cell; small pictures keep their pixels."""
    small = max(picture.pixels.shape[:2]) < CELL
    how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return Image.fromarray(picture.pixels).resize((CELL, CELL), how)
