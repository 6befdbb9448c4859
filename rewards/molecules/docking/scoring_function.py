"""Scoring functions of AutoDock Vina's form for batches of poses, differentiable in the positions.

Trott and Olson 2010, J. Comput. Chem. 31, 455, with the weights of version 1.2 (Eberhardt et al. 2021, J. Chem. Inf.
Model. 61, 3891). The package tabulates its pair functions in steps of 1/32 square angstrom; here they are exact, which
changes the score of a good pose by some 0.01 kcal/mol. Another function of the form is Vinardo (`vinardo`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from molrl.data.molecules.pdbqt import Structure
from molrl.rewards.molecules.docking.atom_types import AtomTypes, Ligand, heavy, structure_types

CUTOFF = 8.0  # angstrom
ROTOR_WEIGHT = 0.05846
MAX_REPULSION = 1000.0  # kcal/mol; the limit of the repulsion of one ligand atom
CELL_SIZE = 2.0  # angstrom; the receptor atoms within the cutoff are listed for each cell of the box
MAX_SIDE = 40.0  # angstrom; the lists then take some 50 MB
PADDING_POSITION = 1e4  # angstrom; of the atoms that pad the lists


class Terms(NamedTuple):
    """The five terms, in kcal/mol once weighted, of pairs of atoms or of sums over them; all of the same shape."""

    gauss1: Tensor
    gauss2: Tensor
    repulsion: Tensor
    hydrophobic: Tensor
    hydrogen_bond: Tensor


@dataclass(frozen=True)
class ScoringFunction:
    """The numbers of a scoring function.

    Attributes:
        weights: kcal/mol, in the order of `Terms`.
        gauss1_width: angstrom.
        hydrophobic: surface distances up to which the term is 1 and from which it is 0, angstrom.
        hydrogen_bond: surface distance up to which the term is 1, angstrom; from 0 on it is 0.
        types: types of atoms from those of Vina.
    """

    weights: tuple[float, float, float, float, float]
    gauss1_width: float
    hydrophobic: tuple[float, float]
    hydrogen_bond: float
    types: Callable[[AtomTypes], AtomTypes]

    def pair_terms(self, d: Tensor, hydrophobic: Tensor, hydrogen_bond: Tensor) -> Terms:
        """Return the unweighted terms of pairs of atoms at surface distance d = r - R_i - R_j, angstrom.

        Args:
            hydrophobic: 1 where both atoms are, else 0.
            hydrogen_bond: 1 where one atom is a donor and the other an acceptor, else 0.
        """
        good, bad = self.hydrophobic
        return Terms(
            gauss1=torch.exp(-((d / self.gauss1_width) ** 2)),
            gauss2=torch.exp(-(((d - 3.0) / 2.0) ** 2)),
            repulsion=d.clamp(max=0.0) ** 2,
            hydrophobic=hydrophobic * ((bad - d) / (bad - good)).clamp(0.0, 1.0),
            hydrogen_bond=hydrogen_bond * (d / self.hydrogen_bond).clamp(0.0, 1.0),
        )

    def weighted_sum(self, terms: Terms) -> Tensor:
        """Return the energy, the weighted sum of the terms, kcal/mol."""
        gauss1, gauss2, repulsion, hydrophobic, hydrogen_bond = (
            w * t for w, t in zip(self.weights, terms, strict=True)
        )
        return gauss1 + gauss2 + repulsion + hydrophobic + hydrogen_bond


VINA = ScoringFunction(
    weights=(-0.035579, -0.005156, 0.840245, -0.035069, -0.587439),
    gauss1_width=0.5,
    hydrophobic=(0.5, 1.5),
    hydrogen_bond=-0.7,
    types=AtomTypes._make,
)


@dataclass(frozen=True)
class Box:
    """The box that a ligand must be in.

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
        if not all(0 < side <= MAX_SIDE for side in self.size):
            raise ValueError(f"box size: got {list(self.size)}, need sides of at most {MAX_SIDE:g} angstrom")

    @property
    def low(self) -> tuple[float, ...]:
        """Return the lower corner, angstrom."""
        return tuple(middle - side / 2 for middle, side in zip(self.centre, self.size, strict=True))

    @property
    def high(self) -> tuple[float, ...]:
        """Return the upper corner, angstrom."""
        return tuple(middle + side / 2 for middle, side in zip(self.centre, self.size, strict=True))


class Ligands:
    """A batch of ligands, padded to the largest; a single ligand is broadcast over all of its poses.

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
            table[:4, row, : len(ligand)] = ligand.types
            table[4, row, : len(ligand)] = 1
        self.radius, self.hydrophobic, self.donor, self.acceptor, real = torch.tensor(table, dtype=dtype, device=device)
        self.mask = real.bool()
        self.rotors = torch.tensor([ligand.rotors for ligand in ligands], dtype=dtype, device=device)


class Pocket:
    """The part of a receptor within the cutoff of a box.

    Each cell of the box has a list of the receptor atoms within the cutoff of any of its points, so that a pose is
    compared with some 200 atoms, whatever the size of the receptor, and no pair is missed.
    """

    def __init__(
        self,
        receptor: Structure,
        box: Box,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        function: ScoringFunction = VINA,
    ) -> None:
        """Assign the types of the receptor's atoms and make the neighbour lists.

        Raises:
            ValueError: no receptor atom is within the cutoff of the box.
        """
        self.box, self.function = box, function
        positions = receptor.positions[heavy(receptor)]
        low, high = np.array(box.low), np.array(box.high)
        outside = np.linalg.norm(positions - positions.clip(low, high), axis=-1)
        near = outside < CUTOFF
        if not near.any():
            raise ValueError(
                f"box: centre {list(box.centre)}, size {list(box.size)} is {outside.min():.1f} angstrom away from the "
                f"nearest receptor atom, which is beyond the cutoff of {CUTOFF:g}"
            )
        columns = function.types(structure_types(receptor))
        types = np.stack([np.asarray(column, dtype=np.float64)[near] for column in columns], axis=-1)
        # Positions relative to the centre keep their digits in float32.
        atoms = np.concatenate([positions[near] - np.array(box.centre), types], axis=-1)
        self.size = len(atoms)
        named = np.array(receptor.residues or [""] * len(receptor))[heavy(receptor)]
        self.residues: tuple[str, ...] = tuple(named[near].tolist())  # of the atoms near
        self.cells = tuple(math.ceil(side / CELL_SIZE) for side in box.size)
        padding = np.array([[PADDING_POSITION, PADDING_POSITION, PADDING_POSITION, 0, 0, 0, 0]])
        lists = neighbour_lists(atoms[:, :3], self.cells, box.size)
        table = np.concatenate([atoms, padding])[lists].transpose(0, 2, 1)
        self.lists: Int[Tensor, "cells k"] = torch.tensor(lists, dtype=torch.int32)
        self.table: Float[Tensor, "cells 7 k"] = torch.tensor(table, dtype=dtype, device=device)
        self.centre = torch.tensor(box.centre, dtype=dtype, device=device)
        self.half = torch.tensor(box.size, dtype=dtype, device=device) / 2

    def __len__(self) -> int:
        """Return the number of receptor atoms within the cutoff of the box."""
        return self.size

    def pairs(self, poses: Float[Tensor, "b n 3"], ligands: Ligands) -> tuple[Terms, Bool[Tensor, "b n k"]]:
        """Return the unweighted terms of each ligand atom with its list [b, n, k], and the mask of pairs that count.

        Atoms outside the box are moved to its wall.
        """
        x = self.inside(poses)
        near = self.table[self.cell_of(x.detach())]  # [b, n, 7, k]
        squared = sum((x[..., axis, None] - near[..., axis, :]).square() for axis in range(3))
        r = torch.as_tensor(squared).clamp(min=1e-12).sqrt()  # its derivative is infinite at 0
        radius, hydrophobic, donor, acceptor = near[..., 3:, :].unbind(-2)
        either_way = (donor * ligands.acceptor[..., None] + acceptor * ligands.donor[..., None]).clamp(max=1.0)
        terms = self.function.pair_terms(
            r - (radius + ligands.radius[..., None]), hydrophobic * ligands.hydrophobic[..., None], either_way
        )
        return terms, (r < CUTOFF) & ligands.mask[..., None]

    def terms(self, poses: Float[Tensor, "b n 3"], ligands: Ligands) -> Terms:
        """Return the unweighted terms of each ligand atom with the receptor, [b, n]."""
        terms, in_range = self.pairs(poses, ligands)
        return Terms(*((term * in_range).sum(-1) for term in terms))

    def energy(self, poses: Float[Tensor, "b n 3"], ligands: Ligands) -> Float[Tensor, " b"]:
        """Return the intermolecular energy, kcal/mol; that of a clashing atom is capped, E -> 1000 E / (1000 + E)."""
        terms, in_range = self.pairs(poses, ligands)
        e = (self.function.weighted_sum(terms) * in_range).sum(-1)
        return torch.where(e > 0, MAX_REPULSION * e / (MAX_REPULSION + e.clamp(min=0.0)), e).sum(-1)

    def score(self, poses: Float[Tensor, "b n 3"], ligands: Ligands) -> Float[Tensor, " b"]:
        """Return the predicted free energy of binding, E / (1 + 0.05846 rotors) in kcal/mol, as `vina --score_only`.

        Infinite for a pose that is not inside the box. A number that is not finite gives NaN.

        Args:
            poses: angstrom; of one ligand, or of as many ligands as there are poses. Padding may hold any finite
                numbers.
        """
        score = self.energy(poses, ligands) / (1 + ROTOR_WEIGHT * ligands.rotors)
        return torch.where(self.beyond(poses, ligands) > 0, torch.inf, score)

    def beyond(self, poses: Float[Tensor, "b n 3"], ligands: Ligands) -> Float[Tensor, " b"]:
        """Return the sum over the atoms of each pose of their distance outside the box along each axis, angstrom."""
        out = ((poses - self.centre).abs() - self.half).clamp(min=0.0)
        return (out.sum(-1) * ligands.mask).sum(-1)

    def inside(self, poses: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """Return positions relative to the centre of the box, those outside moved to its wall."""
        return torch.minimum(torch.maximum(poses - self.centre, -self.half), self.half)

    def neighbours(self, poses: Float[Tensor, "b n 3"]) -> Int[Tensor, "b n k"]:
        """Return the receptor atoms in the order of `pairs`, as rows of `residues`; padding is len(self)."""
        return self.lists[self.cell_of(self.inside(poses)).cpu()]

    def cell_of(self, x: Float[Tensor, "b n 3"]) -> Int[Tensor, "b n"]:
        """Return the cell of positions inside the box, relative to its centre: the row of the neighbour lists."""
        counts = torch.tensor(self.cells, device=x.device)
        index = ((x + self.half) / CELL_SIZE).nan_to_num().long().clamp(min=0).minimum(counts - 1)
        return (index[..., 0] * self.cells[1] + index[..., 1]) * self.cells[2] + index[..., 2]


def with_types(ligand: Ligand, function: ScoringFunction) -> Ligand:
    """Return a ligand with the types of a scoring function in place of Vina's."""
    return Ligand(function.types(ligand.types), ligand.rotors)


def neighbour_lists(positions: NDArray[np.float64], cells: Sequence[int], size: Sequence[float]) -> NDArray[np.int64]:
    """Return, for each cell of a box around 0, the atoms within the cutoff of any of its points [cells, k].

    Rows are padded with the number of atoms.
    """
    squared = []  # distance of each atom from each slab of the box, [slabs, m] along each axis
    for axis, count in enumerate(cells):
        low = -size[axis] / 2 + CELL_SIZE * np.arange(count)[:, None]
        squared.append((positions[:, axis] - positions[:, axis].clip(low, low + CELL_SIZE)) ** 2)
    squared_yz = squared[1][:, None] + squared[2][None]  # [slabs of y, slabs of z, m]
    limit = (CUTOFF + 1e-3) ** 2  # a position may be rounded into the next cell
    lists = [
        np.nonzero(row)[0] for slab in squared[0] for row in (slab + squared_yz < limit).reshape(-1, len(positions))
    ]
    padded = np.full((len(lists), max(map(len, lists))), len(positions), dtype=np.int64)
    for row, atoms in zip(padded, lists, strict=True):
        row[: len(atoms)] = atoms
    return padded
