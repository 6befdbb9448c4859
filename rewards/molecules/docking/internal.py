"""The energy of a ligand within itself: the pair function over the atoms whose distance torsions change."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from molrl.rewards.molecules.docking.atom_types import Ligand
from molrl.rewards.molecules.docking.pair_table import PairTable
from molrl.rewards.molecules.docking.scoring_function import ScoringFunction
from molrl.rewards.molecules.docking.torsion_tree import TorsionTree


class Internal:
    """The pairs of a batch of ligands.

    Attributes:
        incidence: 1 and -1 for the two atoms of each pair, 0 for padding [l, p, n].
        rows: row of the table of each pair; padding has the last, which is 0 [l, p].
    """

    def __init__(
        self,
        ligands: Sequence[Ligand],
        trees: Sequence[TorsionTree],
        function: ScoringFunction,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Tabulate the pairs of types that the ligands have."""
        kinds = sorted({tuple(map(float, kind)) for ligand in ligands for kind in zip(*ligand.types, strict=True)})
        types = torch.tensor(kinds, dtype=dtype, device=device)
        self.table = PairTable(types, types, function)
        shape = (len(ligands), max(len(tree.pairs) for tree in trees))
        incidence, rows = np.zeros((*shape, max(map(len, ligands)))), np.full(shape, len(kinds) ** 2, dtype=np.int64)
        for row, (ligand, tree) in enumerate(zip(ligands, trees, strict=True)):
            number = np.array([kinds.index(tuple(map(float, kind))) for kind in zip(*ligand.types, strict=True)])
            first, second = tree.pairs.T
            pair = np.arange(len(first))
            incidence[row, pair, first], incidence[row, pair, second] = 1.0, -1.0
            rows[row, pair] = number[first] * len(kinds) + number[second]
        self.incidence: Float[Tensor, "l p n"] = torch.tensor(incidence, dtype=dtype, device=device)
        self.rows: Int[Tensor, "l p"] = torch.from_numpy(rows).to(device)

    def energy(self, poses: Float[Tensor, "l s n 3"]) -> tuple[Float[Tensor, "l s"], Float[Tensor, "l s n 3"]]:
        """Return the energies and their gradient by the positions, kcal/mol and kcal/mol per angstrom."""
        atoms = poses.transpose(1, 2)  # [l, n, s, 3], so that all poses are one product of matrices
        between = (self.incidence @ atoms.flatten(2)).view(*self.rows.shape, *atoms.shape[2:])
        energy, slope = self.table(between.square().sum(-1), self.rows[..., None])
        gradient = self.incidence.mT @ (2 * slope[..., None] * between).flatten(2)
        return energy.sum(1), gradient.view(atoms.shape).transpose(1, 2)
