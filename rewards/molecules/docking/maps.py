"""Maps of a pocket: the energy of each type of ligand atom on a grid, which a search looks up in place of pairs.

Trilinear interpolation in steps of 0.375 angstrom, as AutoDock Vina does it (Trott and Olson 2010, J. Comput. Chem. 31,
455).
"""

import itertools
import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from molrl.rewards.molecules.docking.atom_types import AtomTypes
from molrl.rewards.molecules.docking.pair_table import BINS, MAX_SQUARED, PairTable
from molrl.rewards.molecules.docking.scoring_function import Pocket

SPACING = 0.375  # angstrom at most
CHUNK = 512  # grid points at a time
CORNERS = tuple(itertools.product((0, 1), repeat=3))  # of a cell


class Maps:
    """The energies of atoms of any types in the box of a pocket; those of a type are computed when it is first met."""

    def __init__(self, pocket: Pocket) -> None:
        self.pocket = pocket
        self.counts = tuple(math.ceil(2 * half / SPACING) + 1 for half in pocket.half.tolist())
        self.spacing = 2 * pocket.half / (torch.tensor(self.counts, device=pocket.half.device) - 1)
        strides = (self.counts[1] * self.counts[2], self.counts[2], 1)
        self.strides = torch.tensor(strides, device=pocket.half.device)
        self.last_cell = torch.tensor(self.counts, device=pocket.half.device) - 2
        self.corners: Int[Tensor, " 8"] = (torch.tensor(CORNERS, device=pocket.half.device) * self.strides).sum(-1)
        self.numbers: dict[tuple[float, ...], int] = {}  # of the map of each type
        self.values: Float[Tensor, "maps grid"] = pocket.table.new_zeros(0, math.prod(self.counts))

    def rows_of(self, types: AtomTypes) -> Int[Tensor, " n"]:
        """Return the number of the map of each atom; maps that are missing are computed."""
        kinds = [tuple(map(float, kind)) for kind in zip(*types, strict=True)]
        if new := sorted(set(kinds) - self.numbers.keys()):
            self.numbers |= {kind: len(self.numbers) + row for row, kind in enumerate(new)}
            self.values = torch.cat([self.values, self.compute(new)])
        return torch.tensor([self.numbers[kind] for kind in kinds], device=self.values.device)

    def compute(self, kinds: list[tuple[float, ...]]) -> Float[Tensor, "maps grid"]:
        """Return the energies of atoms of some types at the grid points, kcal/mol, the last axis fastest."""
        cells = self.pocket.table
        receptor, classes = distinct_types(cells[:, 3:])
        table = PairTable(torch.tensor(kinds).to(receptor), receptor, self.pocket.function)
        rows = table.energies.permute(1, 2, 0).reshape(-1, len(kinds)).contiguous()  # [types bins, kinds]
        found = []
        for points in self.points().split(CHUNK):
            near = self.pocket.cell_of(points[:, None])[:, 0]
            squared = (points[:, :, None] - cells[near, :3]).square().sum(1)
            bins = (squared.clamp(max=MAX_SQUARED) * (BINS / MAX_SQUARED)).round().int() + classes[near] * (BINS + 1)
            found.append(torch.nn.functional.embedding_bag(bins, rows, mode="sum"))
        return torch.cat(found).T.contiguous()

    def points(self) -> Float[Tensor, "grid 3"]:
        """Return the grid points, relative to the centre of the box, angstrom."""
        axes = [
            torch.linspace(-half, half, count, dtype=self.spacing.dtype, device=self.spacing.device)
            for half, count in zip(self.pocket.half.tolist(), self.counts, strict=True)
        ]
        return torch.cartesian_prod(*axes)

    def energy(
        self, positions: Float[Tensor, "*b n 3"], maps: Int[Tensor, "*#b n"]
    ) -> tuple[Float[Tensor, "*b n"], Float[Tensor, "*b n 3"]]:
        """Return the energy of each atom and its gradient, kcal/mol and kcal/mol per angstrom.

        Atoms outside the box are moved to its wall.
        """
        half = self.pocket.half
        steps = (positions - self.pocket.centre + half).clamp(min=0.0).minimum(2 * half) / self.spacing
        cell = steps.nan_to_num().long().minimum(self.last_cell)
        x, y, z = (steps - cell)[..., None].unbind(-2)
        first = (cell * self.strides).sum(-1) + maps * self.values.shape[1]
        values = self.values.view(-1)[first[..., None] + self.corners]
        low, high = values[..., :4], values[..., 4:]
        by_x, v = high - low, torch.lerp(low, high, x)  # along the four edges in x
        by_y, w = v[..., 2:] - v[..., :2], torch.lerp(v[..., :2], v[..., 2:], y)
        by_z, e = w[..., 1:] - w[..., :1], torch.lerp(w[..., :1], w[..., 1:], z)
        by_x = torch.lerp(by_x[..., :2], by_x[..., 2:], y)
        by_x, by_y = (torch.lerp(one[..., :1], one[..., 1:], z) for one in (by_x, by_y))
        return e[..., 0], torch.cat([by_x, by_y, by_z], dim=-1) / self.spacing


def distinct_types(types: Float[Tensor, "cells 4 k"]) -> tuple[Float[Tensor, "t 4"], Int[Tensor, "cells k"]]:
    """Return the distinct types of receptor atoms, and which of them each atom of the neighbour lists has."""
    rows, number = np.unique(types.transpose(1, 2).reshape(-1, 4).cpu().numpy(), axis=0, return_inverse=True)
    shape = (types.shape[0], types.shape[2])
    return torch.from_numpy(rows).to(types), torch.from_numpy(number.reshape(shape).astype(np.int32)).to(types.device)
