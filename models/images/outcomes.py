"""Descriptors of an image for the memory of variety: its prompt, and a coarse thumbnail, equal for images alike."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from molrl.data.images.image import CaptionedImage

DESCRIPTORS = ("bucket", "prompt")
EDGE = 4  # pixels of an edge of the thumbnail
LEVELS = 4  # that the mean of each channel is rounded to


def describe_image(image: CaptionedImage) -> Mapping[str, str]:
    """Return the descriptors of an image; none of one with a flaw.

    prompt: its own; bucket: prompt, where each channel of a thumbnail of 4 x 4 pixels is above its mean, and that mean
    in quarters: a coarser form of the hash that uniqueness is measured by (Krawetz 2011's average hash).

    Raises:
        ValueError: an image that carries a gradient, which has no prompt.
    """
    if not isinstance(image, CaptionedImage):
        raise ValueError("diversity: images that carry a gradient have no descriptors; use diversity=none")
    if image.flaw:
        return {}
    small = Image.fromarray(image.pixels).resize((EDGE, EDGE), Image.Resampling.BOX)
    thumb = np.asarray(small, dtype=np.float64) / 255
    mean = thumb.mean((0, 1))
    code = bytes(np.packbits(thumb > mean)).hex() + "".join(map(str, (mean * LEVELS).round().astype(int)))
    return {"bucket": f"{code} {image.prompt}", "prompt": image.prompt}
