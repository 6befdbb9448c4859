"""Nearest neighbours among training images: a model that copies draws images nearer to them than unseen images are.

(Carlini et al. 2023, arXiv:2301.13188, Sec. 4, take distances of pixels as well.)
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from molrl.data.images.image import CaptionedImage

CHUNK = 256  # images whose distances are computed at a time


def nearest_distances(
    images: Sequence[CaptionedImage], training: Sequence[CaptionedImage]
) -> Float[NDArray[np.float64], " b"]:
    """Return the root mean squared difference of each image's pixels, in [0, 1], from those of the nearest other one.

    Raises:
        ValueError: there are no training images, or not all images have one size.
    """
    sizes = {image.pixels.shape for image in (*images, *training)}
    if not training or len(sizes) > 1:
        raise ValueError(f"need training images, all images of one size: got {len(training)}, {sorted(sizes)}")
    references = [flatten(training[start : start + CHUNK]) for start in range(0, len(training), CHUNK)]
    rows = [flatten(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)]
    return np.concatenate(
        [np.min([pairwise_distances(row, part).min(1) for part in references], axis=0) for row in rows]
    )


def flatten(images: Sequence[CaptionedImage]) -> Float[NDArray[np.float64], "b n"]:
    """Return the pixels of images in [0, 1], one row for each."""
    return np.stack([image.pixels.ravel() / 255 for image in images])


def pairwise_distances(
    first: Float[NDArray[np.float64], "a n"], second: Float[NDArray[np.float64], "b n"]
) -> Float[NDArray[np.float64], "a b"]:
    """Return the root mean squared difference of each two rows."""
    square = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    distances: NDArray[np.float64] = np.sqrt(np.maximum(square, 0) / first.shape[1])
    return distances
