"""Images as finished samples, with their prompts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class CaptionedImage:
    """An RGB image and its prompt.

    Attributes:
        pixels: uint8 [height, width, 3].
        prompt: "" if there is none.
        flaw: why the image is not usable, so that rewards give it their floor; "" for a good image.

    Raises ValueError for pixels of another shape or type.
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
        """Return the pixels as float32 in [0, 1]."""
        return self.pixels.astype(np.float32) / np.float32(255)


def quantise(unit: NDArray[np.float32], prompt: str) -> CaptionedImage:
    """Round values in [0, 1], [height, width, 3], to an image of 8 bits; values that are not finite give a flaw."""
    if not np.isfinite(unit).all():
        return CaptionedImage(np.zeros(unit.shape, np.uint8), prompt, "not finite")
    return CaptionedImage((unit * 255).round().clip(0, 255).astype(np.uint8), prompt)
