"""The model of points: a network, its folder, its policy and its decoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn

from circle.files import SUFFIX, write_points
from molrl.exhibit import Counts, Exhibit, count
from molrl.gaussian import Context, Euclidean
from molrl.models.description import read_fields, with_header
from molrl.models.precondition import Preconditioned
from molrl.models.shipped import locate
from molrl.noise import Key
from molrl.policy import Policy
from molrl.runs import checkpoint
from molrl.samplers import DDIM, PowerGrid
from molrl.schedule import LogLinear

NAME = "circle"
EDGE = 200  # pixels of a drawing


class Network(nn.Module):
    """F(x [b, 1, 2], log noise [b]) -> [b, 1, 2]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
        )

    def forward(self, x: Tensor, log_noise: Tensor, context: Context) -> Tensor:
        values: Tensor = self.layers(torch.cat([x, log_noise.view(-1, 1, 1)], -1))
        return values


def fresh(width: int) -> Preconditioned:
    """Return a denoiser with random weights."""
    return Preconditioned(Network(width), LogLinear(0.02, 10.0), (0.7, 0.7))


def save(folder: Path, width: int, state: Mapping[str, Tensor]) -> None:
    """Write a model folder."""
    checkpoint.save(folder, {"weights": state}, {"model": with_header(NAME, {"width": width})})


def load(weights: str) -> tuple[Preconditioned, int]:
    """Read a model folder."""
    folder = locate(weights)
    tensors, values = checkpoint.load(folder)
    width = int(read_fields(folder, values.get("model"), NAME)["width"])
    denoiser = fresh(width)
    checkpoint.check_fits(denoiser.state_dict(), tensors["weights"], str(folder))
    denoiser.load_state_dict(tensors["weights"])
    return denoiser.eval(), width


@dataclass(frozen=True, kw_only=True)
class CirclePolicy:
    """A model of points and its chain."""

    weights: str
    num_steps: int
    grid_power: float
    eta: float
    domain: ClassVar[str] = NAME

    @cached_property
    def model(self) -> tuple[Preconditioned, int]:
        return load(self.weights)

    def build(self, device: torch.device) -> Policy:
        grid = PowerGrid(self.grid_power)
        denoiser = self.model[0]
        sampler = DDIM(
            schedule=LogLinear(0.02, 10.0), num_steps=self.num_steps, space=Euclidean(), eta=self.eta, grid=grid
        )
        return Policy(denoiser.to(device), sampler)


@dataclass(frozen=True)
class CircleDecoder:
    """Points of no condition."""

    width: int
    suffixes: ClassVar[tuple[str, ...]] = (SUFFIX,)

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        return {"row": torch.zeros(len(samples), dtype=torch.long)}

    def state_shape(self, context: Context) -> tuple[int, ...]:
        return (1, 2)

    def decode(self, x0: Tensor, context: Context) -> list[NDArray[np.float64]]:
        return list(x0[:, 0].detach().cpu().double().numpy())

    def groups(self, context: Context) -> list[int]:
        return [0] * len(context["row"])

    def measure(self, samples: Sequence[NDArray[np.float64]]) -> dict[str, float]:
        radii = np.array([(sample**2).sum() ** 0.5 for sample in samples])
        return {"radius": float(radii.mean()), "radius_error": float(np.abs(radii - 1).mean())}

    def assess(self, samples: Sequence[NDArray[np.float64]]) -> dict[str, float]:
        return self.measure(samples)

    def describe_changes(self, before: Mapping[str, float], after: Mapping[str, float], n: int) -> list[str]:
        return []

    def write(self, samples: Sequence[NDArray[np.float64]], path: Path, values: Mapping[str, Sequence[float]]) -> int:
        return write_points(samples, path)

    def exhibit(self, samples: Sequence[NDArray[np.float64]]) -> list[Exhibit]:
        return [Exhibit(f"{x:.3f} {y:.3f}", {"radius": float(np.hypot(x, y))}) for x, y in samples]

    def count_makeup(self, samples: Sequence[NDArray[np.float64]]) -> dict[str, Counts]:
        return {"halves": count(["right" if x > 0 else "left" for x, _ in samples], "points")}

    def draw(self, samples: Sequence[NDArray[np.float64]], captions: Sequence[str]) -> Image.Image:
        image = Image.new("RGB", (EDGE, EDGE), "white")
        pen = ImageDraw.Draw(image)
        for x, y in samples:
            place = tuple(EDGE / 2 + EDGE / 5 * float(value) for value in (x, -y))
            pen.ellipse([place[0] - 2, place[1] - 2, place[0] + 2, place[1] + 2], fill="black")
        return image

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        save(folder, self.width, denoiser.state_dict())


def settings_of(sampling: Any, folder: Path) -> CirclePolicy:
    """Return the policy of a progress report."""
    return CirclePolicy(
        weights=str(folder), num_steps=sampling.num_steps, grid_power=sampling.grid_power or 1.0, eta=1.0
    )
