"""EDM's protocol: the published rules on molecules small enough to apply them by hand."""

import itertools

import numpy as np
import pytest
from rdkit import Chem

from molrl.data.molecules.edm_protocol import edm_smiles, edm_smiles_set, measure_edm
from molrl.data.molecules.molecule import Molecule

H, C, N, O = 1, 6, 7, 8  # noqa: E741


def tetrahedron(length: float) -> list[list[float]]:
    """Return four positions at a distance from the origin, far from one another."""
    return [[length / 3**0.5 * sign for sign in signs] for signs in [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]]


def molecule(numbers: list[int], positions: list[list[float]]) -> Molecule:
    return Molecule(np.array(numbers), np.array(positions, dtype=np.float32))


METHANE = molecule([C, H, H, H, H], [[0, 0, 0], *tetrahedron(1.09)])
METHYL = molecule([C, H, H, H], [[0, 0, 0], *tetrahedron(1.09)[:3]])
# C=O of 1.20 A is double in the table, and three C-H make it five bonds.
PROTONATED = molecule([C, O, H, H, H], [[0, 0, 0], [0, 0, 1.2], [1, 0.3, -0.3], [-0.7, 0.8, -0.3], [-0.5, -0.9, -0.3]])
# DFT benzene, 1.393 A: the table's double bond ends at 1.39 A, so six single bonds are read.
ANGLES = [k * np.pi / 3 for k in range(6)]
BENZENE = molecule(
    [C] * 6 + [H] * 6,
    [[r * np.cos(a), r * np.sin(a), 0] for r in (1.393, 1.393 + 1.087) for a in ANGLES],
)
FAR = molecule([C, O, *[H] * 4, N], [*METHANE.positions[:1].tolist(), [9, 9, 9], *tetrahedron(1.09), [-9, 9, 9]])


def test_a_carbon_with_five_bonds_is_valid_on_geom_alone() -> None:
    """On GEOM all bonds are single before RDKit sees them (limit_bonds_to_one in qm9/rdkit_functions.py)."""
    quality = measure_edm([METHANE, PROTONATED], 2, None)
    assert (quality.validity, quality.geom_validity) == (0.5, 1.0)


def test_a_missing_hydrogen_is_filled_in_and_the_molecule_is_another_one() -> None:
    assert edm_smiles(METHANE) == "[H]C([H])([H])[H]"
    assert edm_smiles(METHYL) == "[H]C([H])[H]"
    quality = measure_edm([METHANE, METHYL, METHANE, PROTONATED], 5, frozenset({"[H]C([H])([H])[H]"}))
    assert quality.validity == pytest.approx(3 / 5)
    assert quality.uniqueness == pytest.approx(2 / 3)
    assert quality.valid_and_unique == pytest.approx(2 / 5)
    assert quality.novelty == pytest.approx(1 / 2)


def test_benzene_is_read_as_a_ring_of_single_bonds() -> None:
    mol = Chem.MolFromSmiles(edm_smiles(BENZENE))
    assert Chem.MolToSmiles(mol) == "C1CCCCC1"


def test_the_fragment_of_the_most_atoms_gives_the_smiles() -> None:
    assert edm_smiles(FAR) == "[H]C([H])([H])[H]"
    assert edm_smiles_set([FAR, METHANE, PROTONATED]) == {"[H]C([H])([H])[H]"}


def test_the_order_of_the_atoms_does_not_matter() -> None:
    for order in itertools.permutations(range(5)):
        rows = np.array(order)
        assert edm_smiles(Molecule(METHANE.numbers[rows], METHANE.positions[rows])) == "[H]C([H])([H])[H]"


def test_nothing_has_no_figures_and_a_broken_molecule_is_invalid() -> None:
    nothing = measure_edm([], 0, frozenset())
    assert (nothing.validity, nothing.geom_validity, nothing.uniqueness, nothing.novelty) == (None,) * 4
    broken = Molecule(METHANE.numbers, np.full((5, 3), np.nan, dtype=np.float32))
    assert measure_edm([broken], 1, None).geom_validity == 0
