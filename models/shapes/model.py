"""Shape models in a folder: weights, plain numbers in model.json, and held-out shapes to compare samples with."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.data.shapes.cloud import MAX_POINTS, PointCloud, TracedPointCloud, place_in_unit_box
from molrl.models.description import with_header
from molrl.models.loading import WEIGHTS, load_network
from molrl.models.networks import build_network
from molrl.models.precondition import Preconditioned
from molrl.models.shapes.latent_transformer import LatentTransformer
from molrl.models.shapes.set_transformer import SetTransformer
from molrl.models.shipped import locate
from molrl.runs import checkpoint
from molrl.runs.errors import CheckpointError
from molrl.runs.headers import Header
from molrl.schedule import LogLinear

DOMAIN = "shapes"
REFERENCE = "reference"  # file of the held-out shapes
MAX_HELD_OUT_POINTS = 2**24
NETWORKS: Mapping[str, Any] = {"set_transformer": SetTransformer, "latent_transformer": LatentTransformer}
NO_SHAPE = np.zeros((1, 3), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class ShapeArchitecture:
    """The fields of a shape model's model.json: enough to build the network, and to read and draw shapes.

    Attributes:
        network: "kind", one of NETWORKS or of an entry point, and the sizes it takes.
        classes: names of the classes, in the order of the network's.
        points: number of points of a training sample.
        mean, std: statistics of all points of the training set, in the unit box: a state is (point - mean) / std, with
            one std for the three axes (`global_unit`). Shapes are not centred one by one, so a state of n points has
            3 n degrees of freedom.
        data_std: root mean square of each coordinate of a state.
        noise_min, noise_max: ends of the log-linear schedule, in units of a state.
    """

    network: Mapping[str, Any]
    classes: Sequence[str]
    points: int
    mean: Sequence[float]
    std: float
    data_std: Sequence[float]
    noise_min: float
    noise_max: float

    def __post_init__(self) -> None:
        numbers = [*self.mean, self.std]
        if (
            not (self.classes and all(isinstance(name, str) for name in self.classes))
            or not (type(self.points) is int and 0 < self.points <= MAX_POINTS)
            or not (len(self.mean) == 3 and np.isfinite(np.asarray(numbers, np.float32)).all() and self.std > 0)
        ):
            raise ValueError(f"classes {self.classes}, points {self.points}, std {self.std}, mean {self.mean}")

    def plain(self) -> dict[str, Any]:
        """Return the description for model.json."""
        return with_header(DOMAIN, asdict(self))

    def build(self) -> "ShapeModel":
        """Return a model with freshly initialised weights."""
        schedule = LogLinear(self.noise_min, self.noise_max)
        network = build_network(self.network, NETWORKS, classes=len(self.classes))
        return ShapeModel(Preconditioned(network, schedule, self.data_std), schedule, self)

    def encode(self, clouds: Sequence[PointCloud]) -> tuple[Float[Tensor, "b n 3"], Int[Tensor, " b"]]:
        """Return states and classes of shapes in the unit box, all with the same number of points."""
        points = torch.from_numpy(np.stack([cloud.points for cloud in clouds]))
        numbers = {name: number for number, name in enumerate(self.classes)}
        if unknown := sorted({cloud.label for cloud in clouds} - numbers.keys()):
            raise ValueError(f"classes {unknown}: this model knows {', '.join(self.classes)}")
        return (points - torch.tensor(self.mean)) / self.std, torch.tensor([numbers[cloud.label] for cloud in clouds])

    def decode(self, x: Float[Tensor, "b n 3"], classes: Int[Tensor, " b"]) -> list[PointCloud]:
        """Return shapes in the unit box, with their points in the order of the state.

        A state that is not finite becomes a single point, which no reward takes for a shape.
        """
        arrays = self.to_points(x.detach().cpu()).numpy().astype(np.float32)
        return [
            PointCloud(place_or_collapse(points), label)
            for points, label in zip(arrays, self.labels(classes), strict=True)
        ]

    def trace(self, x: Float[Tensor, "b n 3"], classes: Int[Tensor, " b"]) -> list[TracedPointCloud]:
        """Return the same shapes with the gradient of their states, not moved into the unit box."""
        return [TracedPointCloud(*pair) for pair in zip(self.to_points(x), self.labels(classes), strict=True)]

    def to_points(self, x: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """Return the positions of the points of states."""
        return x * self.std + x.new_tensor(self.mean)

    def labels(self, classes: Int[Tensor, " b"]) -> list[str]:
        """Return the names of classes given by number."""
        return [self.classes[int(number)] for number in classes.tolist()]


def place_or_collapse(
    points: "np.ndarray[tuple[int, int], np.dtype[np.float32]]",
) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Return the points in the unit box, or a single point where they are not finite or all coincide."""
    if not np.isfinite(points).all() or not np.ptp(points, 0).any():
        return NO_SHAPE
    return place_in_unit_box(points)


@dataclass(frozen=True)
class ShapeModel:
    """A denoiser with everything that is needed to draw shapes from it.

    Attributes:
        reference: held-out shapes of the same distribution as the training set, for the metrics.
    """

    denoiser: nn.Module
    schedule: LogLinear
    architecture: ShapeArchitecture
    reference: tuple[PointCloud, ...] = ()


def load_shapes(weights: str) -> ShapeModel:
    """Read a shape model in evaluation mode, by its name or folder.

    Raises:
        CheckpointError: missing, altered, of another format or domain, or not fitting its own description.
    """
    folder = locate(weights)
    model, headers = load_network(
        folder, DOMAIN, lambda fields: ShapeArchitecture(**fields).build(), lambda built: built.denoiser
    )
    try:
        return replace(model, reference=read_held_out(folder, headers[REFERENCE], model.architecture.classes))
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{folder}: its held-out shapes are damaged ({error})") from error


def read_held_out(folder: Path, header: Header, classes: Sequence[str]) -> tuple[PointCloud, ...]:
    """Return the held-out shapes of a model, m clouds of k points each; raises ValueError where they are none."""
    points, numbers = header["points"], header["class"]
    count, *sides = points.shape
    if len(sides) != 2 or sides[1] != 3 or count * sides[0] > MAX_HELD_OUT_POINTS or numbers.shape != (count,):
        raise ValueError(f"points {points.shape} and classes {numbers.shape}, expected [m, k, 3] and [m]")
    tensors = checkpoint.load_group(folder, REFERENCE)
    values, labels = tensors["points"].numpy().astype(np.float32), tensors["class"].tolist()
    if not np.isfinite(values).all() or not all(type(n) is int and 0 <= n < len(classes) for n in labels):
        raise ValueError("points that are not finite, or classes that the model does not have")
    return tuple(PointCloud(cloud, classes[int(number)]) for cloud, number in zip(values, labels, strict=True))


def save_shapes(
    folder: Path, architecture: ShapeArchitecture, state: Mapping[str, Tensor], reference: Sequence[PointCloud]
) -> None:
    """Write a model's folder for `load_shapes`; the reference is stored in half precision."""
    numbers = [architecture.classes.index(cloud.label) for cloud in reference]
    points = torch.from_numpy(np.stack([cloud.points for cloud in reference])).half()
    held_out = {"points": points, "class": torch.tensor(numbers)}
    checkpoint.save(folder, {WEIGHTS: state, REFERENCE: held_out}, {"model": architecture.plain()})
