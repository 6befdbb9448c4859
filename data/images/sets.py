"""Training sets of images with captions, and where they come from."""

from collections.abc import Sequence
from dataclasses import dataclass

from molrl.data.images.drawings import Drawings, captions
from molrl.data.images.image import CaptionedImage


@dataclass(frozen=True)
class ImageSet:
    """Images to learn from, each with its caption as the prompt, and the prompts that reports are about."""

    train: Sequence[CaptionedImage]
    texts: Sequence[str]


def drawing_set(*, n: int, seed: int, edge: int) -> ImageSet:
    """The first n drawings with captions that are trained with; reports are about all of these captions."""
    if n < 1:
        raise ValueError(f"n: got {n}, need at least 1")
    drawings = Drawings(seed=seed, edge=edge)
    return ImageSet([drawings[index] for index in range(n)], captions(held_out=False))
