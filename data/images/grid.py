"""Grids of images with captions below them."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from molrl.data.images.image import CaptionedImage

CELL, GAP = 224, 12  # pixels of an edge of a cell, and between cells
FONT_SIZE, LINE_HEIGHT, LINE_LENGTH = 13, 17, 34  # pixels of a letter and of a line, and letters in a line
TEXT_COLOUR = "#24292f"


def draw_images(images: Sequence[CaptionedImage], captions: Sequence[str], *, columns: int = 4) -> Image.Image:
    """Draw a grid of images, all resized to one size, with captions of one or several lines below.

    Raises ValueError for another number of captions than of images, and for none at all.
    """
    if len(captions) != len(images) or not images:
        raise ValueError(f"captions: got {len(captions)} for {len(images)} images, need one for each and at least one")
    lines = ["\n".join(textwrap.fill(line, LINE_LENGTH) for line in caption.split("\n")) for caption in captions]
    below = LINE_HEIGHT * max(text.count("\n") + 1 for text in lines)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    step = (CELL + GAP, CELL + below + GAP)
    page = Image.new("RGB", (GAP + columns * step[0], GAP + rows * step[1]), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(FONT_SIZE)
    for number, (image, text) in enumerate(zip(images, lines, strict=True)):
        left, top = GAP + number % columns * step[0], GAP + number // columns * step[1]
        page.paste(resize_to_cell(image), (left, top))
        pen.multiline_text((left, top + CELL + 2), text, fill=TEXT_COLOUR, font=font, spacing=LINE_HEIGHT - FONT_SIZE)
    return page


def resize_to_cell(image: CaptionedImage) -> Image.Image:
    """Resize an image to a cell; the pixels of small images stay visible."""
    small = max(image.pixels.shape[:2]) < CELL
    resampling = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return Image.fromarray(image.pixels).resize((CELL, CELL), resampling)
