"""Poses of ligands from positions, orientations and torsions, and the gradients by these, for batches of both.

Explicit formulas, as in AutoDock Vina (Trott and Olson 2010, J. Comput. Chem. 31, 455): the derivative by a torsion is
the torque, about its bond, of the forces on all atoms beyond it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from molrl.rewards.molecules.docking.placement import rotation
from molrl.rewards.molecules.docking.torsion_tree import TorsionTree


class Coordinates(NamedTuple):
    """The coordinates that a search moves, of s poses of each of l ligands.

    Attributes:
        shift: positions of the origin of the conformer, angstrom [l, s, 3].
        turn: rotations of its root, for rows, x R [l, s, 3, 3].
        angles: torsions relative to those of the conformer, radian [l, s, k].
    """

    shift: Float[Tensor, "l s 3"]
    turn: Float[Tensor, "l s 3 3"]
    angles: Float[Tensor, "l s k"]

    def moved(self, step: Float[Tensor, "l s d"]) -> "Coordinates":
        """Return the coordinates after a step: shift [3], rotation vector [3] and torsions [k], d = 6 + k."""
        turn = rotation(step[..., 3:6].reshape(-1, 3)).view(self.turn.shape)
        return Coordinates(self.shift + step[..., :3], self.turn @ turn, self.angles + step[..., 6:])

    def rows(self, index: Int[Tensor, "l r"]) -> "Coordinates":
        """Return some of the poses of each ligand."""
        return Coordinates(*(take_poses(part, index) for part in self))

    def where(self, condition: Bool[Tensor, "l s"], other: "Coordinates") -> "Coordinates":
        """Return these coordinates where a condition holds, elsewhere the others."""
        return Coordinates(
            torch.where(condition[..., None], self.shift, other.shift),
            torch.where(condition[..., None, None], self.turn, other.turn),
            torch.where(condition[..., None], self.angles, other.angles),
        )


def take_poses(values: Tensor, index: Int[Tensor, "l r"]) -> Tensor:
    """Return values [l, s, ...] of some of the poses of each ligand [l, r, ...]."""
    return values[torch.arange(len(index), device=index.device)[:, None], index]


class Skeletons:
    """A batch of conformers with their torsion trees, padded to the largest.

    Attributes:
        conformers: positions of the heavy atoms about their mean, angstrom [l, n, 3].
        radius: root mean square distance of the atoms from it, at least half an angstrom [l, 1, 1].
        moved: 1 for the atoms beyond each torsion, and in the first row for all [l, k + 1, n].
        bonds: atoms at the near and the far end of each torsion [l, k, 2].
        torsions: True for real torsions, False for padding [l, k].
    """

    def __init__(
        self,
        conformers: Sequence[NDArray[np.floating]],
        trees: Sequence[TorsionTree],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Arrange conformers [n, 3], one for each tree, angstrom."""
        number, n = len(trees), max(len(tree.fragment) for tree in trees)
        most = max(tree.torsions for tree in trees)
        levels = [
            max(int((tree.level == level).sum()) for tree in trees)
            for level in range(1 + max(int(tree.level.max()) for tree in trees))
        ]
        first = np.cumsum([0, *levels])  # slot of the first fragment of each level
        positions, fragment = np.zeros((number, n, 3)), np.zeros((number, n), dtype=np.int64)
        moved = np.zeros((number, most + 1, n))
        bonds, real = np.zeros((number, most, 2), dtype=np.int64), np.zeros((number, most), dtype=np.bool_)
        parent = np.zeros((number, first[-1]), dtype=np.int64)
        torsion = np.full((number, first[-1]), most, dtype=np.int64)  # of each slot; padding has the angle 0
        for row, (conformer, tree) in enumerate(zip(conformers, trees, strict=True)):
            atoms, k = len(tree.fragment), tree.torsions
            slot = first[tree.level] + np.arange(k + 1) - np.searchsorted(tree.level, tree.level)
            positions[row, :atoms] = conformer - conformer.mean(0)
            fragment[row, :atoms] = slot[tree.fragment]
            moved[row, 0, :atoms], moved[row, 1 : k + 1, :atoms] = 1.0, tree.moved
            bonds[row, :k], real[row, :k] = tree.bonds, True
            parent[row, slot[1:]], torsion[row, slot[1:]] = slot[tree.parent], np.arange(k)
        tensors = (torch.from_numpy(array).to(device) for array in (fragment, bonds, real, parent, torsion))
        self.fragment, self.bonds, self.torsions, self.parent, self.torsion = tensors
        self.conformers: Float[Tensor, "l n 3"] = torch.tensor(positions, dtype=dtype, device=device)
        self.moved: Float[Tensor, "l k1 n"] = torch.tensor(moved, dtype=dtype, device=device)
        sizes = self.moved[:, :1].sum(-1, keepdim=True)
        self.radius = (self.conformers.square().sum((1, 2), keepdim=True) / sizes).sqrt().clamp(min=0.5)
        self.levels = [slice(*ends) for ends in zip(first[1:-1].tolist(), first[2:].tolist(), strict=True)]
        self.axis, self.origin = self.slots()

    def slots(self) -> tuple[Float[Tensor, "l f 3"], Float[Tensor, "l f 3"]]:
        """Return the axis of each slot's torsion in the conformer, a unit vector, and its origin, angstrom."""
        ends = take_poses(self.conformers, self.bonds.flatten(1)).unflatten(1, (-1, 2))
        axis = torch.nn.functional.normalize(ends[:, :, 1] - ends[:, :, 0], dim=-1)
        none = self.conformers.new_zeros(len(ends), 1, 3)
        axis, origin = (torch.cat([part, none], dim=1) for part in (axis, ends[:, :, 1]))
        return take_poses(axis, self.torsion), take_poses(origin, self.torsion)

    def poses(self, at: Coordinates) -> Float[Tensor, "l s n 3"]:
        """Return the positions of the atoms, angstrom; padding lies at the origin of the conformer."""
        angles = torch.nn.functional.pad(at.angles, (0, 1))  # the last is that of padding
        angles = angles.gather(-1, self.torsion[:, None].expand(-1, angles.shape[1], -1))
        own = axis_rotation(self.axis[:, None], angles)  # [l, s, f, 3, 3]
        step = self.origin[:, None] - (self.origin[:, None, :, None] @ own)[..., 0, :]
        turns, shifts = at.turn[:, :, None], at.shift[:, :, None]
        for level in self.levels:
            above = self.parent[:, None, level].expand(-1, turns.shape[1], -1)
            turn = turns.gather(2, above[..., None, None].expand(-1, -1, -1, 3, 3))
            shift = shifts.gather(2, above[..., None].expand(-1, -1, -1, 3))
            shifts = torch.cat([shifts, shift + (step[:, :, level, None] @ turn)[..., 0, :]], dim=2)
            turns = torch.cat([turns, own[:, :, level] @ turn], dim=2)
        atoms = self.fragment[:, None].expand(-1, turns.shape[1], -1)
        turn = turns.gather(2, atoms[..., None, None].expand(-1, -1, -1, 3, 3))
        shift = shifts.gather(2, atoms[..., None].expand(-1, -1, -1, 3))
        return shift + (self.conformers[:, None, :, None] @ turn)[..., 0, :]

    def pull_back(
        self, poses: Float[Tensor, "l s n 3"], gradient: Float[Tensor, "l s n 3"], at: Coordinates
    ) -> Float[Tensor, "l s d"]:
        """Return the gradient by a step of `Coordinates.moved` of a function with this gradient by the positions."""
        arms = poses - at.shift[:, :, None]
        both = torch.cat([gradient, torch.linalg.cross(arms, gradient)], dim=-1)
        sums = (
            self.moved[:, None] @ both
        )  # [l, s, k + 1, 6], force and torque about the origin, with signs of gradients
        flat = self.bonds.flatten(1)[:, None, :, None].expand(-1, arms.shape[1], -1, 3)
        near, far = arms.gather(2, flat).unflatten(2, (-1, 2)).unbind(3)
        axis = torch.nn.functional.normalize(far - near, dim=-1)
        torque = sums[:, :, 1:, 3:] - torch.linalg.cross(far, sums[:, :, 1:, :3])
        return torch.cat([sums[:, :, 0], (axis * torque).sum(-1)], dim=-1)


def axis_rotation(axis: Float[Tensor, "*#b 3"], angle: Float[Tensor, "*b"]) -> Float[Tensor, "*b 3 3"]:
    """Return the matrix that rotates rows, x R, about unit vectors (Rodrigues); the identity for a vector of 0."""
    turn = rotation((axis * angle[..., None]).reshape(-1, 3))
    return turn.view(*angle.shape, 3, 3)
