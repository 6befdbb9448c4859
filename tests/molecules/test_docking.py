"""The docking reward: minus the best score, floors with a reason, the same in any process."""

import csv
import json
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import complaint, molrl
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molrl.building import build
from molrl.composition import compose
from molrl.config import ConfigError
from molrl.data.files import EXAMPLES
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.molecule import Molecule, count_hydrogens
from molrl.rewards.molecules.docking.atom_types import graph_ligand
from molrl.rewards.molecules.docking.proxy import MAX_ROTORS, DockingProxy, VinardoOfPose, clash_fraction
from molrl.rewards.molecules.docking.scoring_function import Box, Ligands, Pocket, with_types
from molrl.rewards.molecules.docking.site import Site, ligand_positions
from molrl.rewards.molecules.docking.vinardo import VINARDO
from molrl.rewards.molecules.geometry import NO_GEOMETRY
from molrl.rewards.workers.pooled import Pooled
from molrl.rewards.wrapping import parts_of

RECEPTOR = str(EXAMPLES / "1iep_pocket.pdbqt")
CENTRE, SIZE = [15.190, 53.903, 16.917], [20.0, 20.0, 20.0]
LIGAND = str(EXAMPLES / "1iep_ligand.pdbqt")
BENZENE, PHENOL = "c1ccccc1", "Oc1ccccc1"


def reward(starts: int = 8, steps: int = 12, size: float = 20.0) -> DockingProxy:
    site = Site(receptor=RECEPTOR, centre=CENTRE, size=[size] * 3)
    return DockingProxy(site=site, starts=starts, steps=steps, seed=0, reader=rdkit_bonds)


def embedded(smiles: str) -> Molecule:
    """Return an embedded molecule with all atoms at positions, bonds unknown."""
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
            Molecule(np.array([6, 6]), np.ones((2, 3), np.float32), graph=Chem.MolFromSmiles("CC")),
            "no geometry: atoms closer than 0.5 angstrom",
        ),
        (Molecule(np.array([6, 6]), np.eye(2, 3, dtype=np.float32) * 9, np.array([4, 4])), "disconnected: 2 fragments"),
    ],
)
def test_a_bad_sample_has_the_floor_and_a_reason(sample: Molecule, reason: str) -> None:
    scores = reward().score([sample, embedded(BENZENE)])
    assert scores.values[0] == DockingProxy.floor == 0.0
    assert scores.reasons == [reason, ""]


def test_a_sample_without_a_geometry_has_no_value() -> None:
    sample = Molecule(np.array([6, 6]), np.zeros((2, 3), np.float32), graph=Chem.MolFromSmiles("CC"))
    (scored,) = reward().score([sample]).scored
    assert math.isnan(scored.value)
    assert scored.reason == NO_GEOMETRY


def test_a_sample_larger_than_the_box_has_the_floor() -> None:
    scores = reward(size=4.0).score([embedded("CCCCCCCC")])
    assert scores.scored == ((0.0, "box: the molecule does not fit in"),)


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
        scores = pooled.score(samples)
    assert scores.reasons == ["", "no atoms", ""]
    assert scores.values == pytest.approx(reward().score(samples).values, abs=1e-5)


def test_a_reward_that_was_sent_somewhere_needs_its_file_no_more(tmp_path: Path) -> None:
    path = tmp_path / "receptor.pdbqt"
    path.write_text(Path(RECEPTOR).read_text())
    site = Site(receptor=str(path), centre=CENTRE, size=SIZE)
    sent = pickle.dumps(DockingProxy(site=site, starts=2, steps=2, seed=0, reader=rdkit_bonds))
    path.unlink()
    assert math.isfinite(pickle.loads(sent)([embedded(BENZENE)]).item())


@pytest.mark.parametrize(("name", "value"), [("starts", 0), ("steps", -1)])
def test_a_search_without_starts_is_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}: got {value}, need at least"):
        reward(**{name: value})


SETTINGS = [f"reward.site.receptor={RECEPTOR}", f"reward.site.centre={CENTRE}", f"reward.site.size={SIZE}"]


def test_the_settings_build_the_reward() -> None:
    config = compose("score", ["reward=docking", "reward.workers=0", "file=x.sdf", *SETTINGS])
    pooled = build(config["reward"], "reward")
    assert isinstance(pooled.scorer, DockingProxy)
    assert pooled.scorer.site.box() == Box(tuple(CENTRE), tuple(SIZE))


@pytest.mark.parametrize("reward", ["docking", "docking_qed"])
def test_a_receptor_that_is_not_given_or_not_there_is_named(reward: str) -> None:
    with pytest.raises(ConfigError, match=r"^reward.site.receptor: missing"):
        compose("train", [f"reward={reward}", *SETTINGS[1:]])
    config = compose("score", [f"reward={reward}", "file=x.sdf", "reward.site.receptor=none.pdbqt", *SETTINGS[1:]])
    with pytest.raises(ConfigError, match=r"reward\.\S+: none.pdbqt: cannot be read: No such file"):
        build(config["reward"], "reward")


@pytest.mark.parametrize(
    ("settings", "got"),
    [
        ([], "nothing"),
        ([SETTINGS[1]], r"centre=\[15.19, 53.903, 16.917\]"),
        ([SETTINGS[2], "reward.site.ligand=x.sdf"], r"ligand=x.sdf, size=\[20.0, 20.0, 20.0\]"),
    ],
)
def test_half_a_box_and_two_boxes_are_refused_where_they_are_set(settings: list[str], got: str) -> None:
    config = compose("train", ["task=docking", SETTINGS[0], *settings])
    with pytest.raises(ConfigError, match=rf"^reward.site: the box: got {got}, need ligand=FILE"):
        build(config["reward"], "reward")


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    config = compose("train", ["task=docking", *SETTINGS, f"reward.scorer.terms.docking.scorer.scorer.device={device}"])
    with pytest.raises(ConfigError, match=f"device={device}"):
        build(config["reward"], "reward")


def test_parts_are_those_of_the_pose() -> None:
    (scored,) = reward().score([embedded(PHENOL)]).scored
    parts = parts_of(scored)
    assert tuple(parts) == DockingProxy.parts
    assert parts["heavy_atoms"] == 7
    assert parts["per_heavy_atom"] == pytest.approx(scored.value / 7)
    assert (parts["clashes"], parts["rotors"]) == (0, 0.5)  # its OH counts a half


def test_molecules_with_more_rotors_than_a_rigid_placement_serves_are_counted(tmp_path: Path) -> None:
    """Chains of 5 and 12 carbons have 2 and 9 bonds that turn more than a methyl group."""
    file, table = tmp_path / "in.sdf", tmp_path / "out.csv"
    chains = [Chem.AddHs(Chem.MolFromSmiles("C" * length)) for length in (5, 12, 12)]
    assert [rdDistGeom.EmbedMolecule(mol, randomSeed=7) for mol in chains] == [0, 0, 0]
    file.write_text("".join(f"{Chem.MolToMolBlock(mol)}$$$$\n" for mol in chains))
    quick = [*SETTINGS, "reward.workers=0", "reward.scorer.starts=2", "reward.scorer.steps=1"]
    done = molrl("score", str(file), "reward=docking", *quick, f"out={table}")
    assert done.code == 0, done.err
    rows = csv.DictReader(table.read_text().splitlines())
    assert [row["docking.rotors"] for row in rows] == ["2", "9", "9"]
    assert (
        f"\n    2 with more than {MAX_ROTORS} rotors, which are not turned: reward=docking_flexible turns them\n"
        in done.out
    )
    again = molrl("score", str(file), "reward=docking", *quick, f"out={table}")
    assert "2 with more than" in again.out


def test_atoms_on_top_of_the_receptor_clash() -> None:
    """One atom of the two lies on an atom of the receptor, the other at the crystal ligand's nitrogen."""
    docking = reward()
    atoms = torch.from_numpy(docking.site.structure().positions).float()
    inside = ((atoms - docking.pocket.centre).abs() < docking.pocket.half).all(-1)
    free = torch.from_numpy(ligand_positions(LIGAND)[:1]).float()
    pose = torch.cat([atoms[inside][:1], free])
    ligand = graph_ligand(Chem.MolFromSmiles("CC"))
    assert clash_fraction(docking.pocket, ligand, pose) == 0.5


def test_a_short_run_in_a_pocket_trains(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["iterations=1", "rollouts=4", "evaluate=2", "policy.num_steps=4", "reward.workers=1", "threads=1"]
    search = [f"reward.scorer.terms.docking.scorer.scorer.{name}=2" for name in ("starts", "steps")]
    site = [SETTINGS[0], f"reward.site.ligand={LIGAND}"]
    done = molrl("train", "task=docking", "algo=ddpo", *site, *small, *search, f"run={run}")
    assert done.code == 0, done.err
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["task"], summary["reward"]) == ("docking", "docking_qed")
    assert 0 <= summary["after"]["reward_mean"] <= 1


def test_scores_stand_side_by_side_with_settings_that_not_all_rewards_have(tmp_path: Path) -> None:
    (tmp_path / "in.sdf").write_text(Chem.MolToMolBlock(ethanol()) + "$$$$\n")
    file, table = str(tmp_path / "in.sdf"), tmp_path / "out.csv"
    quick = [*SETTINGS, "reward.workers=0", "reward.scorer.starts=4", "reward.scorer.steps=6"]
    done = molrl("score", file, "reward=docking,qed", *quick, f"out={table}")
    assert done.code == 0, done.err
    row = dict(zip(*(line.split(",") for line in table.read_text().splitlines()[:2]), strict=True))
    assert float(row["docking"]) == pytest.approx(3 * float(row["docking.per_heavy_atom"]), rel=1e-3)
    assert float(row["qed"]) == pytest.approx(0.407, abs=1e-3)
    assert "reward.starts" in complaint(["score", file, "reward=docking,qed", *quick, "reward.starts=4"], 2)


def ethanol() -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    return mol


def test_a_docking_reward_brings_vinardo_along_as_its_judge() -> None:
    """The judge scores the very pose of the trained reward by the other function, whatever wraps the scorer."""
    docking, samples = reward(starts=8, steps=20), [embedded(BENZENE), embedded(PHENOL)]
    judge = docking.held_out_reward
    pocket = Pocket(docking.site.structure(), docking.site.box(), function=VINARDO)
    for sample, value in zip(samples, judge(samples).tolist(), strict=True):
        pose, mol = docking.pose(sample), rdkit_bonds(sample).mol
        assert pose is not None
        assert mol is not None
        ligand = with_types(graph_ligand(mol), VINARDO)
        x = torch.from_numpy(pose.positions[pose.numbers > 1])
        assert value == pytest.approx(-pocket.score(x[None], Ligands([ligand], dtype=x.dtype)).item(), abs=1e-3)
        assert abs(value - docking([sample]).item()) > 0.05
    assert not judge.differentiable
    assert reward(size=4.0).held_out_reward([embedded("CCCCCCCC")]).tolist() == [0.0]


@pytest.mark.parametrize("name", ["docking", "docking_qed"])
def test_the_judge_of_a_configured_docking_reward_runs_in_workers_that_end_with_it(name: str) -> None:
    place = [f"reward.site.receptor={RECEPTOR}", f"reward.site.ligand={LIGAND}", "reward.workers=1"]
    trained = build(compose("train", ["task=qed", f"reward={name}", *place])["reward"], "reward")
    judge = trained.held_out_reward
    assert judge is trained.held_out_reward
    assert isinstance(judge, Pooled)
    assert isinstance(judge.scorer, VinardoOfPose)
    assert judge.held_out_reward is None
    assert judge.workers == 1
    trained.close()


def test_a_judge_has_the_size_power_of_what_it_judges() -> None:
    plain = reward(starts=4, steps=4)
    sized = replace(plain, size_power=1.0)
    value, share = (one.held_out_reward([embedded(PHENOL)]).item() for one in (plain, sized))
    assert share == pytest.approx(value / 7)
