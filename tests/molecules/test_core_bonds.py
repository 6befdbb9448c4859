"""Bonds of a molecule with a core: those of the core as given, new ones at open atoms alone."""

from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem

from molrl.data.molecules.core_bonds import core_bonds
from molrl.data.molecules.molecule import Core, Molecule
from molrl.data.molecules.perception import perceive_bonds

ETHYL = Core(np.array([[0, 1, 1]]), np.array([1, 0]))  # of C-C, open at the first


def chain(*x: float, hydrogens: list[int], core: Core = ETHYL, numbers: list[int] | None = None) -> Molecule:
    """Return atoms, carbon unless told otherwise, bent a little off the x axis at these places in angstrom."""
    positions = np.array([[place, 0.4 * (row % 2), 0.0] for row, place in enumerate(x)], dtype=np.float32)
    kinds = np.array(numbers or [6] * len(x))
    return Molecule(kinds, positions, np.array(hydrogens), charges=np.zeros(len(x), dtype=np.int64), core=core)


def test_a_new_atom_is_bonded_to_the_open_atom() -> None:
    molecule = chain(0.0, 1.5, -1.45, hydrogens=[2, 3, 3])
    assert Chem.MolToSmiles(core_bonds(molecule).mol) == "CCC"
    assert Chem.MolToSmiles(perceive_bonds(molecule).mol) == "CCC"


def test_a_bond_at_a_closed_atom_makes_it_unreadable() -> None:
    """Propane again, but grown from the wrong end; without a core it would be read."""
    molecule = chain(0.0, 1.5, 2.95, hydrogens=[3, 2, 3])
    assert Chem.MolToSmiles(perceive_bonds(replace(molecule, core=None)).mol) == "CCC"
    reading = core_bonds(molecule)
    assert reading.mol is None
    assert reading.reason == "attach: a new bond at atom 2 of the core, which is closed"


def test_an_open_atom_without_a_new_bond_is_unreadable() -> None:
    assert core_bonds(chain(0.0, 1.5, hydrogens=[2, 3])).reason == "valence"


def test_an_atom_that_is_open_twice_makes_a_double_bond_or_two_single_ones() -> None:
    twice = Core(np.array([[0, 1, 1]]), np.array([2, 0]))
    assert Chem.MolToSmiles(core_bonds(chain(0.0, 1.5, -1.25, hydrogens=[1, 3, 2], core=twice)).mol) == "C=CC"
    fork = chain(0.0, 1.5, -1.0, -0.7, hydrogens=[1, 3, 3, 3], core=twice)
    fork.positions[2:, 1] = [1.1, -1.4]
    assert Chem.MolToSmiles(core_bonds(fork).mol) == "CC(C)C"


def test_the_bonds_of_the_core_do_not_depend_on_its_geometry() -> None:
    """A core drawn with a length that no single bond has keeps its single bond."""
    stretched = chain(0.0, 2.2, -1.45, hydrogens=[2, 3, 3])
    assert Chem.MolToSmiles(core_bonds(stretched).mol) == "CCC"
    assert (
        core_bonds(replace(stretched, core=Core(np.array([[0, 1, 2]]), np.array([1, 0])))).mol is None
    )  # CH2=C with H3


def test_charges_of_the_core_stay() -> None:
    ammonium = replace(
        chain(0.0, 1.5, -1.45, hydrogens=[2, 3, 3], numbers=[7, 6, 6]), charges=np.array([1, 0, 0], dtype=np.int64)
    )
    assert Chem.MolToSmiles(core_bonds(ammonium).mol) == "C[NH2+]C"


@pytest.mark.parametrize("x", [0.3, 0.05])
def test_an_atom_on_top_of_the_core_is_an_overlap(x: float) -> None:
    assert core_bonds(chain(0.0, 1.5, x, hydrogens=[2, 3, 3])).reason == "overlap"


def test_a_molecule_without_a_core_is_refused() -> None:
    with pytest.raises(ValueError, match="no core"):
        core_bonds(replace(chain(0.0, 1.5, hydrogens=[3, 3]), core=None))
