"""Pretraining of the model of points: its data set, its design and what is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from circle.model import CircleDecoder, fresh, load, save, settings_of
from molrl.gaussian import Euclidean
from molrl.models.pretraining import SamplingSettings
from molrl.policy import Policy
from molrl.pretraining import Bucket, Loss, Pretraining, denoising_loss


def circle_points(*, n: int, spread: float) -> Tensor:
    """Return points [n, 1, 2] near the unit circle."""
    generator = torch.Generator().manual_seed(0)
    angle = 6.2832 * torch.rand(n, generator=generator)
    radius = 1 + spread * torch.randn(n, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)[:, None]


@dataclass(frozen=True)
class CircleTrainee:
    """A network with random weights and its points."""

    denoiser: nn.Module
    points: Tensor
    width: int
    space: ClassVar[Euclidean] = Euclidean()
    loss: ClassVar[Loss] = cast(Loss, staticmethod(denoising_loss))
    sample_batch: ClassVar[int] = 64
    progress_metrics: ClassVar[Mapping[str, str]] = {"radius error": "radius_error"}

    @property
    def batches(self) -> Sequence[Bucket]:
        return [Bucket(self.points, {})]

    @property
    def summary(self) -> str:
        return f"{len(self.points)} points"

    @property
    def description(self) -> Mapping[str, Any]:
        return {"domain": "circle", "width": self.width, "points": len(self.points)}

    def warm_start(self, init: str) -> None:
        self.denoiser.load_state_dict(load(init)[0].state_dict())

    def check_sampling(self, sampling: SamplingSettings) -> None:
        pass

    def prepare(
        self, training: Pretraining, folder: Path, device: torch.device, should_stop: Callable[[], bool]
    ) -> None:
        pass

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        save(folder, self.width, state)

    def load(self, folder: Path, sampling: SamplingSettings) -> tuple[Policy, CircleDecoder]:
        policy = settings_of(sampling, folder)
        return policy.build(sampling.device), CircleDecoder(policy.model[1])


@dataclass(frozen=True, kw_only=True)
class CircleDesign:
    """A model of points that has not met its data yet."""

    width: int
    domain: ClassVar[str] = "circle"
    data_argument: ClassVar[str] = "spread"

    def load_data(self, data: Callable[..., Tensor], init: str | None) -> Tensor:
        return data(spread=0.05)

    def fit(self, examples: Tensor) -> CircleTrainee:
        return CircleTrainee(fresh(self.width), examples, self.width)
