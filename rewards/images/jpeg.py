"""The size of an image as a JPEG file: (in)compressibility (Black et al. 2023, arXiv:2305.13301, Sec. 5.1)."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from molrl.data.images.image import CaptionedImage
from molrl.data.images.metrics import jpeg_bytes
from molrl.rewards.scores import PerSample, Scored

BYTES_PER_KB = 1000


@dataclass(frozen=True, kw_only=True)
class JPEGSize(PerSample[CaptionedImage]):
    """The size of an image in kB as a JPEG file, times `sign`; -1000 for a bad sample.

    Attributes:
        sign: -1.0 for compressibility, 1.0 for incompressibility.
        quality: of the JPEG, 1 to 95.
        above_flat: subtract the size of a grey image of the same shape, which is that of the headers, most of a small
            file.
    """

    sign: float
    quality: int
    above_flat: bool
    kind: ClassVar[str] = "images"
    floor: ClassVar[float] = -1000.0

    def __post_init__(self) -> None:
        if abs(self.sign) != 1:
            raise ValueError(f"sign: got {self.sign}, allowed -1.0 (small files are good) and 1.0 (large ones are)")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality: got {self.quality}, allowed 1 to 95")

    def score_one(self, sample: CaptionedImage, /) -> Scored:
        if sample.flaw:
            return Scored(self.floor, sample.flaw)
        size = jpeg_bytes(sample, self.quality)
        if self.above_flat:
            size -= flat_bytes(sample.pixels.shape[0], sample.pixels.shape[1], self.quality)
        return Scored(self.sign * size / BYTES_PER_KB)


@cache
def flat_bytes(height: int, width: int, quality: int) -> int:
    """Return the size in bytes of a uniform grey image as a JPEG file."""
    return jpeg_bytes(CaptionedImage(np.full((height, width, 3), 128, np.uint8)), quality)
