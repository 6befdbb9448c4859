"""The strain of a pose as a reward."""

import math

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolTransforms
from test_pose import imatinib

from molrl.building import build
from molrl.composition import compose
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.perception import perceive_bonds
from molrl.rewards.molecules.docking.pose_strain import MAX_STRAIN, PoseStrain
from molrl.rewards.wrapping import parts_of
from molrl.testing import check_reward
from molrl.testing.laws import random_rotation


def reward(conformers: int = 10) -> PoseStrain:
    return PoseStrain(conformers=conformers, seed=0, reader=rdkit_bonds)


def twisted(smiles: str, torsion: tuple[int, int, int, int], angle: float) -> Molecule:
    """Return a molecule of which a torsion has an angle in degrees."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    rdMolTransforms.SetDihedralDeg(mol.GetConformer(), *torsion, angle)
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    return Molecule(numbers, mol.GetConformer().GetPositions().astype(np.float32))


def butane(angle: float) -> Molecule:
    return twisted("CCCC", (0, 1, 2, 3), angle)


def test_a_gauche_minimum_has_global_strain_and_no_local_one() -> None:
    """Gauche butane is a minimum 0.7 to 0.9 kcal/mol above anti, by experiment and by calculation."""
    anti, gauche = reward().score([butane(180.0), butane(65.0)]).scored
    assert anti.value == pytest.approx(0.0, abs=0.02)
    assert 0.7 < gauche.value < 0.9
    assert parts_of(gauche)["local"] == pytest.approx(0.0, abs=0.02)


def test_a_twisted_amide_has_local_strain() -> None:
    """The barrier of an amide is 15 to 20 kcal/mol; at 60 degrees it has three quarters, of which a relaxation of 0.3
    angstrom takes a part: the rest is lost on the way to the planar minimum, which is the global one.
    """
    scored = reward().score_one(twisted("O=C(Nc1ccccc1)c1ccccc1", (0, 1, 2, 3), 60.0))
    assert 3.0 < scored.value < 15.0
    assert parts_of(scored)["local"] == pytest.approx(scored.value, abs=0.5)


def test_lengths_and_angles_within_the_shift_cost_nothing() -> None:
    """A carbon moved by 0.2 angstrom costs some 20 kcal/mol as it is."""
    sample = butane(180.0)
    positions = sample.positions.copy()
    positions[0] += (positions[0] - positions[1]) / np.linalg.norm(positions[0] - positions[1]) * 0.2
    assert reward().score_one(Molecule(sample.numbers, positions)).value == pytest.approx(0.0, abs=0.1)


def test_the_laws_of_rewards_hold() -> None:
    rotation = random_rotation().numpy()
    lone = Molecule(np.array([6, 6]), np.array([[0, 0, 0], [9, 0, 0]], dtype=np.float32))
    check_reward(
        reward(),
        [butane(180.0), butane(65.0), butane(80.0)],
        bad_samples=[lone],
        invariances={"rotation": lambda one: Molecule(one.numbers, (one.positions @ rotation).astype(np.float32))},
        atol=0.05,
    )
    assert reward().score_one(lone).value == MAX_STRAIN


def test_an_atom_without_parameters_is_a_lost_measurement() -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles("C[Se]C"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    sample = Molecule(numbers, mol.GetConformer().GetPositions().astype(np.float32))
    value, reason = PoseStrain(conformers=2, seed=0, reader=perceive_bonds).score_one(sample)
    assert math.isnan(value)
    assert reason.startswith("no force field")


def test_the_shipped_setting_is_a_desirability_of_a_crystal_pose() -> None:
    """Imatinib in c-Abl, protonated nowhere here: its pose is that of a minimum within the strains of crystals."""
    built = build(compose("score", ["reward=pose_strain", "file=x.sdf"])["reward"], "reward").scorer
    scored = built.score_one(imatinib())
    parts = parts_of(scored)
    assert 0.0 <= parts["measured.local"] <= parts["measured"] < 18.0
    assert scored.value == pytest.approx(min(1.0, (18 - parts["measured"]) / 13), abs=1e-6)


@pytest.mark.parametrize("conformers", [0, 101])
def test_a_wrong_number_of_conformers_is_refused(conformers: int) -> None:
    with pytest.raises(ValueError, match=r"conformers: got .*, need 1 to 100"):
        reward(conformers)
