"""Pretraining of shape models: a training set of point clouds in one frame, and the network that learns it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from molrl.config import settings
from molrl.data.shapes.cloud import MAX_POINTS, PointCloud
from molrl.data.shapes.sets import ShapeSet
from molrl.gaussian import Euclidean
from molrl.models.networks import network_class
from molrl.models.pretraining import SamplingSettings, count_parameters, require_grid_power
from molrl.models.shapes.decoder import ShapeDecoder
from molrl.models.shapes.model import DOMAIN, NETWORKS, ShapeArchitecture, ShapeModel, load_shapes, save_shapes
from molrl.models.shapes.policy import shape_policy
from molrl.models.shapes.stable_target import Pools, StableLoss
from molrl.policy import Policy
from molrl.pretraining import Loss, Pretraining, denoising_loss
from molrl.runs.checkpoint import check_fits


@dataclass(frozen=True, kw_only=True)
class ShapeDesign:
    """A shape model that has not met its data set yet.

    Attributes:
        network: "kind" of the network, and the sizes it takes.
        points: number of points of a point cloud.
        pool: points drawn of each shape, of which a point cloud is a part; as many as `points`: the usual loss.
        noise_min, noise_max: ends of the log-linear schedule, in units of the data's standard deviation.
        written: number of points of a cloud that a training step writes, for a network that reads more; None: all.
    """

    network: Mapping[str, Any]
    points: int
    pool: int
    noise_min: float
    noise_max: float
    written: int | None = None
    domain: ClassVar[str] = DOMAIN
    data_argument: ClassVar[str] = "points"

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ValueError(f"points: got {self.points}, need at least 2")
        if not self.points <= self.pool <= MAX_POINTS:
            raise ValueError(f"pool: got {self.pool}, allowed {self.points} (points) to {MAX_POINTS}")
        if self.written is not None:
            self.check_written(self.written)

    def check_written(self, written: int) -> None:
        """Raise ValueError unless the network can write so many of the points, and the loss is one of pools."""
        if not 0 < written <= self.points < self.pool:
            raise ValueError(f"written: got {written}, allowed 1 to {self.points} (points), with a larger pool")
        network = network_class(str(self.network.get("kind")), NETWORKS)
        if "written" not in inspect.signature(network.forward).parameters:  # type: ignore[attr-defined]
            raise ValueError(f"written: got {written}, but a {self.network['kind']} writes all points that it reads")

    @property
    def loss(self) -> Loss:
        """Return the loss of stable targets where a pool has more points than a point cloud, else the usual one."""
        return StableLoss(self.points, self.written) if self.pool > self.points else cast(Loss, denoising_loss)

    def load_data(self, data: Callable[..., ShapeSet], init: str | None) -> ShapeSet:
        """Return the data set with a pool of points for each shape."""
        with settings("data"):
            return data(points=self.pool)

    def fit(self, examples: ShapeSet) -> "ShapeTrainee":
        """Take the statistics of the training set, and build the model with random weights."""
        architecture, pools = self.describe(examples)
        held_out = [replace(shape, points=shape.points[: self.points]) for shape in examples.held_out]
        with settings("model"):
            model = architecture.build()
        return ShapeTrainee(model, pools, held_out, self.loss)

    def describe(self, examples: ShapeSet) -> tuple[ShapeArchitecture, Pools]:
        """Return the architecture with the statistics of the training set, and the set as pools of points."""
        points = torch.from_numpy(np.stack([shape.points for shape in examples.train])).flatten(0, 1)
        mean = points.mean(0, dtype=torch.float64)
        variance = (points - mean.float()).square().mean(0, dtype=torch.float64)
        std = variance.mean().sqrt()
        architecture = ShapeArchitecture(
            network=dict(self.network),
            classes=sorted({shape.label for shape in examples.train}),
            points=self.points,
            mean=[round(value, 4) for value in mean.tolist()],
            std=round(std.item(), 4),
            data_std=[round(value, 4) for value in (variance.sqrt() / std).tolist()],
            noise_min=self.noise_min,
            noise_max=self.noise_max,
        )
        x0, classes = architecture.encode(examples.train)
        return architecture, Pools(x0, {"class": classes}, self.points)


@dataclass(frozen=True)
class ShapeTrainee:
    """A shape model with random weights, and its training set as pools of points.

    Attributes:
        held_out: shapes to compare samples with, which the model's folder keeps.
    """

    model: ShapeModel
    pools: Pools
    held_out: Sequence[PointCloud]
    loss: Loss
    sample_batch: ClassVar[int] = 64
    progress_metrics: ClassVar[Mapping[str, str]] = {
        "1-NNA": "one_nna",
        "coverage": "coverage",
        "MMD": "mmd",
        "diversity": "diversity",
    }

    @property
    def denoiser(self) -> nn.Module:
        """Return the network with its preconditioning."""
        return self.model.denoiser

    @property
    def space(self) -> Euclidean:
        """Return the space of points, which are not centred."""
        return Euclidean()

    @property
    def batches(self) -> Sequence[Pools]:
        """Return the one group of pools, which all have the same number of points."""
        return [self.pools]

    @property
    def summary(self) -> str:
        """Return the numbers of shapes and of parameters."""
        return f"{len(self.pools.x0)} shapes, {count_parameters(self.denoiser):,} parameters"

    @property
    def description(self) -> Mapping[str, Any]:
        """Return what model.json will say, statistics of the training set included."""
        return self.model.architecture.plain()

    def warm_start(self, init: str) -> None:
        """Take over the weights of another shape model, whatever its number of points."""
        state = load_shapes(init).denoiser.state_dict()
        check_fits(self.denoiser.state_dict(), state, f"the network to be trained (init={init})")
        self.denoiser.load_state_dict(state)

    def check_sampling(self, sampling: SamplingSettings) -> None:
        """Raise ValueError where no chain has such settings."""
        self.policy(self.model, sampling)

    def prepare(
        self, training: Pretraining, folder: Path, device: torch.device, should_stop: Callable[[], bool]
    ) -> None:
        """Do nothing: the denoiser is all there is to train."""

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write a model folder with the held-out shapes."""
        save_shapes(folder, self.model.architecture, state, self.held_out)

    def load(self, folder: Path, sampling: SamplingSettings) -> tuple[Policy, ShapeDecoder]:
        """Load a model folder, ready to draw shapes and to measure them."""
        model = load_shapes(str(folder))
        return self.policy(model, sampling), ShapeDecoder(model=model)

    @staticmethod
    def policy(model: ShapeModel, sampling: SamplingSettings) -> Policy:
        """Return the model's ancestral chain with these settings."""
        power = require_grid_power(sampling)
        return shape_policy(model, num_steps=sampling.num_steps, grid_power=power, eta=1.0, device=sampling.device)
