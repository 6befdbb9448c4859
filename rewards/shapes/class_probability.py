"""Class probability of a shape by a point classifier, the task of RGDM (Zhang and Xu 2023, arXiv:2304.07132)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from molrl.data.shapes.cloud import PointCloud, TracedPointCloud
from molrl.data.shapes.neighbours import import_scipy
from molrl.rewards.scores import PerSample, Scored, Scores, Values, scores
from molrl.rewards.shapes.body import UnsoundError, trace_body
from molrl.rewards.wanted_class import WantedClass

if TYPE_CHECKING:
    from torch import Tensor

    from molrl.models.shapes.classifier import PointClassifier

BATCH_SIZE = 64  # clouds at a time


@dataclass(frozen=True, kw_only=True)
class ClassProbability(WantedClass, PerSample[PointCloud]):
    """The logarithm of p(class | shape), at most 0.

    The classifier was trained on noisy shapes too and has a class for what is no shape, but a policy that is trained
    long enough finds its blind spots: check with a second one (`weights=shape_judge`).
    """

    kind: ClassVar[str] = "shapes"
    differentiable: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleMethodOverride]

    def __post_init__(self) -> None:
        import_scipy("spatial")  # a missing package is an error now
        super().__post_init__()

    @cached_property
    def classifier(self) -> "PointClassifier":
        """Return the network, loaded once."""
        from molrl.models.shapes.classifier import load_classifier

        return load_classifier(self.weights)

    @property
    def classes(self) -> Sequence[str]:
        return self.classifier.design.classes

    def score_one(self, sample: PointCloud, /) -> Scored:
        return self.score([sample]).scored[0]

    def score(self, samples: Sequence[PointCloud]) -> Scores:
        """Return values and reasons in the order of the samples."""
        import torch

        values, reasons = self.traced([TracedPointCloud(torch.from_numpy(one.points), one.label) for one in samples])
        return scores(Scored(float(value), reason) for value, reason in zip(values, reasons, strict=True))

    def __call__(self, samples: Sequence[Any]) -> Values:
        """Return one float32 for each sample, with a gradient if the samples have one."""
        if not samples or isinstance(samples[0], PointCloud):
            return self.score(samples).tensor()
        return self.traced(samples)[0]

    def traced(self, samples: Sequence[TracedPointCloud]) -> "tuple[Tensor, list[str]]":
        """Return the values [b] with their gradient, and the reasons of floors and missing values."""
        import torch

        from molrl.models.shapes.classifier import stack_point_clouds

        bodies: list[Tensor] = []
        classes, sound = list[int](), list[int]()
        values = [sample.points.sum() * 0 + self.floor for sample in samples]
        reasons = [""] * len(samples)
        for row, sample in enumerate(samples):
            try:
                bodies.append(trace_body(sample.points)[0])
                classes.append(self.class_index(self.wanted_class(sample.label)))
                sound.append(row)
            except UnsoundError as flaw:
                reasons[row] = str(flaw)
            except ValueError as error:
                values[row], reasons[row] = sample.points.sum() * math.nan, f"error: {error}"
                del bodies[len(classes) :]
        for start in range(0, len(sound), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            network = self.classifier.to(bodies[start].device)
            log_probabilities = network(stack_point_clouds(bodies[part]).float()).clamp(min=self.floor)
            for row, index, log_probability in zip(sound[part], classes[part], log_probabilities, strict=True):
                values[row] = log_probability[index]
        return torch.stack([value.float() for value in values]) if values else torch.zeros(0), reasons
