"""The docking reward: minus the best score, floors with a reason, the same in any process."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molrl.config import ConfigError, build, compose
from molrl.data.bonds import rdkit_bonds
from molrl.data.molecule import Molecule, count_hydrogens
from molrl.rewards.docking import DockingProxy
from molrl.rewards.vina import Box, Ligands
from molrl.rewards.vina_types import graph_ligand
from molrl.rewards.workers import Pooled

RECEPTOR = str(Path(__file__).parent / "data/docking/1iep_pocket.pdbqt")
CENTRE, SIZE = [15.190, 53.903, 16.917], [20.0, 20.0, 20.0]
BENZENE, PHENOL = "c1ccccc1", "Oc1ccccc1"


def reward(starts: int = 8, steps: int = 12, size: float = 20.0) -> DockingProxy:
    return DockingProxy(
        receptor=RECEPTOR, box=Box(CENTRE, [size] * 3), starts=starts, steps=steps, seed=0, reader=rdkit_bonds
    )


def embedded(smiles: str) -> Molecule:
    """All atoms at positions, bonds unknown."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    return Molecule(numbers, mol.GetConformer().GetPositions().astype(np.float32))


def test_benzene_binds_as_well_as_the_package_finds() -> None:
    """AutoDock Vina 1.2.7 docks it with -5.06 kcal/mol into the whole receptor and the same box."""
    (value,) = reward(starts=32, steps=40)([embedded(BENZENE)]).tolist()
    assert value == pytest.approx(5.06, abs=0.08)


def test_more_search_finds_no_less() -> None:
    samples = [embedded(PHENOL)]
    few, many = reward(starts=1, steps=0)(samples), reward(starts=32, steps=30)(samples)
    assert many.item() > few.item() + 0.3


def test_hydrogens_as_atoms_and_as_counts_have_one_value() -> None:
    atoms = embedded(PHENOL)
    first, second = reward()([atoms, count_hydrogens(atoms)]).tolist()
    assert first == second > 3


def test_the_order_of_the_batch_changes_nothing() -> None:
    one, other = embedded(BENZENE), embedded(PHENOL)
    assert reward()([one, other, one]).tolist() == [*reward()([one, other]).tolist(), *reward()([one]).tolist()]


def test_turning_and_shifting_the_sample_changes_little() -> None:
    """But for rounding, which a search can make more of."""
    sample = embedded("CC(O)CN")
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    moved = Molecule(sample.numbers, (sample.positions @ turn + 3.0).astype(np.float32))
    first, second = reward()([sample, moved]).tolist()
    assert first == pytest.approx(second, abs=0.05)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (embedded("OB(O)C"), "element: Vina has no radius for B"),
        (Molecule(np.zeros(0, np.int64), np.zeros((0, 3), np.float32)), "no atoms"),
        (Molecule(np.array([6]), np.full((1, 3), np.nan, np.float32)), "non-finite positions"),
        (
            Molecule(np.array([6, 6]), np.zeros((2, 3), np.float32), graph=Chem.MolFromSmiles("CC")),
            "no geometry: atoms closer than 0.5 angstrom",
        ),
        (Molecule(np.array([6, 6]), np.eye(2, 3, dtype=np.float32) * 9, np.array([4, 4])), "disconnected: 2 fragments"),
    ],
)
def test_a_bad_sample_has_the_floor_and_a_reason(sample: Molecule, reason: str) -> None:
    found = reward().score([sample, embedded(BENZENE)])
    assert found.values[0] == DockingProxy.floor == 0.0
    assert found.reasons == [reason, ""]


def test_a_sample_larger_than_the_box_has_the_floor() -> None:
    found = reward(size=4.0).score([embedded("CCCCCCCC")])
    assert found.scored == ((0.0, "box: the molecule does not fit in"),)


def test_a_sample_that_only_clashes_is_worth_no_less_than_a_bad_one() -> None:
    (value,) = reward(starts=1, steps=0, size=7.0)([embedded(PHENOL)]).tolist()
    assert value == 0.0


def test_one_atom_has_a_score() -> None:
    (value,) = reward()([embedded("C")]).tolist()
    assert 0 < value < 3


def test_the_value_is_the_score_of_a_pose() -> None:
    """The search finds what a grid over the box finds for methane, or a little better."""
    docking = reward(starts=64, steps=30)
    lines = [torch.arange(middle - 9.75, middle + 9.76, 0.75) for middle in CENTRE]
    grid = torch.cartesian_prod(*lines)[:, None]
    methane = Ligands([graph_ligand(Chem.MolFromSmiles("C"))])
    best = min(docking.pocket.score(part, methane).min().item() for part in grid.split(2048))
    (value,) = docking([embedded("C")]).tolist()
    assert -best - 0.02 < value < -best + 0.2


def test_worker_processes_give_the_same_values() -> None:
    samples = [embedded(BENZENE), Molecule(np.zeros(0, np.int64), np.zeros((0, 3), np.float32)), embedded(PHENOL)]
    with Pooled(reward(), workers=1, timeout=60.0, chunk=2) as pooled:
        found = pooled.score(samples)
    assert found.reasons == ["", "no atoms", ""]
    assert found.values == pytest.approx(reward().score(samples).values, abs=1e-5)


def test_a_reward_that_was_sent_somewhere_needs_its_file_no_more(tmp_path: Path) -> None:
    path = tmp_path / "receptor.pdbqt"
    path.write_text(Path(RECEPTOR).read_text())
    sent = pickle.dumps(
        DockingProxy(receptor=str(path), box=Box(CENTRE, SIZE), starts=2, steps=2, seed=0, reader=rdkit_bonds)
    )
    path.unlink()
    assert math.isfinite(pickle.loads(sent)([embedded(BENZENE)]).item())


@pytest.mark.parametrize(("name", "value"), [("starts", 0), ("steps", -1)])
def test_a_search_without_starts_is_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}: got {value}, need at least"):
        reward(**{name: value})


SETTINGS = [
    f"reward.scorer.receptor={RECEPTOR}",
    f"reward.scorer.box.centre={CENTRE}",
    f"reward.scorer.box.size={SIZE}",
]


def test_the_settings_build_the_reward() -> None:
    config = compose("score", ["reward=docking", "reward.workers=0", "file=x.sdf", *SETTINGS])
    pooled = build(config["reward"], "reward")
    assert isinstance(pooled.scorer, DockingProxy)
    assert pooled.scorer.box == Box(CENTRE, SIZE)


def test_the_receptor_and_the_box_must_be_given() -> None:
    for left_out in range(3):
        given = [setting for row, setting in enumerate(SETTINGS) if row != left_out]
        with pytest.raises(ConfigError, match=f"{SETTINGS[left_out].partition('=')[0]}: missing"):
            compose("train", ["reward=docking", *given])


def test_a_receptor_that_is_missing_is_named() -> None:
    config = compose("score", ["reward=docking", "file=x.sdf", "reward.scorer.receptor=none.pdbqt", *SETTINGS[1:]])
    with pytest.raises(ConfigError, match=r"reward.scorer: none.pdbqt: cannot be read: No such file"):
        build(config["reward"], "reward")
