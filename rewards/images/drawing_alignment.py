"""Exact prompt alignment of drawings: the image is parsed and compared with its caption."""

from dataclasses import dataclass
from typing import ClassVar

from molrl.data.images.drawings import captions_by_text, read_drawing
from molrl.data.images.image import CaptionedImage
from molrl.rewards.scores import Explained, PerSample, Scored


@dataclass(frozen=True, kw_only=True)
class DrawingAlignment(PerSample[CaptionedImage]):
    """The weighted fraction of correct attributes, in [0, 1]: the figure's colour and shape, and the background.

    0 for a bad sample. Colours alone are satisfied by a figure of any shape: with `shape` 0 the shape is a check that
    is not trained toward.
    """

    colour: float
    shape: float
    background: float
    kind: ClassVar[str] = "images"
    parts: ClassVar[tuple[str, ...]] = ("colour", "shape", "background")

    def __post_init__(self) -> None:
        weights = [getattr(self, part) for part in self.parts]
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"colour, shape, background: got {weights}, need 0 or more and one of them above 0")

    def score_one(self, sample: CaptionedImage, /) -> Scored:
        if sample.flaw:
            return Scored(0.0, sample.flaw)
        if (wanted := captions_by_text().get(sample.prompt)) is None:
            raise ValueError(f"prompt {sample.prompt!r} is no caption of a drawing; try scene_alignment or vlm_judge")
        drawing = read_drawing(sample)
        correct = {part: float(getattr(drawing, part) == getattr(wanted, part)) for part in self.parts}
        total = sum(getattr(self, part) for part in self.parts)
        return Explained(sum(getattr(self, part) * correct[part] for part in self.parts) / total, "", correct)
