"""Images as finished samples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class CaptionedImage:
    """An RGB image and what was asked for.

    Attributes:
        pixels: uint8 [height, width, 3].
        prompt: "" where there is none.
        flaw: "" for a good image; otherwise why it is none, and rewards give it their floor.
    """

    pixels: NDArray[np.uint8]
    prompt: str = ""
    flaw: str = ""

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels: got {self.pixels.dtype} {shape}, need uint8 (height, width, 3)")

    @property
    def unit(self) -> NDArray[np.float32]:
        """Pixels in [0, 1]."""
        return self.pixels.astype(np.float32) / np.float32(255)


def quantised(unit: NDArray[np.float32], prompt: str) -> CaptionedImage:
    """An image of values in [0, 1], rounded to 8 bits; one that is not finite is black and says so."""
    if not np.isfinite(unit).all():
        return CaptionedImage(np.zeros(unit.shape, np.uint8), prompt, "not finite")
    return CaptionedImage((unit * 255).round().clip(0, 255).astype(np.uint8), prompt)
