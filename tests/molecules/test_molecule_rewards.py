"""Rewards of the molecular graph: golden values, invariances, and floors with a reason."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from faulty_scorers import Faulty, Square
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molrl.data.molecules.bonds import BondReader, edm_table, rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.graph import MAX_HEAVY, GraphReward
from molrl.rewards.molecules.logp import LogP
from molrl.rewards.molecules.qed import QED
from molrl.rewards.molecules.sa import SA, Synthesisability
from molrl.rewards.scores import PerSample, Scored, score_safely, scores

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
IMATINIB = "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1"
# QED, logP, SA from RDKit 2026.09.1 called on its own
GOLDEN = {
    ASPIRIN: (0.5501, 1.3101, 1.5800),
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O": (0.5385, -1.0293, 2.2980),
    "CC(C)Cc1ccc(C(C)C(=O)O)cc1": (0.8216, 3.0732, 2.1918),
    "CC(=O)Nc1ccc(O)cc1": (0.5950, 1.3506, 1.4073),
    IMATINIB: (0.3894, 4.5903, 2.3317),
    "c1ccccc1": (0.4426, 1.6866, 1.0000),
    "C": (0.3598, 0.6361, 7.3284),
}
REWARDS = [
    QED(reader=edm_table),
    SA(reader=edm_table),
    Synthesisability(reader=edm_table),
    LogP(reader=edm_table),
]
# A wrong descriptor would give these plausible values; see the reasons in `sound`.
BAD = {
    "": "no atoms",
    "*": "dummy atom",
    "*c1ccccc1": "dummy atom",
    f"{ASPIRIN}.C": "disconnected: 2 fragments",
    "C[CH2]": "radical: 1 unpaired electrons",
    "[H][H]": "no heavy atoms",
}

each_reward = pytest.mark.parametrize("reward", REWARDS, ids=lambda reward: type(reward).__name__)


def from_graph(mol: Chem.Mol) -> Molecule:
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    return Molecule(numbers, np.zeros((len(numbers), 3), dtype=np.float32), graph=mol)


def from_smiles(smiles: str) -> Molecule:
    return from_graph(Chem.MolFromSmiles(smiles))


def embedded(smiles: str) -> Molecule:
    """Return an embedded molecule with all atoms at positions, bonds unknown."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    return Molecule(numbers, mol.GetConformer().GetPositions().astype(np.float32))


@pytest.mark.parametrize(("smiles", "expected"), GOLDEN.items())
def test_scores_of_known_molecules(smiles: str, expected: tuple[float, float, float]) -> None:
    sample = [from_smiles(smiles)]
    values = [reward(sample).item() for reward in (QED(reader=edm_table), LogP(reader=edm_table), SA(reader=edm_table))]
    assert values == pytest.approx(expected, abs=1e-3)


def test_synthesisability_is_the_published_score_turned_and_scaled_to_one() -> None:
    samples = [from_smiles(smiles) for smiles in GOLDEN]
    sa, turned = SA(reader=edm_table)(samples), Synthesisability(reader=edm_table)(samples)
    torch.testing.assert_close(turned, (10 - sa) / 9)


@each_reward
def test_one_float32_for_each_sample(reward: GraphReward) -> None:
    for n in (0, 1, 3):
        values = reward([from_smiles(ASPIRIN)] * n)
        assert values.shape == (n,)
        assert values.dtype == torch.float32


@each_reward
def test_explicit_hydrogens_change_nothing(reward: GraphReward) -> None:
    mol = Chem.MolFromSmiles(ASPIRIN)
    assert reward.score([from_graph(mol)]) == reward.score([from_graph(Chem.AddHs(mol))])


@each_reward
def test_the_order_of_the_atoms_changes_nothing(reward: GraphReward) -> None:
    mol = Chem.MolFromSmiles(IMATINIB)
    order = np.random.default_rng(0).permutation(mol.GetNumAtoms()).tolist()
    assert reward.score([from_graph(mol)]) == reward.score([from_graph(Chem.RenumberAtoms(mol, order))])


@each_reward
@pytest.mark.parametrize("reader", [edm_table, rdkit_bonds])
def test_rotating_and_shifting_a_geometry_changes_nothing(reward: GraphReward, reader: BondReader) -> None:
    sample = embedded("CCC(C)O")
    matrix = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    moved = Molecule(sample.numbers, (sample.positions @ matrix + [3.0, -2.0, 1.0]).astype(np.float32))
    first, second = replace(reward, reader=reader).score([sample, moved]).scored
    assert first == second
    assert first.reason == ""


@each_reward
def test_permuting_the_batch_permutes_the_values(reward: GraphReward) -> None:
    samples = [from_smiles(smiles) for smiles in [*GOLDEN, *BAD]]
    assert reward.score(samples[::-1]).scored == reward.score(samples).scored[::-1]


@each_reward
def test_a_limit_counts_heavy_atoms_and_is_not_scored(reward: GraphReward) -> None:
    """Hydrogens that are atoms change nothing, and too large a sample is not a bad one."""
    inside, outside = (Chem.MolFromSmiles("C" * n) for n in (MAX_HEAVY, MAX_HEAVY + 1))
    first, second = reward.score([from_graph(inside), from_graph(Chem.AddHs(inside))]).scored
    assert first == second
    assert first.reason == ""
    lost = reward.score_one(from_graph(outside))
    assert math.isnan(lost.value)
    assert lost.reason == f"too large: {MAX_HEAVY + 1} heavy atoms, at most {MAX_HEAVY}"


@each_reward
@pytest.mark.parametrize(("smiles", "reason"), BAD.items(), ids=list(BAD.values()))
def test_a_bad_sample_gets_the_floor_and_a_reason(reward: GraphReward, smiles: str, reason: str) -> None:
    assert reward.score_one(from_smiles(smiles)) == Scored(reward.floor, reason)


@pytest.mark.parametrize("reader", [edm_table, rdkit_bonds])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_geometry_without_numbers_gets_the_floor(reader: BondReader, value: float) -> None:
    sample = embedded("CO")
    sample.positions[1, 2] = value
    assert QED(reader=reader).score_one(sample) == Scored(0.0, "non-finite positions")


def test_an_overcrowded_geometry_gets_the_floor() -> None:
    sample = embedded("CCO")
    assert QED(reader=edm_table).score_one(Molecule(sample.numbers, sample.positions * 0.6)) == Scored(0.0, "valence")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", "error: RuntimeError: no such molecule"),
        ("nan", "non-finite: nan"),
        ("infinity", "non-finite: inf"),
        ("beyond float32", "non-finite: 1e+300"),
        ("none", "error: TypeError"),
        ("text", "error: ValueError"),
    ],
)
def test_a_fault_costs_its_own_value_and_has_a_reason(fault: str, reason: str) -> None:
    scored = score_safely(Faulty(), fault)
    assert math.isnan(scored.value)
    assert scored.reason.startswith(reason)


def test_reasons_are_counted_by_category() -> None:
    samples: list[Any] = [2, "raise", "nan", "infinity", 3, "floor"]
    scored = scores(score_safely(Faulty(), sample) for sample in samples)
    assert scored.counts() == {"ok": 2, "non-finite": 2, "error": 1, "bad": 1}
    expected = torch.tensor([4, torch.nan, torch.nan, torch.nan, 9, -1])
    torch.testing.assert_close(scored.tensor(), expected, equal_nan=True)


def test_integers_become_float32() -> None:
    assert scores([score_safely(Square(), 3)]).tensor().dtype == torch.float32


def test_a_reward_of_single_samples_needs_only_score_one() -> None:
    class Doubled(PerSample[int]):
        def score_one(self, sample: int, /) -> Scored:
            return Scored(2.0 * sample)

    assert Doubled()([1, 2]).tolist() == [2, 4]
