"""Prompt alignment of drawings, exactly: the image is read again and compared with its caption."""

from dataclasses import dataclass
from typing import ClassVar

from molrl.data.images.drawings import captions_by_text, read_drawing
from molrl.data.images.image import CaptionedImage
from molrl.rewards.scores import Explained, PerSample, Scored


@dataclass(frozen=True, kw_only=True)
class DrawingAlignment(PerSample[CaptionedImage]):
    """Weighted share of what is right, in [0, 1]: the figure's colour, its shape, and the background; 0 for no image.

    Colours alone are satisfied by a blob of any form: with `shape` 0 the shape is a check that is not trained toward.
    """

    colour: float
    shape: float
    background: float
    parts: ClassVar[tuple[str, ...]] = ("colour", "shape", "background")

    def __post_init__(self) -> None:
        weights = [getattr(self, part) for part in self.parts]
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"colour, shape, background: got {weights}, need 0 or more and one of them above 0")

    def score_one(self, sample: CaptionedImage, /) -> Scored:
        if sample.flaw:
            return Scored(0.0, sample.flaw)
        if (asked := captions_by_text().get(sample.prompt)) is None:
            raise ValueError(f"prompt {sample.prompt!r} is no caption of a drawing")
        seen = read_drawing(sample)
        right = {part: float(getattr(seen, part) == getattr(asked, part)) for part in self.parts}
        total = sum(getattr(self, part) for part in self.parts)
        return Explained(sum(getattr(self, part) * right[part] for part in self.parts) / total, "", right)
