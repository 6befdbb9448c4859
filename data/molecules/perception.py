"""Bond perception by what is known of a molecule: the bonds, the types of its atoms, or elements and positions only."""

from molrl.data.molecules.bonds import Reading, rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.valence import valence_bonds


def perceive_bonds(molecule: Molecule) -> Reading:
    """Return the graph of a molecule that has one; else bonds from its atom types if it has charges, or by RDKit.

    A molecule whose charges are known has known hydrogens as well, and `valence_bonds` is exact. Without charges
    `rdkit_bonds` has to guess them.
    """
    return rdkit_bonds(molecule) if molecule.charges is None else valence_bonds(molecule)
