"""Laws of molecules and of many in flat arrays: their bonds are those of RDKit, whatever is chosen or counted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rdkit import Chem

from molrl.data.molecules.molecule import Molecule, Molecules, count_hydrogens
from molrl.data.molecules.smiles import read_smiles

SMILES = (
    *("CC(=O)Nc1ccc(O)cc1", "C[N+](=O)[O-]", "C#N", "[H]OC([2H])=C"),
    *("c1cc[nH]c1", "C", "OS(=O)(=O)C", "[O-]CC[NH3+]"),
)
ORDERS = {1.0: 1, 2.0: 2, 3.0: 3, 1.5: 4}


@pytest.fixture(scope="module")
def molecules() -> list[Molecule]:
    found, report = read_smiles(SMILES)
    assert not report.skipped
    return found


def order_matrix(molecule: Molecule) -> NDArray[np.int64]:
    """Return the orders of a molecule's bonds as a symmetric matrix."""
    matrix = np.zeros((len(molecule), len(molecule)), dtype=np.int64)
    assert molecule.bonds is not None
    for first, second, order in molecule.bonds.tolist():
        assert first < second
        matrix[first, second] = matrix[second, first] = order
    return matrix


def graph_matrix(mol: Chem.Mol | None) -> NDArray[np.int64]:
    """Return the same matrix by RDKit's own count of orders, 1.5 for aromatic bonds."""
    assert mol is not None
    orders = Chem.GetAdjacencyMatrix(mol, useBO=True)
    return np.array([[ORDERS.get(order, 0) for order in row] for row in orders.tolist()])


def test_bonds_are_those_of_the_graph(molecules: list[Molecule]) -> None:
    for molecule in molecules:
        np.testing.assert_array_equal(order_matrix(molecule), graph_matrix(molecule.graph))


def test_counting_hydrogens_leaves_the_bonds_between_heavy_atoms(molecules: list[Molecule]) -> None:
    for molecule in molecules:
        counted, bare = count_hydrogens(molecule), Chem.RemoveAllHs(molecule.graph)
        np.testing.assert_array_equal(order_matrix(counted), graph_matrix(bare))
        assert counted.hydrogens is not None
        assert counted.hydrogens.tolist() == [atom.GetTotalNumHs() for atom in bare.GetAtoms()]
        assert counted.charges is not None
        assert counted.charges.tolist() == [atom.GetFormalCharge() for atom in bare.GetAtoms()]


def test_a_hydrogen_counts_on_the_atom_that_it_is_bonded_to() -> None:
    """Its neighbour in space is the oxygen; without bonds the nearest atom has to do."""
    positions = np.array([[0, 0, 0], [1.2, 0, 0], [0.9, 0.3, 0]], np.float32)
    numbers, bonds = np.array([6, 8, 1]), np.array([[0, 1, 2], [0, 2, 1]])
    by_bond = count_hydrogens(Molecule(numbers, positions, bonds=bonds)).hydrogens
    by_distance = count_hydrogens(Molecule(numbers, positions)).hydrogens
    assert by_bond is not None
    assert by_distance is not None
    assert (by_bond.tolist(), by_distance.tolist()) == ([1, 0], [0, 1])


@pytest.mark.parametrize("bonds", [np.array([[0, 1, 1]]), np.zeros((0, 3), np.int64)])
def test_a_hydrogen_without_a_bond_to_a_heavy_atom_is_refused(bonds: NDArray[np.int64]) -> None:
    molecule = Molecule(np.array([6, 8, 1]), np.zeros((3, 3), np.float32), bonds=bonds)
    with pytest.raises(ValueError, match="hydrogen without a heavy atom"):
        count_hydrogens(molecule)


@given(st.lists(st.integers(0, len(SMILES) - 1), max_size=12))
def test_rows_of_flat_arrays_are_the_molecules(molecules: list[Molecule], rows: list[int]) -> None:
    packed = Molecules.pack(molecules)
    chosen = packed.take(np.array(rows, dtype=np.int64))
    halves = Molecules.join([chosen[: len(rows) // 2], Molecules.pack(()), chosen[len(rows) // 2 :]])
    for taken, joined, row in zip(chosen, halves, rows, strict=True):
        for field in ("numbers", "positions", "charges", "bonds"):
            np.testing.assert_array_equal(getattr(taken, field), getattr(molecules[row], field))
            np.testing.assert_array_equal(getattr(joined, field), getattr(molecules[row], field))
        assert taken.name == joined.name == SMILES[row]


def test_flat_arrays_hold_one_row_for_each_atom_and_bond(molecules: list[Molecule]) -> None:
    packed = Molecules.pack(molecules)
    graphs = [molecule.graph for molecule in molecules if molecule.graph is not None]
    atoms, bonds = (sum(counts) for counts in zip(*((g.GetNumAtoms(), g.GetNumBonds()) for g in graphs), strict=True))
    assert packed.bonds is not None
    assert packed.charges is not None
    assert (packed.numbers.shape, packed.positions.shape, packed.charges.shape) == ((atoms,), (atoms, 3), (atoms,))
    assert packed.bonds.shape == (bonds, 3)
    assert packed.bond_counts is not None
    assert packed.bond_counts.tolist() == [graph.GetNumBonds() for graph in graphs]


def test_bonds_and_charges_are_kept_where_all_molecules_have_some(molecules: list[Molecule]) -> None:
    mixed = [molecules[0], replace(molecules[1], bonds=None)]
    assert Molecules.pack(mixed).bonds is None
    assert Molecules.pack(mixed).charges is not None
    assert Molecules.join([Molecules.pack(mixed[:1]), Molecules.pack(mixed[1:])]).bonds is None


def test_hydrogen_counts_of_some_parts_only_are_refused(molecules: list[Molecule]) -> None:
    parts = [Molecules.pack(molecules[:1]), Molecules.pack([count_hydrogens(molecules[1])])]
    with pytest.raises(ValueError, match="hydrogen counts"):
        Molecules.join(parts)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"bonds": np.zeros((2, 2), np.int64)}, r"bonds of molecule .*: got shape \(2, 2\), expected \(k, 3\)"),
        ({"bonds": np.zeros(3, np.int64)}, r"bonds of molecule .*: got shape \(3,\)"),
        ({"charges": np.zeros(1, np.int64)}, r"charges of molecule .*: got shape \(1,\), expected \(2,\)"),
    ],
)
def test_arrays_of_other_shapes_are_refused(more: dict[str, NDArray[np.int64]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Molecule(np.array([6, 8]), np.zeros((2, 3), np.float32), **more)  # type: ignore[arg-type]


def test_flat_bonds_need_their_counts(molecules: list[Molecule]) -> None:
    packed = Molecules.pack(molecules)
    with pytest.raises(ValueError, match="bonds and bond_counts: expected both or neither"):
        replace(packed, bond_counts=None)
    with pytest.raises(ValueError, match=r"bonds of 8 molecules: got shape"):
        replace(packed, bond_counts=np.ones(len(SMILES), np.int64))
