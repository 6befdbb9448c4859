"""Classes, decoding, metrics and files of point cloud samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.sets import ShapeSet
from molrl.exhibit import Counts, Exhibit
from molrl.gaussian import Context
from molrl.machine.files import staged
from molrl.models.shapes.checks import checks
from molrl.models.shapes.exhibits import count_makeup, exhibit_shape
from molrl.models.shapes.glossary import MAX_RUN_SAMPLES
from molrl.models.shapes.model import ShapeModel, save_shapes
from molrl.models.shapes.outcomes import DESCRIPTORS, describe_shape
from molrl.models.shapes.quality import quality
from molrl.models.shapes.sample_files import WRITERS, write_each
from molrl.noise import Key

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_ROUND_SAMPLES = 48  # samples that the metrics of a round are computed of


@dataclass(frozen=True, kw_only=True)
class ShapeDecoder:
    """A decoder of states to point clouds, each of a class that is drawn before the noise.

    Attributes:
        model: brings the coding of states, the classes, and held-out shapes for the metrics.
        points: number of points per sample; None: as many as the model was trained with.
        classes: one or several classes to draw from, all equally likely; None: all that the model knows.
        meshes: write closed meshes instead of points, to formats that hold both.
    """

    model: ShapeModel
    points: int | None = None
    classes: str | Sequence[str] | None = None
    meshes: bool = False
    suffixes: ClassVar[tuple[str, ...]] = (".npz", *WRITERS)
    descriptors: ClassVar[tuple[str, ...]] = DESCRIPTORS

    def __post_init__(self) -> None:
        model_classes = self.model.architecture.classes
        if not self.class_names or any(name not in model_classes for name in self.class_names):
            raise ValueError(f"class: got {self.classes!r}, this model knows {', '.join(model_classes)}")
        if self.points is not None and self.points < 2:
            raise ValueError(f"points: got {self.points}, need at least 2")

    @property
    def class_names(self) -> Sequence[str]:
        """Return the classes that are drawn."""
        if self.classes is None:
            return self.model.architecture.classes
        return [self.classes] if isinstance(self.classes, str) else self.classes

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """Draw a class for each sample and return its index, as `context["class"]` [b]."""
        model_classes = list(self.model.architecture.classes)
        numbers = [model_classes.index(name) for name in self.class_names]
        return {"class": torch.tensor([numbers[key.generator(i, 0).integers(len(numbers))] for i in samples])}

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """Return the shape [points, 3] of a state."""
        return (self.points or self.model.architecture.points, 3)

    def decode(self, x0: Float[Tensor, "b n 3"], context: Context) -> Sequence[Any]:
        """Decode states to shapes in the unit box, labelled with their class.

        States that require a gradient become a `TracedPointCloud`, for differentiable rewards.
        """
        decode = self.model.architecture.trace if x0.requires_grad else self.model.architecture.decode
        return decode(x0, context["class"])

    def groups(self, context: Context) -> list[int]:
        """Return the index of each sample's class as its group."""
        return context["class"].tolist()

    def describe(self, samples: Sequence[Any]) -> list[Mapping[str, str]]:
        """Return the descriptors of each shape for `molrl.diversity`; see `describe_shape`."""
        return [describe_shape(sample) for sample in samples]

    def measure(self, samples: Sequence[PointCloud]) -> Mapping[str, float]:
        """Compute the metrics of a round, of its first `MAX_ROUND_SAMPLES` samples."""
        return self.compute_metrics(samples, MAX_ROUND_SAMPLES)

    def assess(self, samples: Sequence[PointCloud]) -> Mapping[str, float]:
        """Compute the metrics before and after a run, of the first `MAX_RUN_SAMPLES` samples."""
        return self.compute_metrics(samples, MAX_RUN_SAMPLES)

    def describe_changes(self, before: Mapping[str, float], after: Mapping[str, float], n: int) -> list[str]:
        """Return no sentence: the metrics say all there is."""
        return []

    def compute_metrics(self, samples: Sequence[PointCloud], max_samples: int) -> dict[str, float]:
        """Compute the metrics of the first `max_samples` samples, and the validity of all.

        They are the fraction that are shapes at all, distances to the held-out shapes of the model and between samples,
        and the fractions that are stable, symmetric and recognised by a second classifier.
        """
        validity = sum(len(sample) > 1 for sample in samples) / max(1, len(samples))
        first = samples[:max_samples]
        return {"validity": validity, **quality(first, self.model.reference), **checks(first)}

    def exhibit(self, samples: Sequence[PointCloud]) -> list[Exhibit]:
        """Return the shapes as points to turn in space, for a report."""
        return [exhibit_shape(sample) for sample in samples]

    def count_makeup(self, samples: Sequence[PointCloud]) -> Mapping[str, Counts]:
        """Return how often classes and proportions occur, for a report."""
        return count_makeup(samples)

    def write(self, samples: Sequence[PointCloud], path: Path, values: Mapping[str, Sequence[float]]) -> int:
        """Write the shapes to a file and return their number; a sample that is no shape is left out.

        An .npz holds points [k, n, 3], label [k] and the values; other files hold one sample each (`write_each`).
        """
        if path.suffix in WRITERS:
            return write_each(samples, path, meshes=self.meshes)
        rows = [row for row, sample in enumerate(samples) if len(sample) > 1]
        arrays: dict[str, Any] = {name: np.asarray(column)[rows] for name, column in values.items()}
        arrays["points"] = np.stack([samples[row].points for row in rows]) if rows else np.zeros((0, 0, 3), np.float32)
        arrays["label"] = np.array([samples[row].label for row in rows], dtype=np.str_)
        with staged(path) as archive:
            np.savez_compressed(archive, allow_pickle=False, **arrays)
        return len(rows)

    def draw(self, samples: Sequence[PointCloud], captions: Sequence[str]) -> "Image":
        """Draw a grid of point clouds with their classes and captions."""
        from molrl.data.shapes.drawing import draw_point_clouds

        lines = [f"{sample.label} {caption}".strip() for sample, caption in zip(samples, captions, strict=True)]
        return draw_point_clouds(samples, lines)

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """Write a model folder with the same held-out shapes."""
        save_shapes(folder, self.model.architecture, denoiser.state_dict(), self.model.reference)


@dataclass(frozen=True)
class RealShapes:
    """A source of states and contexts from a set of shapes, with the classes and number of points of a decoder."""

    data: Callable[..., ShapeSet]
    decoder: ShapeDecoder

    @cached_property
    def states(self) -> tuple[Tensor, Tensor]:
        """Return the states [m, n, 3] and the classes [m] of the training shapes.

        Raises:
            ValueError: if no training shape has one of the requested classes.
        """
        (points, _), classes = self.decoder.state_shape({}), self.decoder.class_names
        shapes = [shape for shape in self.data(points=points).train if shape.label in classes]
        if not shapes:
            raise ValueError(f"task.data: no shape of the classes {', '.join(classes)}")
        return self.decoder.model.architecture.encode(shapes)

    def __call__(self, samples: Sequence[int], key: Key) -> tuple[Tensor, Context]:
        """Draw states [b, n, 3] with their classes; sample i depends on the key and on i alone."""
        x0, classes = self.states
        rows = torch.tensor([int(key.generator(sample, 0).integers(len(x0))) for sample in samples])
        return x0[rows], {"class": classes[rows]}
