"""Rewards of the geometry: published values, invariances, and samples without a geometry."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from test_molecule_rewards import ASPIRIN, BAD, embedded, from_smiles

from molrl.data.molecules.bonds import edm_table, rdkit_bonds
from molrl.data.molecules.molecule import Molecule, count_hydrogens
from molrl.rewards.molecules.geometry import NO_GEOMETRY
from molrl.rewards.molecules.graph import MAX_HEAVY
from molrl.rewards.molecules.plausibility import Plausibility
from molrl.rewards.molecules.stability import Stability
from molrl.rewards.molecules.strain import MAX_STRAIN, Strain
from molrl.rewards.scores import Explained, PerSample, Scored

STRAIN = Strain(reader=rdkit_bonds, steps=500)
PLAUSIBILITY = Plausibility(reader=rdkit_bonds)
REWARDS: list[Stability | Strain | Plausibility] = [Stability(), STRAIN, PLAUSIBILITY]

each_reward = pytest.mark.parametrize("reward", REWARDS, ids=lambda reward: type(reward).__name__)


def at(smiles: str, positions: list[list[float]] | NDArray[np.floating]) -> Molecule:
    """Return the heavy atoms of a SMILES at these positions, with its bonds."""
    mol = Chem.MolFromSmiles(smiles)
    atoms = list(mol.GetAtoms())
    return Molecule(
        np.array([atom.GetAtomicNum() for atom in atoms], dtype=np.int64),
        np.array(positions, dtype=np.float32),
        np.array([atom.GetTotalNumHs() for atom in atoms], dtype=np.int64),
        graph=mol,
    )


def relaxed(smiles: str) -> Molecule:
    """Return all atoms at a minimum of MMFF94, bonds unknown."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    assert rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=5000) == 0
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    return Molecule(numbers, mol.GetConformer().GetPositions().astype(np.float32))


def turned(sample: Molecule) -> Molecule:
    """Return the mirror image of a sample, rotated and shifted."""
    matrix = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    return replace(sample, positions=(sample.positions @ matrix + [3.0, -2.0, 1.0]).astype(np.float32))


def shaken(sample: Molecule, size: float) -> Molecule:
    noise = np.random.default_rng(0).normal(size=sample.positions.shape) * size
    return replace(sample, positions=(sample.positions + noise).astype(np.float32))


def test_stability_is_that_of_edm() -> None:
    """EDM's table has no aromatic bonds: six carbons of benzene with three bonds each, and six sound hydrogens."""
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], axis=1)
    benzene = Molecule(np.array([6] * 6 + [1] * 6), np.concatenate([1.393 * ring, 2.477 * ring]).astype(np.float32))
    assert Stability().score_one(benzene) == Scored(0.5)
    assert Stability().score_one(relaxed("CCO")) == Scored(1.0)
    assert Stability().score_one(count_hydrogens(relaxed("CCO"))) == Scored(1.0)


def test_a_missing_hydrogen_makes_its_atom_unstable() -> None:
    whole = relaxed("CCO")
    assert Stability()([Molecule(whole.numbers[:-1], whole.positions[:-1])]).item() == pytest.approx(7 / 8)


@pytest.mark.parametrize("stretch", [-0.1, 0.1, 0.3])
def test_strain_of_a_stretched_bond_is_that_of_the_published_force_field(stretch: float) -> None:
    """UFF, which is used where MMFF94 has no type (Rappe et al. 1992, doi:10.1021/ja00051a040, Eqs. 1, 2 and 6).

    k = 664.12 Z* Z* / r^3 and E = k (r' - r)^2 / 2 with the radius 1.336 and the effective charge 1.026 of lithium.
    """
    rest = 2 * 1.336
    k = 664.12 * 1.026**2 / rest**3
    sample = at("[Li][Li]", [[0, 0, 0], [rest + stretch, 0, 0]])
    assert STRAIN([sample]).item() == pytest.approx(k * stretch**2 / 2 / 2, rel=1e-4)


def test_strain_of_eclipsed_ethane_is_its_barrier() -> None:
    """2.9 kcal/mol by experiment (Hirota, Saito and Endo 1979, J. Chem. Phys. 71, 1183); all else stays as it was."""
    ethane = relaxed("CC")
    axis = ethane.positions[1] - ethane.positions[0]
    x, y, z = axis / np.linalg.norm(axis)
    cross, turn = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), np.pi / 3
    matrix = np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) * cross @ cross
    positions = ethane.positions.copy()
    positions[5:] = (positions[5:] - positions[1]) @ matrix.T + positions[1]
    eclipsed = shaken(replace(ethane, positions=positions), 0.001)  # off the ridge
    assert 2 * STRAIN([eclipsed]).item() == pytest.approx(2.9, abs=0.5)


def test_a_relaxed_geometry_has_no_strain() -> None:
    sample = relaxed("CC(=O)Oc1ccccc1C(=O)O")
    assert STRAIN([sample]).item() == pytest.approx(0, abs=0.01)


def test_strain_grows_with_the_noise_and_ends_at_its_worst() -> None:
    sample = at("CCO", relaxed("CCO").positions[:3])
    scores = [STRAIN.score_one(shaken(sample, size)) for size in (0.0, 0.05, 0.1, 0.2)]
    assert [scored.value for scored in scores] == sorted({scored.value for scored in scores})
    overlapping = replace(sample, positions=sample.positions * 0.01)
    assert STRAIN.score_one(overlapping) == Scored(MAX_STRAIN)


def test_hydrogens_that_have_no_positions_are_relaxed_before_the_heavy_atoms_are_scored() -> None:
    whole = relaxed("CC(C)O")
    assert STRAIN([count_hydrogens(whole)]).item() == pytest.approx(STRAIN([whole]).item(), abs=0.05)


def test_more_steps_find_no_less_strain() -> None:
    sample = shaken(at(ASPIRIN, relaxed(ASPIRIN).positions[:13]), 0.1)
    values = [Strain(reader=rdkit_bonds, steps=steps)([sample]).item() for steps in (5, 50, 500)]
    assert values == sorted(values)


def test_an_element_that_no_force_field_knows_is_not_scored() -> None:
    scored = STRAIN.score_one(at("[Rf]", [[0, 0, 0]]))
    assert (math.isnan(scored.value), scored.reason) == (True, "no force field")


def test_strain_takes_at_least_one_step() -> None:
    with pytest.raises(ValueError, match="steps: got 0, need at least 1"):
        Strain(reader=rdkit_bonds, steps=0)


# Where the result of PoseBusters 0.6.5 (check_geometry with the tolerances of its configuration `mol`) changes
@pytest.mark.parametrize(
    ("smiles", "positions", "result"),
    [
        ("CC", [[0, 0, 0], [1.10, 0, 0]], (False, True, True)),
        ("CC", [[0, 0, 0], [1.13, 0, 0]], (True, True, True)),
        ("CC", [[0, 0, 0], [1.90, 0, 0]], (True, True, True)),
        ("CC", [[0, 0, 0], [1.92, 0, 0]], (False, True, True)),
        ("CCC", [[1.54, 0, 0], [0, 0, 0], [0.5267, 1.4471, 0]], (True, False, True)),  # 70 degrees
        ("CCC", [[1.54, 0, 0], [0, 0, 0], [0.4245, 1.4803, 0]], (True, True, True)),  # 74 degrees
        ("COC", [[1.42, 0, 0], [0, 0, 0], [0.4857, 1.3344, 0]], (True, False, True)),  # 70 degrees
        ("COC", [[1.42, 0, 0], [0, 0, 0], [0.2466, 1.3984, 0]], (True, True, True)),  # 80 degrees
    ],
)
def test_bonds_and_angles_are_checked_as_by_posebusters(
    smiles: str, positions: list[list[float]], result: tuple[bool, bool, bool]
) -> None:
    parts = PLAUSIBILITY.explain(at(smiles, positions))
    assert tuple(parts[name] == 1.0 for name in ("lengths", "angles", "clashes")) == result


def test_a_sound_geometry_is_plausible_and_every_impossible_atom_costs_its_share() -> None:
    sample = relaxed("CCCCCC")
    chain = at("CCCCCC", sample.positions[:6])
    assert PLAUSIBILITY.score_one(chain) == Scored(1.0)
    torn = chain.positions.copy()
    torn[5] += 1.0 * (torn[5] - torn[4])  # its bond is twice as long
    scored = PLAUSIBILITY.score_one(replace(chain, positions=torn))
    assert isinstance(scored, Explained)
    assert scored.parts["lengths"] == pytest.approx(4 / 6)
    assert scored.value <= scored.parts["lengths"]


def test_ends_that_meet_are_a_clash() -> None:
    chain = at("CCCCCC", relaxed("CCCCCC").positions[:6])
    met = chain.positions.copy()
    met[5] = met[0] + [0.0, 0.0, 1.8]
    assert PLAUSIBILITY.explain(replace(chain, positions=met))["clashes"] < 1
    assert PLAUSIBILITY.explain(chain)["clashes"] == 1


@each_reward
@pytest.mark.parametrize("counted", [False, True])
def test_rotating_shifting_and_mirroring_change_nothing(reward: PerSample[Molecule], counted: bool) -> None:
    sample = shaken(relaxed("CCC(C)O"), 0.03)
    sample = count_hydrogens(sample) if counted else sample
    first, second = reward.score([sample, turned(sample)]).scored
    assert (first.reason, second.reason) == ("", "")
    assert second.value == pytest.approx(first.value, rel=0.02)


@each_reward
def test_the_order_of_the_atoms_changes_nothing(reward: PerSample[Molecule]) -> None:
    sample = shaken(relaxed("CCC(C)O"), 0.03)
    order = np.random.default_rng(0).permutation(len(sample))
    other = Molecule(sample.numbers[order], sample.positions[order])
    first, second = reward([sample, other]).tolist()
    assert second == pytest.approx(first, rel=0.02)


@each_reward
def test_permuting_the_batch_permutes_the_values(reward: PerSample[Molecule]) -> None:
    samples = [relaxed("CO"), shaken(relaxed("CCO"), 0.1), from_smiles(""), from_smiles(ASPIRIN)]
    scores = reward.score(samples)
    assert reward.score(samples[::-1]).reasons == scores.reasons[::-1]
    assert np.array_equal(reward.score(samples[::-1]).values, scores.values[::-1], equal_nan=True)


@each_reward
def test_a_sample_without_a_geometry_is_not_scored(reward: PerSample[Molecule]) -> None:
    scored = reward.score_one(from_smiles(ASPIRIN))
    assert (math.isnan(scored.value), scored.reason) == (True, NO_GEOMETRY)


@each_reward
def test_a_geometry_without_numbers_gets_the_floor(reward: Stability | Strain | Plausibility) -> None:
    for value in (math.nan, math.inf):
        sample = embedded("CO")
        sample.positions[1, 2] = value
        assert reward.score_one(sample) == Scored(reward.floor, "non-finite positions")


@each_reward
def test_too_many_atoms_are_not_scored_and_none_get_the_floor(reward: Stability | Strain | Plausibility) -> None:
    many = Molecule(
        np.full(MAX_HEAVY + 1, 6), np.random.default_rng(0).normal(size=(MAX_HEAVY + 1, 3)).astype(np.float32)
    )
    scored = reward.score_one(many)
    assert math.isnan(scored.value)
    assert scored.reason == f"too large: {MAX_HEAVY + 1} heavy atoms, at most {MAX_HEAVY}"
    assert reward.score_one(from_smiles("")) == Scored(reward.floor, "no atoms")


@pytest.mark.parametrize("reward", [STRAIN, PLAUSIBILITY], ids=lambda reward: type(reward).__name__)
@pytest.mark.parametrize("smiles", ["C[CH2]", "C.C"])
def test_a_bad_graph_gets_the_floor_whatever_its_geometry(reward: Strain | Plausibility, smiles: str) -> None:
    sample = replace(from_smiles(smiles), positions=np.eye(3, dtype=np.float32)[:2] * 3)
    assert reward.score_one(sample) == Scored(reward.floor, BAD.get(smiles, "disconnected: 2 fragments"))


def test_an_overcrowded_geometry_gets_the_floor() -> None:
    sample = embedded("CCO")
    crowded = Molecule(sample.numbers, sample.positions * 0.6)
    for reward in (Strain(reader=edm_table, steps=10), Plausibility(reader=edm_table)):
        assert reward.score_one(crowded) == Scored(reward.floor, "valence")
