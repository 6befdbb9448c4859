"""A batch of flexible ligands in a pocket, as a search sees it: energies of poses and their gradients."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from molrl.rewards.molecules.docking.atom_types import Ligand
from molrl.rewards.molecules.docking.internal import Internal
from molrl.rewards.molecules.docking.kinematics import Coordinates, Skeletons
from molrl.rewards.molecules.docking.maps import Maps
from molrl.rewards.molecules.docking.minimisation import Surface
from molrl.rewards.molecules.docking.placement import WALL_FORCE, quaternion
from molrl.rewards.molecules.docking.scoring_function import Ligands
from molrl.rewards.molecules.docking.torsion_tree import TorsionTree

Inter: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Intermolecular energies [l, s] of poses [l, s, n, 3], and their gradient by the positions."""

TORSION_ARM = 2.0  # angstrom; a torsion moves atoms by about as much per radian


@dataclass(frozen=True, eq=False)
class FlexibleLigand:
    """A molecule of n heavy atoms, with what turns in it.

    Attributes:
        ligand: types of its atoms and number of rotors.
        tree: its fragments and torsions.
        conformer: positions, angstrom [n, 3], of which bond lengths, angles and rings are kept.
    """

    ligand: Ligand
    tree: TorsionTree
    conformer: NDArray[np.floating]


class Complexes:
    """Energies of l flexible ligands, each in the same pocket and alone there."""

    def __init__(self, maps: Maps, flexible: Sequence[FlexibleLigand]) -> None:
        """Arrange the ligands, padded to the largest."""
        self.maps, self.pocket = maps, maps.pocket
        self.ligands, trees = [one.ligand for one in flexible], [one.tree for one in flexible]
        dtype, device = self.pocket.half.dtype, self.pocket.half.device
        self.skeletons = Skeletons([one.conformer for one in flexible], trees, dtype, device)
        self.internal = Internal(self.ligands, trees, self.pocket.function, dtype, device)
        self.mask = self.skeletons.moved[:, :1]  # 1 for real atoms [l, 1, n]
        ones = torch.ones_like(self.skeletons.radius)
        parts = ((ones, 3), (1 / self.skeletons.radius, 3), (ones / TORSION_ARM, self.skeletons.torsions.shape[1]))
        # Steps of each coordinate that move atoms by about one angstrom
        self.scale: Float[Tensor, "l 1 d"] = torch.cat([part.expand(-1, -1, count) for part, count in parts], dim=-1)

    @cached_property
    def rows(self) -> Int[Tensor, "l 1 n"]:
        """Return the map of each atom; maps that are missing are computed."""
        n = self.mask.shape[-1]
        types = [ligand.types for ligand in self.ligands]
        rows = [torch.nn.functional.pad(self.maps.rows_of(one), (0, n - len(one.radius))) for one in types]
        return torch.stack(rows)[:, None]

    def soft(self, cap: float) -> Surface:
        """Return energies from maps; that of a clashing atom is capped, E -> c E / (c + E), kcal/mol."""
        return partial(self.energy, inter=partial(self.from_maps, cap=cap))

    def exact(self) -> Surface:
        """Return energies by the scoring function itself."""
        return partial(self.energy, inter=self.from_pairs)

    def energy(self, at: Coordinates, inter: Inter) -> tuple[Float[Tensor, "l s"], Float[Tensor, "l s d"]]:
        """Return the energy of each pose with that within the ligand and the wall of the box, and its gradient."""
        poses = self.skeletons.poses(at)
        between, by_between = inter(poses)
        within, by_within = self.internal.energy(poses)
        out = (poses - self.pocket.centre).abs() - self.pocket.half
        beyond = out.clamp(min=0.0) * self.mask[..., None]
        wall = (beyond > 0) * (poses - self.pocket.centre).sign()
        energy = between + within + WALL_FORCE * beyond.sum((-1, -2))
        return energy, self.skeletons.pull_back(poses, by_between + by_within + WALL_FORCE * wall, at)

    def from_maps(
        self, poses: Float[Tensor, "l s n 3"], cap: float
    ) -> tuple[Float[Tensor, "l s"], Float[Tensor, "l s n 3"]]:
        """Return intermolecular energies from maps, capped, and their gradient by the positions."""
        energy, gradient = self.maps.energy(poses, self.rows)
        soft = cap / (cap + energy.clamp(min=0.0))
        inside = (poses - self.pocket.centre).abs() <= self.pocket.half
        return (energy * soft * self.mask).sum(-1), gradient * (soft.square() * self.mask)[..., None] * inside

    def from_pairs(self, poses: Float[Tensor, "l s n 3"]) -> tuple[Float[Tensor, "l s"], Float[Tensor, "l s n 3"]]:
        """Return the exact intermolecular energies, and their gradient by the positions."""
        with torch.enable_grad():
            free = poses.detach().requires_grad_(True)
            energy = self.pocket.energy(free.flatten(0, 1), self.repeated(poses.shape[1]))
            (gradient,) = torch.autograd.grad(energy.sum(), free)
        return energy.detach().view(poses.shape[:2]), gradient

    def repeated(self, times: int) -> Ligands:
        """Return the types of the ligands, each repeated for its poses."""
        ligands = [ligand for ligand in self.ligands for _ in range(times)]
        return Ligands(ligands, dtype=self.pocket.half.dtype, device=self.pocket.half.device)

    def random(self, number: int, generator: torch.Generator) -> Coordinates:
        """Draw poses with their origin in the box, uniform in position, orientation and torsions."""
        shape, half = (len(self.ligands), number), self.pocket.half
        axes = torch.randn(*shape, 4, generator=generator, dtype=torch.float64)
        turn = quaternion((axes / axes.norm(dim=-1, keepdim=True)).flatten(0, 1)).to(half).view(*shape, 3, 3)
        place = torch.rand(*shape, 3, generator=generator, dtype=torch.float64).to(half)
        torsions = self.skeletons.torsions.shape[1]
        angles = torch.rand(*shape, torsions, generator=generator, dtype=torch.float64).to(half)
        return Coordinates(self.pocket.centre + (2 * place - 1) * half, turn, (2 * angles - 1) * math.pi)
