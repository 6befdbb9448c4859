"""The group `policy=` for shapes: a model of point clouds, and how it is sampled."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch

from molrl.gaussian import Euclidean
from molrl.models.shapes.model import ShapeModel, load_shapes
from molrl.policy import Policy
from molrl.samplers import DDIM, PowerGrid


@dataclass(frozen=True, kw_only=True)
class ShapePolicy:
    """A model of point clouds and its chain, DDIM(eta) on a power grid.

    Attributes:
        weights: a shipped model by name, a folder, or a run.
        num_steps: of the chain, one network call each.
        grid_power: above 1 the steps are finer toward the data.
        eta: 1 is ancestral sampling, 0 deterministic.
        order: of the steps: 1, or 2 to sample in fewer of them; densities need 1.
        points: of each shape; None: as many as the model was trained with.
    """

    weights: str
    num_steps: int
    grid_power: float
    eta: float
    points: int | None = None
    order: int = 1
    domain: ClassVar[str] = "shapes"

    @cached_property
    def model(self) -> ShapeModel:
        """Return the model, read once.

        Raises:
            CheckpointError: it is missing, damaged or of another domain.
        """
        return load_shapes(self.weights)

    def build(self, device: torch.device) -> Policy:
        """Return the model's denoiser with its chain."""
        return shape_policy(
            self.model,
            num_steps=self.num_steps,
            grid_power=self.grid_power,
            eta=self.eta,
            device=device,
            order=self.order,
        )


def shape_policy(
    model: ShapeModel, *, num_steps: int, grid_power: float, eta: float, device: torch.device, order: int = 1
) -> Policy:
    """Return a model's denoiser and the chain that draws point clouds from it."""
    grid = PowerGrid(grid_power)
    sampler = DDIM(schedule=model.schedule, num_steps=num_steps, space=Euclidean(), eta=eta, grid=grid)
    return Policy(model.denoiser.to(device), sampler, order=order)
