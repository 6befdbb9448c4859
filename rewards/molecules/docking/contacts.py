"""Contacts of a pose with the receptor, by the terms of the scoring function, and the residues that make them."""

from jaxtyping import Bool, Float
from torch import Tensor

from molrl.rewards.molecules.docking.atom_types import Ligand
from molrl.rewards.molecules.docking.proxy import clash_fraction
from molrl.rewards.molecules.docking.scoring_function import Ligands, Pocket

UNNAMED = "the receptor file names no residues"


def count_contacts(pocket: Pocket, ligand: Ligand, positions: Float[Tensor, "n 3"]) -> dict[str, float]:
    """Return the number of hydrogen bonds and of hydrophobic contacts of a pose, and the fraction of atoms that clash.

    Atoms that overlap with one of the receptor by more than 1 angstrom clash. See `contact_pairs`.
    """
    counts = {name: float(pairs.sum().item()) for name, pairs in contact_pairs(pocket, ligand, positions).items()}
    return {**counts, "clashes": clash_fraction(pocket, ligand, positions)}


def name_contacts(pocket: Pocket, ligand: Ligand, positions: Float[Tensor, "n 3"]) -> dict[str, str]:
    """Return the residues that make each kind of contact, in the order of the receptor: "A:GLU286 A:MET318".

    Where its file names none, the text says so.
    """
    if not any(pocket.residues):
        return {f"{name}_with": UNNAMED for name in ("hydrogen_bonds", "hydrophobic_contacts")}
    (rows,) = pocket.neighbours(positions[None])
    pairs = contact_pairs(pocket, ligand, positions)
    return {
        f"{name}_with": " ".join(dict.fromkeys(pocket.residues[row] or "unnamed" for row in rows[made.cpu()].unique()))
        for name, made in pairs.items()
    }


def contact_pairs(pocket: Pocket, ligand: Ligand, positions: Float[Tensor, "n 3"]) -> dict[str, Bool[Tensor, "n k"]]:
    """Return the pairs of atoms, in the order of `Pocket.pairs`, whose hydrogen bond or hydrophobic term is not zero.

    These are a donor and an acceptor whose surfaces touch, and hydrophobic atoms whose surfaces are less than 1.5
    angstrom apart.
    """
    terms, in_range = pocket.pairs(positions[None], Ligands([ligand], dtype=positions.dtype, device=positions.device))
    return {
        "hydrogen_bonds": ((terms.hydrogen_bond > 0) & in_range)[0],
        "hydrophobic_contacts": ((terms.hydrophobic > 0) & in_range)[0],
    }
