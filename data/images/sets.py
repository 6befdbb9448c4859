"""Training sets of images with captions, and their sources."""

from collections.abc import Sequence
from dataclasses import dataclass

from molrl.data.images.drawings import Drawings, captions
from molrl.data.images.image import CaptionedImage


@dataclass(frozen=True)
class ImageSet:
    """A training set: images with their captions as prompts, and the prompts that reports use."""

    train: Sequence[CaptionedImage]
    texts: Sequence[str]


def drawing_set(*, n: int, seed: int, edge: int) -> ImageSet:
    """Return the first n drawings with training captions; reports use all of these captions.

    Args:
        n: the number of drawings.
        seed: of the drawings.
        edge: of an image, in pixels.
    """
    if n < 1:
        raise ValueError(f"n: got {n}, need at least 1")
    drawings = Drawings(seed=seed, edge=edge)
    return ImageSet([drawings[index] for index in range(n)], captions(held_out=False))
