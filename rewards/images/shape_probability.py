"""Class probability of an image by a classifier of the shapes of scenes, after the task of RGDM (Zhang and Xu 2023)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from molrl.data.images.image import CaptionedImage
from molrl.rewards.scores import PerSample, Scored, Scores, scores

if TYPE_CHECKING:
    from molrl.models.images.classifier import ImageClassifier

BATCH_SIZE = 64  # images at a time


@dataclass(frozen=True, kw_only=True)
class ShapeProbability(PerSample[CaptionedImage]):
    """The logarithm of the probability that all figures of an image are of one shape, at most 0.

    A policy that is trained long enough finds the classifier's blind spots: check with a second one.

    Attributes:
        wanted: the shape, a class of the classifier.
        weights: a classifier, shipped or a folder.
        floor: the value of a bad sample, and the minimum of all.
    """

    wanted: str
    weights: str
    floor: float
    kind: ClassVar[str] = "images"

    def __post_init__(self) -> None:
        if not -math.inf < self.floor < 0:
            raise ValueError(f"floor: got {self.floor}, need a finite number below 0, the logarithm of a probability")
        if self.wanted not in (classes := self.classifier.design.classes):
            raise ValueError(f"wanted: got {self.wanted!r}, {self.weights} has {', '.join(classes)}")

    @cached_property
    def classifier(self) -> "ImageClassifier":
        """Return the network, loaded once."""
        from molrl.models.images.classifier import load_image_classifier

        return load_image_classifier(self.weights)

    def score_one(self, sample: CaptionedImage, /) -> Scored:
        return self.score([sample]).scored[0]

    def score(self, samples: Sequence[CaptionedImage]) -> Scores:
        """Return values and reasons in the order of the samples."""
        import torch

        from molrl.models.images.classifier import stack_images

        sound = [sample for sample in samples if not sample.flaw]
        row = list(self.classifier.design.classes).index(self.wanted)
        values: list[float] = []
        for start in range(0, len(sound), BATCH_SIZE):
            with torch.no_grad():
                log_probabilities = self.classifier(stack_images(sound[start : start + BATCH_SIZE]))
            values += log_probabilities[:, row].clamp(min=self.floor).tolist()
        remaining = iter(values)
        return scores(Scored(self.floor, s.flaw) if s.flaw else Scored(next(remaining)) for s in samples)
