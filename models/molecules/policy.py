"""The group `policy=` for molecules: a model, and how it is sampled."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch

from molrl.gaussian import MaskedPoints
from molrl.models.molecules.model import Pretrained, load
from molrl.policy import Policy
from molrl.samplers import DDIM, PowerGrid


@dataclass(frozen=True, kw_only=True)
class MoleculePolicy:
    """A model of molecules and its chain, DDIM(eta) on a power grid.

    Attributes:
        weights: a shipped model by name, a folder, a run, or EDM's published weights as a .safetensors file.
        num_steps: of the chain, one network call each.
        grid_power: above 1 the steps are finer toward the data.
        eta: 1 is ancestral sampling, 0 deterministic.
        order: of the steps: 1, or 2 to sample in fewer of them; densities need 1.
    """

    weights: str
    num_steps: int
    grid_power: float
    eta: float
    order: int = 1
    domain: ClassVar[str] = "molecules"

    @cached_property
    def model(self) -> Pretrained:
        """Return the model, read once.

        Raises:
            CheckpointError: it is missing, damaged or of another domain.
        """
        return load(self.weights)

    def build(self, device: torch.device) -> Policy:
        """Return the model's denoiser with its chain."""
        return molecule_policy(
            self.model,
            num_steps=self.num_steps,
            grid_power=self.grid_power,
            eta=self.eta,
            device=device,
            order=self.order,
        )


def molecule_policy(
    model: Pretrained, *, num_steps: int, grid_power: float, eta: float, device: torch.device, order: int = 1
) -> Policy:
    """Return a model's denoiser and the chain that draws molecules from it."""
    schedule, grid = model.schedule, PowerGrid(grid_power)
    sampler = DDIM(schedule=schedule, num_steps=num_steps, space=MaskedPoints(), eta=eta, grid=grid)
    return Policy(model.denoiser.to(device), sampler, order=order)
