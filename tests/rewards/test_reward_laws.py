"""Rewards of every domain obey the laws of `molrl.testing.check_reward`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from solids import box, cloud, sphere, table

from molrl.data.images.image import CaptionedImage
from molrl.data.molecules.bonds import edm_table
from molrl.data.molecules.molecule import Molecule
from molrl.data.shapes.cloud import PointCloud
from molrl.rewards.images.jpeg import JPEGSize
from molrl.rewards.molecules.logp import LogP
from molrl.rewards.molecules.qed import QED
from molrl.rewards.molecules.sa import SA, Synthesisability
from molrl.rewards.shapes.compactness import Compactness
from molrl.rewards.shapes.proportions import Proportions
from molrl.rewards.shapes.smoothness import Smoothness
from molrl.rewards.shapes.stability import StabilityMargin
from molrl.rewards.shapes.symmetry import MirrorSymmetry
from molrl.testing import check_reward
from molrl.testing.laws import random_order, random_rotation

ROTATION = random_rotation().numpy()
MOLECULES = [QED(reader=edm_table), SA(reader=edm_table), Synthesisability(reader=edm_table), LogP(reader=edm_table)]
STANDING = [StabilityMargin(plate=0.25), MirrorSymmetry(), Proportions(size=[1, 2, 1])]
TURNING = [Compactness(), Smoothness()]


def class_name(reward: object) -> str:
    return type(reward).__name__


def embedded(smiles: str) -> Molecule:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    return Molecule(numbers, mol.GetConformer().GetPositions().astype(np.float32))


def moved(sample: Molecule) -> Molecule:
    return Molecule(sample.numbers, (sample.positions @ ROTATION + [3.0, -2.0, 1.0]).astype(np.float32))


def mirrored(sample: Molecule) -> Molecule:
    return Molecule(sample.numbers, (sample.positions * [1, 1, -1]).astype(np.float32))


def reordered(sample: Molecule) -> Molecule:
    order = random_order(len(sample.numbers)).numpy()
    return Molecule(sample.numbers[order], sample.positions[order])


@pytest.mark.parametrize("reward", MOLECULES, ids=class_name)
def test_rewards_of_molecules(reward: Any) -> None:
    lone = Molecule(np.array([6, 6]), np.array([[0, 0, 0], [9, 0, 0]], dtype=np.float32))
    lost = Molecule(np.array([6, 8]), np.full((2, 3), np.nan, dtype=np.float32))
    check_reward(
        reward,
        [embedded("CCC(C)O"), embedded("CO"), embedded("CCOC")],
        bad_samples=[lone, lost],
        invariances={"rotation and shift": moved, "reflection": mirrored, "order of the atoms": reordered},
    )


def shape_changes() -> dict[str, Callable[[PointCloud], PointCloud]]:
    return {
        "order of the points": lambda sample: cloud(sample.points[random_order(len(sample.points)).numpy()]),
        "shift and scale": lambda sample: cloud((sample.points * 4 + [3, -5, 7]).astype(np.float32)),
    }


@pytest.mark.parametrize("reward", [*STANDING, *TURNING], ids=class_name)
def test_rewards_of_shapes(reward: Any) -> None:
    pytest.importorskip("scipy")
    samples = [cloud(points) for points in (box(1, 2, 3), table(), sphere())]
    bad = [cloud(np.zeros((200, 3))), cloud(sphere(20))]
    changes = shape_changes()
    if reward in TURNING:
        changes["rotation"] = lambda sample: cloud((sample.points @ ROTATION).astype(np.float32))
    check_reward(reward, samples, bad_samples=bad, invariances=changes, atol=1e-3)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_rewards_of_images(sign: float) -> None:
    rng = np.random.default_rng(0)
    samples = [CaptionedImage(rng.integers(0, level, (32, 32, 3), dtype=np.uint8)) for level in (2, 50, 256)]
    bad = CaptionedImage(samples[0].pixels, flaw="not finite")
    check_reward(JPEGSize(sign=sign, quality=95, above_flat=True), samples, bad_samples=[bad])


def test_a_bad_molecule_that_is_scored_breaks_a_law() -> None:
    with pytest.raises(AssertionError, match="bad samples get the floor"):
        check_reward(MOLECULES[0], [embedded("CO"), embedded("CCO")], bad_samples=[embedded("CCC")])
