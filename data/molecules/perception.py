"""Bond perception by what is known of a molecule: the bonds, some of them, atom types, or elements and positions."""

from dataclasses import replace

from rdkit import Chem

from molrl.data.molecules.bonds import Reading, molecule_problem, rdkit_bonds, read_graph
from molrl.data.molecules.core_bonds import core_bonds
from molrl.data.molecules.graphs import to_graph
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.valence import valence_bonds


def perceive_bonds(molecule: Molecule) -> Reading:
    """Return the bonds of a molecule where they are known; else from its atom types if it has charges, or by RDKit.

    Of a molecule with a core those of the core are known (`core_bonds`). A molecule whose charges are known has known
    hydrogens as well, and `valence_bonds` is exact. Without charges `rdkit_bonds` has to guess them.
    """
    if molecule.core is not None:
        return core_bonds(molecule)
    if molecule.charges is None:
        return rdkit_bonds(molecule)
    return valence_bonds(molecule) if molecule.graph is not None or molecule.bonds is None else known_bonds(molecule)


def known_bonds(molecule: Molecule) -> Reading:
    """Return the graph of a molecule whose bonds and charges are known, with the stereo marks of its geometry."""
    if reason := molecule_problem(molecule):
        return Reading(None, reason)
    try:
        graph = to_graph(molecule)
    except ValueError:
        return Reading(None, "valence")
    if molecule.positions.any():
        Chem.AssignStereochemistryFrom3D(graph)
    return read_graph(graph)


def without_bonds(molecule: Molecule) -> Molecule:
    """Return a molecule whose bonds have to be perceived; hydrogens and charges stay."""
    return replace(molecule, graph=None, bonds=None, core=None)
