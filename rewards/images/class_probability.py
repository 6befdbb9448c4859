"""Class probability of an image by a small classifier, the reward of RGDM (Zhang and Xu 2023, arXiv:2304.07132)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from molrl.data.images.image import CaptionedImage
from molrl.rewards.scores import PerSample, Scored
from molrl.rewards.wanted_class import WantedClass

if TYPE_CHECKING:
    from molrl.models.images.classifier import ImageClassifier


@dataclass(frozen=True, kw_only=True)
class ImageClass(WantedClass, PerSample[CaptionedImage]):
    """The logarithm of p(class | image), at most 0; by default of the class that the prompt names.

    The classifier was trained on noisy images too and has a class for what shows none of the others, but a policy that
    is trained long enough finds its blind spots: check with a second one (`weights=scene_judge`).
    """

    kind: ClassVar[str] = "images"

    @cached_property
    def classifier(self) -> "ImageClassifier":
        """Return the network, loaded once."""
        from molrl.models.images.classifier import load_image_classifier

        return load_image_classifier(self.weights)

    @property
    def classes(self) -> Sequence[str]:
        return self.classifier.design.classes

    def score_one(self, sample: CaptionedImage, /) -> Scored:
        if sample.flaw:
            return Scored(self.floor, sample.flaw)
        index = self.class_index(self.wanted_class(sample.prompt))
        log_probability = self.classifier(self.classifier.stack([sample]))[0, index]
        return Scored(max(float(log_probability), self.floor))
