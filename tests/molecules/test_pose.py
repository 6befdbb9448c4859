"""The Vina score of a molecule as it lies, and growth in a pocket."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import complaint, molrl
from rdkit.Chem import MolFromMolFile, MolToMolFile

from molrl.data.files import EXAMPLES
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.perception import perceive_bonds
from molrl.models.draws import draw_samples
from molrl.models.molecules.growth import Growth
from molrl.models.molecules.policy import MoleculePolicy
from molrl.rewards.molecules.docking.pose import PoseScore
from molrl.rewards.molecules.docking.site import Site, atoms_near
from molrl.rewards.wrapping import parts_of

RECEPTOR, IMATINIB = str(EXAMPLES / "1iep_pocket.pdbqt"), str(EXAMPLES / "imatinib.sdf")
HINGE = str(EXAMPLES / "imatinib_hinge.sdf")
SITE = (f"reward.site.receptor='{RECEPTOR}'", f"reward.site.ligand='{IMATINIB}'")
GROW = (f"task.core='{HINGE}'", "task.attach=13", "task.atoms=4", "policy.num_steps=3", "reward.workers=0")


def pose(margin: float = 4.0) -> PoseScore:
    return PoseScore(site=Site(receptor=RECEPTOR, ligand=IMATINIB, margin=margin), reader=perceive_bonds)


def imatinib(shift: tuple[float, float, float] = (0, 0, 0)) -> Molecule:
    ((molecule,), _) = read(IMATINIB)
    return replace(molecule, positions=molecule.positions + np.array(shift, dtype=np.float32))


def test_the_crystal_pose_has_the_score_of_the_package() -> None:
    """AutoDock Vina 1.2.7: -12.513 kcal/mol; shifted by 0.5 angstrom -10.531, by 1 along y -2.9 (vina.json)."""
    values = pose()([imatinib(), imatinib((0.5, 0, 0)), imatinib((0, 1, 0))])
    assert values.tolist() == pytest.approx([12.513, 10.531, 2.9], abs=0.02)
    assert parts_of(pose().score_one(imatinib()))["heavy_atoms"] == 37


def test_a_pose_outside_or_in_the_protein_gets_the_floor() -> None:
    """It is not moved into the box, and a clash is worth no less than nothing."""
    outside, clash = pose().score([imatinib((9, 0, 0)), imatinib((0, 0, 2))]).scored
    assert outside == (0.0, "box: the molecule lies outside, and a pose is not moved")
    assert clash.value == 0.0


def test_the_hinge_fragment_is_part_of_the_pose() -> None:
    whole, part = (MolFromMolFile(path) for path in (IMATINIB, HINGE))
    match = whole.GetSubstructMatch(part)
    assert (whole.GetConformer().GetPositions()[list(match)] == part.GetConformer().GetPositions()).all()


def test_atoms_near_a_core_are_those_of_the_receptor() -> None:
    positions = imatinib().positions[imatinib().numbers > 1]
    near, closest = atoms_near(RECEPTOR, positions, 4.0)
    assert 2.5 < closest < 3.5  # a hydrogen bond
    distance = np.linalg.norm(near[:, None] - positions[None], axis=-1).min(1)
    assert distance.max() <= 4.0
    assert len(atoms_near(RECEPTOR, positions, 12.0)[0]) > len(near) > 20


def test_avoiding_the_protein_lowers_the_clashes() -> None:
    """The number of new atoms closer than 2.5 angstrom to the protein, over the same noise."""
    policy = MoleculePolicy(weights="qm9_heavy", num_steps=10, grid_power=1.4, eta=1.0)
    close = []
    for avoid in (None, RECEPTOR):
        growth = Growth(core=HINGE, attach=13, atoms=4, steer=100.0, avoid=avoid)
        decoder = growth.decoder(policy.model, perceive_bonds)
        chain, place = growth.policy(policy, decoder, torch.device("cpu")), torch.device("cpu")
        drawn = draw_samples(chain, decoder, 12, seed=0, batch=12, device=place)
        new = np.concatenate([sample.positions[13:] for sample in drawn])
        atoms, _ = atoms_near(RECEPTOR, new, 8.0)
        close.append(int((np.linalg.norm(new[:, None] - atoms[None], axis=-1).min(1) < 2.5).sum()))
    assert close[1] < close[0]


def test_a_run_grows_in_a_pocket(tmp_path: Path) -> None:
    run = ("iterations=1", "rollouts=4", "minibatch=8", "evaluate=2", "threads=1", f"run={tmp_path / 'run'}")
    done = molrl("train", "task=grow", "policy=qm9_heavy", "algo=ddpo", *GROW, *SITE, f"task.avoid='{RECEPTOR}'", *run)
    assert done.code == 0, done.err
    assert "core: 13 heavy atoms, new bonds at N13; 4 to 4 new atoms" in done.out
    assert "core unchanged 1.000" in done.out
    sampled = molrl(
        *("sample", f"policy={tmp_path / 'run'}", f"core='{HINGE}'", "attach=13", "atoms=4", "n=2", "threads=1"),
        *("policy.num_steps=3", f"out={tmp_path / 'out.sdf'}"),
    )
    assert "2 molecules" in sampled.out, sampled.err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("reward.site.ligand=null", "reward.site.centre=[15,40,17]", "reward.site.size=[15,15,15]"),
            "not in the pocket: 13",
        ),
        (("task.attach=[13,14]",), "attach=[13, 14]: got 14"),
        (("task.attach=7",), "atom 7 has 0 hydrogens"),
        (("task.atoms=4..6",), "the core has 13 heavy atoms and training molecules up to 9"),
        (("task.data=x.sdf",), "data, records: molecules of a file have no core"),
        (("policy=qm9_all",), "draws hydrogens as atoms"),
    ],
)
def test_a_run_that_cannot_grow_is_refused_in_one_line(settings: tuple[str, ...], message: str, tmp_path: Path) -> None:
    policy = () if any(one.startswith("policy=") for one in settings) else ("policy=qm9_heavy",)
    assert message in complaint(["train", "task=grow", *policy, *GROW, *SITE, *settings, f"run={tmp_path / 'run'}"], 2)


def moved_hinge(folder: Path, shift: tuple[float, float, float]) -> str:
    """Write the hinge fragment elsewhere."""
    mol = MolFromMolFile(HINGE, removeHs=False)
    mol.GetConformer().SetPositions(mol.GetConformer().GetPositions() + np.array(shift))
    MolToMolFile(mol, str(folder / "moved.sdf"))
    return str(folder / "moved.sdf")


def test_a_core_far_from_the_receptor_is_refused(tmp_path: Path) -> None:
    far = moved_hinge(tmp_path, (80, 0, 0))
    message = complaint(["sample", f"core={far}", "attach=13", "atoms=4", f"avoid='{RECEPTOR}'"], 2)
    assert "not in the pocket" in message
    assert "needs core=FILE" in complaint(["sample", "attach=13"], 2)


def test_a_core_within_the_protein_is_refused(tmp_path: Path) -> None:
    """By the protein to avoid, and by the receptor of the reward."""
    moved = moved_hinge(tmp_path, (0, 0, 3))
    asked = ["sample", "policy=qm9_heavy", f"core={moved}", "attach=13", "atoms=4", f"avoid='{RECEPTOR}'"]
    assert "not in the pocket but in the protein" in complaint(asked, 2)
    settings = [*GROW, *SITE, f"task.core='{moved}'", f"run={tmp_path / 'run'}"]
    assert "but in the protein" in complaint(["train", "task=grow", "policy=qm9_heavy", *settings], 2)
