"""Shapes as a domain of the trainers: which class is asked for, how a state is decoded, what is measured."""

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
from molrl.data.shapes.glb import write_glb
from molrl.data.shapes.ply import write_ply
from molrl.data.shapes.sets import ShapeSet
from molrl.gaussian import Context
from molrl.models.shapes.checks import checks
from molrl.models.shapes.model import ShapeModel, save_shapes
from molrl.models.shapes.quality import quality
from molrl.noise import Key

if TYPE_CHECKING:
    from PIL.Image import Image

GLANCE, MOST = 48, 512  # samples that are looked at in a round, and before and after a run
WRITERS = {".ply": write_ply, ".glb": write_glb}


@dataclass(frozen=True, kw_only=True)
class ShapeDecoder:
    """Point clouds of a class that is drawn first and then kept.

    Attributes:
        model: how states are coded, which classes there are, and held-out shapes for the metrics.
        points: per sample; None: as many as the model was trained with.
        classes: those to draw, all equally likely: one or several; None: all that the model knows.
    """

    model: ShapeModel
    points: int | None = None
    classes: str | Sequence[str] | None = None
    suffixes: ClassVar[tuple[str, ...]] = (".npz", *WRITERS)

    def __post_init__(self) -> None:
        known = self.model.architecture.classes
        if not self.class_names or any(name not in known for name in self.class_names):
            raise ValueError(f"class: got {self.classes!r}, this model knows {', '.join(known)}")
        if self.points is not None and self.points < 2:
            raise ValueError(f"points: got {self.points}, need at least 2")

    @property
    def class_names(self) -> Sequence[str]:
        """Return the classes that are drawn."""
        if self.classes is None:
            return self.model.architecture.classes
        return [self.classes] if isinstance(self.classes, str) else self.classes

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """The number of each sample's class."""
        known = list(self.model.architecture.classes)
        numbers = [known.index(name) for name in self.class_names]
        return {"class": torch.tensor([numbers[key.generator(i, 0).integers(len(numbers))] for i in samples])}

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """[points, 3]."""
        return (self.points or self.model.architecture.points, 3)

    def decode(self, x0: Float[Tensor, "b n 3"], context: Context) -> Sequence[Any]:
        """Shapes in the unit box, labelled with their class; states that have a gradient become a `TracedPointCloud`,
        for differentiable rewards.
        """
        decode = self.model.architecture.trace if x0.requires_grad else self.model.architecture.decode
        return decode(x0, context["class"])

    def groups(self, context: Context) -> list[int]:
        """The class."""
        return context["class"].tolist()

    def measure(self, samples: Sequence[PointCloud]) -> Mapping[str, float]:
        """The figures of `assess`, of the first `GLANCE` samples."""
        return self.figures(samples, GLANCE)

    def assess(self, samples: Sequence[PointCloud]) -> Mapping[str, float]:
        """Distances to the model's held-out shapes and between the samples, how many stand, are symmetric and are
        recognised by a second classifier, and the share that are shapes at all.
        """
        return self.figures(samples, MOST)

    def figures(self, samples: Sequence[PointCloud], most: int) -> dict[str, float]:
        """What is measured, of at most so many samples."""
        shapes = sum(len(sample) > 1 for sample in samples) / max(1, len(samples))
        return {"validity": shapes, **quality(samples[:most], self.model.reference), **checks(samples[:most])}

    def write(self, samples: Sequence[PointCloud], path: Path, values: Mapping[str, Sequence[float]]) -> int:
        """Write an NPZ with points [k, n, 3], label [k] and the values; or one PLY or GLB file for each sample,
        numbered where there are several. Return the number of shapes; a sample that is no shape is left out.
        """
        rows = [row for row, sample in enumerate(samples) if len(sample) > 1]
        if path.suffix in WRITERS:
            for row in rows:
                file = path if len(samples) == 1 else path.with_stem(f"{path.stem}-{row}")
                WRITERS[path.suffix](file, samples[row].points)
            return len(rows)
        arrays: dict[str, Any] = {name: np.asarray(column)[rows] for name, column in values.items()}
        arrays["points"] = np.stack([samples[row].points for row in rows]) if rows else np.zeros((0, 0, 3), np.float32)
        arrays["label"] = np.array([samples[row].label for row in rows], dtype=np.str_)
        with path.open("wb") as file_of_all:
            np.savez_compressed(file_of_all, allow_pickle=False, **arrays)
        return len(rows)

    def draw(self, samples: Sequence[PointCloud], captions: Sequence[str]) -> "Image":
        """A grid of images of the clouds."""
        from molrl.data.shapes.drawing import draw_point_clouds

        lines = [f"{sample.label} {caption}".strip() for sample, caption in zip(samples, captions, strict=True)]
        return draw_point_clouds(samples, lines)

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """A model folder, with the same held-out shapes."""
        save_shapes(folder, self.model.architecture, denoiser.state_dict(), self.model.reference)


@dataclass(frozen=True)
class RealShapes:
    """Draws from a set of shapes, in the setting of a decoder: its classes and its number of points."""

    data: Callable[..., ShapeSet]
    decoder: ShapeDecoder

    @cached_property
    def states(self) -> tuple[Tensor, Tensor]:
        """States [m, n, 3] and classes [m] of the training shapes.

        Raises:
            ValueError: there are none of the class that is asked for.
        """
        (points, _), classes = self.decoder.state_shape({}), self.decoder.class_names
        kept = [cloud for cloud in self.data(points=points).train if cloud.label in classes]
        if not kept:
            raise ValueError(f"task.data: no shape of the classes {', '.join(classes)}")
        return self.decoder.model.architecture.encode(kept)

    def __call__(self, samples: Sequence[int], key: Key) -> tuple[Tensor, Context]:
        """States [b, n, 3] and their classes; sample i depends on the key and on i alone."""
        x0, classes = self.states
        rows = torch.tensor([int(key.generator(sample, 0).integers(len(x0))) for sample in samples])
        return x0[rows], {"class": classes[rows]}
