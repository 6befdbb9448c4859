"""The scoring function of AutoDock Vina for batches of poses, differentiable in the positions.

Trott and Olson 2010, J. Comput. Chem. 31, 455, with the weights of version 1.2 (Eberhardt et al. 2021, J. Chem. Inf.
Model. 61, 3891). The package tabulates its pair functions in steps of 1/32 square angstrom; here they are exact, which
moves a good pose by some 0.01 kcal/mol.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from molrl.data.molecules.pdbqt import Structure
from molrl.rewards.molecules.docking.atom_types import Ligand, heavy, structure_kinds

CUTOFF = 8.0  # angstrom
ROTOR_WEIGHT = 0.05846
CAP = 1000.0  # kcal/mol; what the repulsion of one ligand atom tends to
CELL = 2.0  # angstrom; the receptor atoms within the cutoff are listed for each cell of the box
LONGEST_SIDE = 40.0  # angstrom; the lists then take some 50 MB
FAR_AWAY = 1e4  # angstrom; where the lists are filled up


class Terms(NamedTuple):
    """The five terms, kcal/mol once weighted; of a pair of atoms or added up, each of the same shape."""

    gauss1: Tensor
    gauss2: Tensor
    repulsion: Tensor
    hydrophobic: Tensor
    hydrogen_bond: Tensor


WEIGHTS = (-0.035579, -0.005156, 0.840245, -0.035069, -0.587439)  # in the order of `Terms`


def pair_terms(d: Tensor, hydrophobic: Tensor, hydrogen_bond: Tensor) -> Terms:
    """The unweighted terms of pairs of atoms at surface distance d = r - R_i - R_j, angstrom.

    Args:
        hydrophobic: 1 where both atoms are, else 0.
        hydrogen_bond: 1 where one atom is a donor and the other an acceptor, else 0.
    """
    return Terms(
        gauss1=torch.exp(-((d / 0.5) ** 2)),
        gauss2=torch.exp(-(((d - 3.0) / 2.0) ** 2)),
        repulsion=d.clamp(max=0.0) ** 2,
        hydrophobic=hydrophobic * (1.5 - d).clamp(0.0, 1.0),
        hydrogen_bond=hydrogen_bond * (d / -0.7).clamp(0.0, 1.0),
    )


def weighted(terms: Terms) -> Tensor:
    """The energy that the terms make, kcal/mol."""
    gauss1, gauss2, repulsion, hydrophobic, hydrogen_bond = (w * t for w, t in zip(WEIGHTS, terms, strict=True))
    return gauss1 + gauss2 + repulsion + hydrophobic + hydrogen_bond


@dataclass(frozen=True)
class Box:
    """Where a ligand may be.

    Attributes:
        centre: x, y, z in angstrom.
        size: lengths of the sides, angstrom.
    """

    centre: Sequence[float]
    size: Sequence[float]

    def __post_init__(self) -> None:
        for name, values in (("centre", self.centre), ("size", self.size)):
            if len(values) != 3 or not all(isinstance(x, int | float) and math.isfinite(x) for x in values):
                raise ValueError(f"box {name}: got {list(values)}, need three numbers in angstrom")
        if not all(0 < side <= LONGEST_SIDE for side in self.size):
            raise ValueError(f"box size: got {list(self.size)}, need sides of at most {LONGEST_SIDE:g} angstrom")

    @property
    def low(self) -> tuple[float, ...]:
        return tuple(middle - side / 2 for middle, side in zip(self.centre, self.size, strict=True))

    @property
    def high(self) -> tuple[float, ...]:
        return tuple(middle + side / 2 for middle, side in zip(self.centre, self.size, strict=True))


class Ligands:
    """Ligands side by side, padded to the largest; one ligand stands for any number of poses of it.

    Attributes:
        radius: angstrom [l, n].
        hydrophobic, donor, acceptor: 1 or 0 [l, n].
        mask: True for real atoms [l, n].
        rotors: [l].
    """

    radius: Float[Tensor, "l n"]
    hydrophobic: Float[Tensor, "l n"]
    donor: Float[Tensor, "l n"]
    acceptor: Float[Tensor, "l n"]
    mask: Bool[Tensor, "l n"]
    rotors: Float[Tensor, " l"]

    def __init__(
        self, ligands: Sequence[Ligand], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        shape = (len(ligands), max((len(ligand) for ligand in ligands), default=0))
        table = np.zeros((5, *shape))
        for row, ligand in enumerate(ligands):
            table[:4, row, : len(ligand)] = ligand.kinds
            table[4, row, : len(ligand)] = 1
        self.radius, self.hydrophobic, self.donor, self.acceptor, real = torch.tensor(table, dtype=dtype, device=device)
        self.mask = real.bool()
        self.rotors = torch.tensor([ligand.rotors for ligand in ligands], dtype=dtype, device=device)


class Pocket:
    """The part of a receptor that a ligand in a box can feel.

    Each cell of the box has a list of the receptor atoms within the cutoff of any of its points, so that a pose is
    compared with some 200 atoms, whatever the size of the receptor, and no pair is missed.
    """

    def __init__(
        self, receptor: Structure, box: Box, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        """Assign the receptor's types and make the lists.

        Raises:
            ValueError: no receptor atom is within the cutoff of the box.
        """
        self.box = box
        positions = receptor.positions[heavy(receptor)]
        low, high = np.array(box.low), np.array(box.high)
        outside = np.linalg.norm(positions - positions.clip(low, high), axis=-1)
        near = outside < CUTOFF
        if not near.any():
            raise ValueError(
                f"box: centre {list(box.centre)}, size {list(box.size)} is {outside.min():.1f} angstrom away from the "
                f"nearest receptor atom, which is beyond the cutoff of {CUTOFF:g}"
            )
        kinds = np.stack([np.asarray(column, dtype=np.float64)[near] for column in structure_kinds(receptor)], axis=-1)
        # Positions relative to the centre keep their digits in float32.
        atoms = np.concatenate([positions[near] - np.array(box.centre), kinds], axis=-1)
        self.size = len(atoms)
        self.cells = tuple(math.ceil(side / CELL) for side in box.size)
        nobody = np.array([[FAR_AWAY, FAR_AWAY, FAR_AWAY, 0, 0, 0, 0]])
        lists = neighbour_lists(atoms[:, :3], self.cells, box.size)
        table = np.concatenate([atoms, nobody])[lists].transpose(0, 2, 1)
        self.table: Float[Tensor, "cells 7 k"] = torch.tensor(table, dtype=dtype, device=device)
        self.centre = torch.tensor(box.centre, dtype=dtype, device=device)
        self.half = torch.tensor(box.size, dtype=dtype, device=device) / 2

    def __len__(self) -> int:
        """How many receptor atoms a ligand in the box can feel."""
        return self.size

    def pairs(self, poses: Float[Tensor, "b n 3"], ligands: Ligands) -> tuple[Terms, Bool[Tensor, "b n k"]]:
        """The unweighted terms of each ligand atom with each receptor atom of its list [b, n, k], and which count.

        Atoms outside the box are taken to its wall.
        """
        x = torch.minimum(torch.maximum(poses - self.centre, -self.half), self.half)
        near = self.table[self.cell_of(x.detach())]  # [b, n, 7, k]
        squared = sum((x[..., axis, None] - near[..., axis, :]).square() for axis in range(3))
        r = torch.as_tensor(squared).clamp(min=1e-12).sqrt()  # its derivative is infinite at 0
        radius, hydrophobic, donor, acceptor = near[..., 3:, :].unbind(-2)
        either_way = (donor * ligands.acceptor[..., None] + acceptor * ligands.donor[..., None]).clamp(max=1.0)
        terms = pair_terms(
            r - (radius + ligands.radius[..., None]), hydrophobic * ligands.hydrophobic[..., None], either_way
        )
        return terms, (r < CUTOFF) & ligands.mask[..., None]

    def terms(self, poses: Float[Tensor, "b n 3"], ligands: Ligands) -> Terms:
        """The unweighted terms of each ligand atom with the receptor, [b, n]."""
        terms, felt = self.pairs(poses, ligands)
        return Terms(*((term * felt).sum(-1) for term in terms))

    def energy(self, poses: Float[Tensor, "b n 3"], ligands: Ligands) -> Float[Tensor, " b"]:
        """Intermolecular energy, kcal/mol; what clashes is capped atom by atom, E -> 1000 E / (1000 + E)."""
        terms, felt = self.pairs(poses, ligands)
        e = (weighted(terms) * felt).sum(-1)
        return torch.where(e > 0, CAP * e / (CAP + e.clamp(min=0.0)), e).sum(-1)

    def score(self, poses: Float[Tensor, "b n 3"], ligands: Ligands) -> Float[Tensor, " b"]:
        """Predicted free energy of binding, kcal/mol: E / (1 + 0.05846 rotors), as `vina --score_only` has it.

        Infinite for a pose that is not inside the box. A number that is not finite gives NaN.

        Args:
            poses: angstrom; of one ligand, or of as many ligands as there are poses. Padding may hold any finite
                numbers.
        """
        score = self.energy(poses, ligands) / (1 + ROTOR_WEIGHT * ligands.rotors)
        return torch.where(self.beyond(poses, ligands) > 0, torch.inf, score)

    def beyond(self, poses: Float[Tensor, "b n 3"], ligands: Ligands) -> Float[Tensor, " b"]:
        """How far the atoms of each pose are outside the box, angstrom, added up."""
        out = ((poses - self.centre).abs() - self.half).clamp(min=0.0)
        return (out.sum(-1) * ligands.mask).sum(-1)

    def cell_of(self, x: Float[Tensor, "b n 3"]) -> Int[Tensor, "b n"]:
        """The row of the neighbour lists for positions inside the box, relative to its centre."""
        counts = torch.tensor(self.cells, device=x.device)
        place = ((x + self.half) / CELL).nan_to_num().long().clamp(min=0).minimum(counts - 1)
        return (place[..., 0] * self.cells[1] + place[..., 1]) * self.cells[2] + place[..., 2]


def neighbour_lists(positions: NDArray[np.float64], cells: Sequence[int], size: Sequence[float]) -> NDArray[np.int64]:
    """For each cell of a box around 0, the atoms within the cutoff of any of its points [cells, k].

    Filled up with the number of atoms.
    """
    beyond = []  # squared distance of each atom from each slab of the box, [slabs, m] along each axis
    for axis, count in enumerate(cells):
        low = -size[axis] / 2 + CELL * np.arange(count)[:, None]
        beyond.append((positions[:, axis] - positions[:, axis].clip(low, low + CELL)) ** 2)
    across = beyond[1][:, None] + beyond[2][None]  # [slabs of y, slabs of z, m]
    reach = (CUTOFF + 1e-3) ** 2  # a position may be rounded into the next cell
    lists = [np.nonzero(row)[0] for slab in beyond[0] for row in (slab + across < reach).reshape(-1, len(positions))]
    filled = np.full((len(lists), max(map(len, lists))), len(positions), dtype=np.int64)
    for row, found in zip(filled, lists, strict=True):
        row[: len(found)] = found
    return filled
