"""How surely a shape is of a class, by a point classifier: the task of RGDM (Zhang and Xu 2023, arXiv:2304.07132)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from molrl.data.shapes.cloud import PointCloud, TracedPointCloud
from molrl.data.shapes.neighbours import import_scipy
from molrl.rewards.scores import PerSample, Scored, Scores, Values, scores
from molrl.rewards.shapes.body import UnsoundError, traceable

if TYPE_CHECKING:
    from torch import Tensor

    from molrl.models.shapes.classifier import PointClassifier

BATCH = 64  # clouds at a time


@dataclass(frozen=True, kw_only=True)
class ClassProbability(PerSample[PointCloud]):
    """log p(class | shape), at most 0.

    The classifier knows noise and has a class for what is no shape, but a policy that is trained long enough finds its
    blind spots: check with a second one (`weights=shape_judge`).

    Attributes:
        wanted: the class; None: the one that each sample is labelled with, as it was asked for; or the class for each
            label, such as {"chair": "armchair"}.
        weights: a classifier, shipped or a folder.
        floor: the value of a bad sample, and the least that any has.
    """

    wanted: str | Mapping[str, str] | None
    weights: str
    floor: float = -20.0
    kind: ClassVar[str] = "shapes"
    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not -math.inf < self.floor < 0:
            raise ValueError(f"floor: got {self.floor}, need a finite number below 0, the logarithm of a probability")
        import_scipy("spatial")  # a missing package is an error now
        for name in [self.wanted] if isinstance(self.wanted, str) else (self.wanted or {}).values():
            self.number(name)

    @cached_property
    def classifier(self) -> "PointClassifier":
        """The network, loaded once."""
        from molrl.models.shapes.classifier import load_classifier

        return load_classifier(self.weights)

    def named(self, label: str) -> str:
        """The class that is wanted of a sample with this label; ValueError where none is."""
        if isinstance(self.wanted, str):
            return self.wanted
        if self.wanted is None:
            return label
        if label not in self.wanted:
            raise ValueError(f"class: got {label!r}, wanted says nothing of it, but of {', '.join(self.wanted)}")
        return self.wanted[label]

    def number(self, label: str) -> int:
        """The output of a class; ValueError for one that the classifier does not know."""
        classes = list(self.classifier.design.classes)
        if label not in classes:
            raise ValueError(f"class: got {label!r}, {self.weights} knows {', '.join(classes)}")
        return classes.index(label)

    def score_one(self, sample: PointCloud, /) -> Scored:
        return self.score([sample]).scored[0]

    def score(self, samples: Sequence[PointCloud]) -> Scores:
        """Values and reasons, in the order of the samples."""
        import torch

        values, reasons = self.traced([TracedPointCloud(torch.from_numpy(one.points), one.label) for one in samples])
        return scores(Scored(float(value), reason) for value, reason in zip(values, reasons, strict=True))

    def __call__(self, samples: Sequence[Any]) -> Values:
        """One float32 for each sample, with a gradient if the samples have one."""
        if not samples or isinstance(samples[0], PointCloud):
            return self.score(samples).tensor()
        return self.traced(samples)[0]

    def traced(self, samples: Sequence[TracedPointCloud]) -> "tuple[Tensor, list[str]]":
        """The values, and the reasons of those that have the floor or none."""
        import torch

        from molrl.models.shapes.classifier import stack_clouds

        bodies: list[Tensor] = []
        numbers, sound = list[int](), list[int]()
        values = [sample.points.sum() * 0 + self.floor for sample in samples]
        reasons = [""] * len(samples)
        for row, sample in enumerate(samples):
            try:
                bodies.append(traceable(sample.points)[0])
                numbers.append(self.number(self.named(sample.label)))
                sound.append(row)
            except UnsoundError as flaw:
                reasons[row] = str(flaw)
            except ValueError as error:
                values[row], reasons[row] = sample.points.sum() * math.nan, f"error: {error}"
                del bodies[len(numbers) :]
        for start in range(0, len(sound), BATCH):
            part = slice(start, start + BATCH)
            network = self.classifier.to(bodies[start].device)
            found = network(stack_clouds(bodies[part]).float()).clamp(min=self.floor)
            for row, number, line in zip(sound[part], numbers[part], found, strict=True):
                values[row] = line[number]
        return torch.stack([value.float() for value in values]) if values else torch.zeros(0), reasons
