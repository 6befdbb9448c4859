"""Contacts of a pose with the receptor, counted by the terms of the scoring function."""

from jaxtyping import Float
from torch import Tensor

from molrl.rewards.molecules.docking.atom_types import Ligand
from molrl.rewards.molecules.docking.proxy import clash_fraction
from molrl.rewards.molecules.docking.scoring_function import Ligands, Pocket


def count_contacts(pocket: Pocket, ligand: Ligand, positions: Float[Tensor, "n 3"]) -> dict[str, float]:
    """Return the number of hydrogen bonds and of hydrophobic contacts of a pose, and the fraction of atoms that clash.

    Counted are the pairs of atoms whose term is not zero: a donor and an acceptor whose surfaces touch, and hydrophobic
    atoms whose surfaces are less than 1.5 angstrom apart. Atoms that overlap with one of the receptor by more than 1
    angstrom clash.
    """
    terms, in_range = pocket.pairs(positions[None], Ligands([ligand], dtype=positions.dtype, device=positions.device))
    return {
        "hydrogen_bonds": ((terms.hydrogen_bond > 0) & in_range).sum().item(),
        "hydrophobic_contacts": ((terms.hydrophobic > 0) & in_range).sum().item(),
        "clashes": clash_fraction(pocket, ligand, positions),
    }
