"""Size as a JPEG file: compressibility and incompressibility (Black et al. 2023, arXiv:2305.13301, Sec. 5.1)."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from molrl.data.images.image import CaptionedImage
from molrl.data.images.metrics import jpeg_bytes
from molrl.rewards.scores import PerSample, Scored

KILO = 1000  # bytes of a kB


@dataclass(frozen=True, kw_only=True)
class JPEGSize(PerSample[CaptionedImage]):
    """sign times the size in kB; -1000 for what is no image.

    Attributes:
        sign: -1.0 for compressibility, 1.0 for incompressibility.
        quality: of the JPEG, 1 to 95.
        above_flat: subtract the size of a grey image of the same shape: headers, nearly all of a small file.
    """

    sign: float
    quality: int
    above_flat: bool
    floor: ClassVar[float] = -1000.0

    def __post_init__(self) -> None:
        if abs(self.sign) != 1:
            raise ValueError(f"sign: got {self.sign}, allowed -1.0 (small files are good) and 1.0 (large ones are)")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality: got {self.quality}, allowed 1 to 95")

    def score_one(self, sample: CaptionedImage, /) -> Scored:
        if sample.flaw:
            return Scored(self.floor, sample.flaw)
        bytes_ = jpeg_bytes(sample, self.quality)
        if self.above_flat:
            bytes_ -= flat_bytes(sample.pixels.shape[0], sample.pixels.shape[1], self.quality)
        return Scored(self.sign * bytes_ / KILO)


@cache
def flat_bytes(height: int, width: int, quality: int) -> int:
    """Of an image of one grey."""
    return jpeg_bytes(CaptionedImage(np.full((height, width, 3), 128, np.uint8)), quality)
