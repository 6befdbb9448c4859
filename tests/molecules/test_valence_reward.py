"""The reward of valences: hand-counted defects, agreement with the reader of bonds, and samples without a value."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.valence import Defects, count_defects, count_fragments, valence_bonds
from molrl.rewards.molecules.geometry import NO_GEOMETRY
from molrl.rewards.molecules.valence import NO_CHARGES, Valence
from molrl.rewards.scores import Scored
from molrl.testing import check_reward
from molrl.testing.laws import random_order, random_rotation

REWARD = Valence()
DRUGS = ("CC(=O)Oc1ccccc1C(=O)O", "C[N+](C)(C)CC([O-])=O", "CS(=O)(=O)Nc1ccc([N+](=O)[O-])cc1", "N#Cc1ccncc1")


def embedded(smiles: str) -> Molecule:
    """Return the heavy atoms with their hydrogens and charges, bonds unknown."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    heavy = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    return Molecule(
        np.array([atom.GetAtomicNum() for atom in heavy]),
        mol.GetConformer().GetPositions()[[atom.GetIdx() for atom in heavy]].astype(np.float32),
        np.array([atom.GetTotalNumHs(includeNeighbors=True) for atom in heavy]),
        charges=np.array([atom.GetFormalCharge() for atom in heavy]),
    )


def with_hydrogens(sample: Molecule, changes: dict[int, int]) -> Molecule:
    assert sample.hydrogens is not None
    hydrogens = sample.hydrogens.copy()
    for atom, count in changes.items():
        hydrogens[atom] = count
    return replace(sample, hydrogens=hydrogens)


def side_by_side(one: Molecule, other: Molecule, apart: float = 50.0) -> Molecule:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("numbers", "positions", "hydrogens", "charges")]
    shifted = [(first, second + apart * (first.ndim == 2)) for first, second in pairs]
    numbers, positions, hydrogens, charges = (np.concatenate(pair) for pair in shifted)
    return Molecule(
        numbers.astype(np.int64), positions.astype(np.float32), hydrogens.astype(np.int64), charges=charges.astype(int)
    )


@pytest.mark.parametrize("smiles", DRUGS)
def test_a_molecule_has_no_defect(smiles: str) -> None:
    assert count_defects(embedded(smiles)) == Defects(0, 1)
    assert REWARD.score_one(embedded(smiles)) == Scored(1.0)


def test_each_wrong_atom_halves_the_reward() -> None:
    """Atoms of decane that lack a hydrogen and have no neighbour in common; a double bond would only pass it on."""
    whole = embedded("CCCCCCCCCC")
    for wrong, atoms in enumerate(([], [0], [0, 9], [0, 3, 9], [0, 3, 6, 9])):
        changes = {atom: 2 if atom in (0, 9) else 1 for atom in atoms}
        assert REWARD.score_one(with_hydrogens(whole, changes)) == Scored(0.5**wrong)


def test_one_atom_is_wrong_where_it_explains_two() -> None:
    """Two CH2 at one carbon of neopentane: with two double bonds that carbon alone is wrong."""
    assert count_defects(with_hydrogens(embedded("CC(C)(C)C"), {0: 2, 2: 2})) == Defects(1, 1)


def test_neighbours_that_lack_a_hydrogen_each_are_a_double_bond_only_where_it_is_as_short() -> None:
    for length, expected in ((1.34, 1.0), (1.50, 1.0), (1.80, 0.25)):
        positions = np.array([[0, 0, 0], [length, 0, 0]], np.float32)
        ethene = Molecule(np.array([6, 6]), positions, np.array([2, 2]), charges=np.array([0, 0]))
        assert REWARD.score_one(ethene) == Scored(expected)
        assert (valence_bonds(ethene).mol is not None) == (expected == 1)


def test_each_further_fragment_halves_the_reward() -> None:
    two = side_by_side(embedded("CCO"), embedded("CC#N"))
    assert count_defects(two) == Defects(0, 2)
    assert REWARD.score_one(two) == Scored(0.5)
    assert REWARD.score_one(side_by_side(two, with_hydrogens(embedded("CCO"), {0: 2}), 100.0)) == Scored(0.125)


@given(seed=st.integers(0, 10**6), changed=st.integers(0, 3), noise=st.floats(0, 0.15))
@settings(deadline=None, max_examples=60)
def test_a_sample_has_no_defect_just_where_its_bonds_can_be_read(seed: int, changed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    sample = embedded(DRUGS[seed % len(DRUGS)])
    moved = (sample.positions + noise * rng.normal(size=sample.positions.shape)).astype(np.float32)
    atoms = rng.choice(len(sample), changed, replace=False).tolist()
    broken = with_hydrogens(replace(sample, positions=moved), {atom: int(rng.integers(4)) for atom in atoms})
    found, reading = count_defects(broken), valence_bonds(broken)
    if reading.mol is not None:
        assert found == Defects(0, len(Chem.GetMolFrags(reading.mol)))
    else:
        assert found is None or found.atoms > 0
    if found is not None:  # an atom that is wrong was changed, or has a bond to one that was, or moved
        assert noise > 0 or found.atoms <= changed * 5


def test_the_laws_of_rewards() -> None:
    rotation = random_rotation().numpy()

    def moved(sample: Molecule) -> Molecule:
        return replace(sample, positions=(sample.positions @ rotation + [3.0, -2.0, 1.0]).astype(np.float32))

    def reordered(sample: Molecule) -> Molecule:
        order = random_order(len(sample)).numpy()
        assert sample.hydrogens is not None
        assert sample.charges is not None
        return Molecule(
            sample.numbers[order], sample.positions[order], sample.hydrogens[order], charges=sample.charges[order]
        )

    whole = embedded(DRUGS[0])
    check_reward(
        REWARD,
        [whole, with_hydrogens(whole, {0: 2}), side_by_side(whole, embedded("CO"))],
        bad_samples=[
            replace(whole, positions=whole.positions * np.nan),
            replace(whole, positions=np.ones_like(whole.positions)),
        ],
        invariances={"rotation and shift": moved, "order of the atoms": reordered},
    )


def test_what_is_not_known_is_not_scored() -> None:
    whole = embedded("CCO")
    for sample, reason in ((replace(whole, charges=None), NO_CHARGES), (flat(whole), NO_GEOMETRY)):
        scored = REWARD.score_one(sample)
        assert math.isnan(scored.value)
        assert scored.reason == reason
    with pytest.raises(ValueError, match="no formal charges"):
        count_defects(replace(whole, charges=None))


def flat(sample: Molecule) -> Molecule:
    """Return the molecule as a graph alone."""
    return replace(sample, graph=Chem.MolFromSmiles("CCO"), positions=np.zeros_like(sample.positions))


@pytest.mark.parametrize(
    ("bonds", "count"), [([], 5), ([(0, 1)], 4), ([(0, 4), (4, 2), (1, 3)], 2), ([(0, 1), (1, 2), (2, 3), (3, 4)], 1)]
)
def test_fragments_are_counted(bonds: list[tuple[int, int]], count: int) -> None:
    bonded = np.zeros((5, 5), dtype=np.bool_)
    for first, second in bonds:
        bonded[first, second] = bonded[second, first] = True
    assert count_fragments(bonded) == count
