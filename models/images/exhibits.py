"""Images as a report shows them: small copies with their prompts, and what the samples are made of."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from molrl.data.images.image import CaptionedImage
from molrl.exhibit import Counts, Exhibit, count, encode_image

STEPS = 10  # of brightness, in the distributions


def exhibit_image(image: CaptionedImage) -> Exhibit:
    """Return an image with its prompt and brightness; without pixels where it has a flaw."""
    title = image.prompt or "image"
    if image.flaw:
        return Exhibit(f"{title}: {image.flaw}", {"valid": "no"})
    facts: dict[str, str | float] = {"valid": "yes", "brightness": round(brightness(image), 3)}
    return Exhibit(title, facts, image=encode_image(Image.fromarray(image.pixels)))


def count_makeup(images: Sequence[CaptionedImage]) -> Mapping[str, Counts]:
    """Return how often prompts, and brightness in tenths, occur among the images without a flaw."""
    good = [image for image in images if not image.flaw]
    steps = sorted(round(brightness(image) * STEPS) / STEPS for image in good)
    return {
        "prompts": count([image.prompt or "none" for image in good], "images"),
        "brightness": count([f"{step:.1f}" for step in steps], "images"),
    }


def brightness(image: CaptionedImage) -> float:
    """Return the mean of all channels of all pixels, in [0, 1]."""
    return float(np.mean(image.pixels)) / 255
