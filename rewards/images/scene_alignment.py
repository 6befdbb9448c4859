"""Exact prompt alignment of scenes: the image is read and compared with its caption."""

from dataclasses import dataclass
from typing import ClassVar

from molrl.data.images.image import CaptionedImage
from molrl.data.images.scene_reader import match_scene
from molrl.data.images.scenes import scenes_by_text
from molrl.rewards.scores import Explained, PerSample, Scored


@dataclass(frozen=True, kw_only=True)
class SceneAlignment(PerSample[CaptionedImage]):
    """The weighted mean, in [0, 1], of the fractions of right colours and shapes, and of 1 if all is right.

    0 for a bad sample. A figure too few or too many lowers both fractions; what belongs to what, and the position,
    count in `right` alone.
    """

    colour: float
    shape: float
    right: float
    kind: ClassVar[str] = "images"
    parts: ClassVar[tuple[str, ...]] = ("colour", "shape", "right")

    def __post_init__(self) -> None:
        weights = [getattr(self, part) for part in self.parts]
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"colour, shape, right: got {weights}, need 0 or more and one of them above 0")

    def score_one(self, sample: CaptionedImage, /) -> Scored:
        if sample.flaw:
            return Scored(0.0, sample.flaw)
        if (caption := scenes_by_text().get(sample.prompt)) is None:
            raise ValueError(f"prompt {sample.prompt!r} is no caption of a scene; try alignment or vlm_judge")
        parts = {name: float(value) for name, value in match_scene(sample, caption)._asdict().items()}
        total = sum(getattr(self, part) for part in self.parts)
        return Explained(sum(getattr(self, part) * parts[part] for part in self.parts) / total, "", parts)
