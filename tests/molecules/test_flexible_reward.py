"""The reward of flexible docking: what is prepared, scored and written."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from command import molrl
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolTransforms
from test_docking import BENZENE, CENTRE, RECEPTOR, SETTINGS, embedded

from molrl.building import build
from molrl.composition import compose
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.docking.flexible_docking import FlexibleDocking
from molrl.rewards.molecules.docking.monte_carlo import MonteCarlo
from molrl.rewards.molecules.docking.pose_file import write_poses
from molrl.rewards.molecules.docking.pose_strain import pose_strain
from molrl.rewards.molecules.docking.preparation import Preparation, deviation, distinct, in_order
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.docking.torsion_tree import torsion_tree
from molrl.rewards.workers.pooled import Pooled
from molrl.rewards.wrapping import parts_of
from molrl.testing.laws import random_rotation

AS_IS = Preparation(ph=None, canonical_tautomer=False, conformers=0, seed=0)


@cache
def reward(size: float = 12.0, conformers: int = 0, folder: str | None = None) -> FlexibleDocking:
    return FlexibleDocking(
        site=Site(receptor=RECEPTOR, centre=CENTRE, size=[size] * 3),
        preparation=Preparation(ph=None, canonical_tautomer=False, conformers=conformers, seed=0),
        search=MonteCarlo(chains=16, steps=2, evaluations=10, poses=3, seed=0),
        strain_conformers=0,
        folder=folder,
        reader=rdkit_bonds,
    )


def at_ph(smiles: str, ph: float) -> Chem.Mol:
    pytest.importorskip("dimorphite_dl")
    mol = Chem.MolFromSmiles(smiles)
    (one,) = Preparation(ph=ph, canonical_tautomer=False, conformers=0, seed=0)(mol, np.zeros((mol.GetNumAtoms(), 3)))
    return one.mol


def test_the_torsions_of_the_sample_do_not_matter_and_its_shape_does() -> None:
    """Two torsions of one chain have nearly one value, which a search from elsewhere may improve."""
    first = embedded("CCCO")
    mol = Chem.AddHs(Chem.MolFromSmiles("CCCO"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=11) == 0
    second = Molecule(first.numbers, mol.GetConformer().GetPositions().astype(np.float32))
    one, other = reward().score([first, second]).values
    assert one == pytest.approx(other, abs=0.3)
    assert one > 1.5


def test_parts_are_those_of_the_best_pose() -> None:
    (scored,) = reward().score([embedded("OCCc1ccccc1")]).scored
    parts = parts_of(scored)
    assert tuple(parts) == FlexibleDocking.parts
    assert parts["heavy_atoms"] == 9
    assert parts["rotors"] == 2.5
    assert parts["per_heavy_atom"] == pytest.approx(scored.value / 9)
    assert parts["hydrophobic_contacts"] > 0


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (embedded("OB(O)C"), "element: Vina has no radius for B"),
        (Molecule(np.zeros(0, np.int64), np.zeros((0, 3), np.float32)), "no atoms"),
        (Molecule(np.array([6, 6]), np.eye(2, 3, dtype=np.float32) * 9, np.array([4, 4])), "disconnected: 2 fragments"),
    ],
)
def test_a_bad_sample_has_the_floor_and_a_reason(sample: Molecule, reason: str) -> None:
    assert reward().score([sample]).scored == ((0.0, reason),)


def test_a_sample_that_does_not_fit_has_the_floor() -> None:
    assert reward(size=3.0).score([embedded("CCCCCCCC")]).scored == ((0.0, "box: the molecule does not fit in"),)


def test_poses_are_written_with_scores_and_contacts(tmp_path: Path) -> None:
    """The first has the value of the reward; the molecule is the sample, complete, and lies in the box."""
    (scored,) = reward(folder=str(tmp_path / "poses")).score([embedded("OCCc1ccccc1")]).scored
    (path,) = (tmp_path / "poses").iterdir()
    poses = list(Chem.SDMolSupplier(str(path), removeHs=False))
    assert 1 <= len(poses) <= 3
    assert float(poses[0].GetProp("score")) == pytest.approx(-scored.value, abs=1e-3)
    assert float(poses[0].GetProp("hydrophobic_contacts")) == parts_of(scored)["hydrophobic_contacts"]
    assert "A:" in poses[0].GetProp("hydrophobic_contacts_with")
    for rank, pose in enumerate(poses, 1):
        assert pose.GetProp("rank") == str(rank)
        assert Chem.MolToSmiles(Chem.RemoveHs(pose)) == Chem.MolToSmiles(Chem.MolFromSmiles("OCCc1ccccc1"))
        assert pose.GetNumAtoms() == 19
        heavy = pose.GetConformer().GetPositions()[:9]
        assert (np.abs(heavy - np.array(CENTRE)) <= 6.0 + 1e-3).all()


def test_strain_is_what_a_conformation_costs() -> None:
    """Gauche butane is 0.7 to 0.9 kcal/mol above the other form, by experiment and by calculation."""
    mol = Chem.AddHs(Chem.MolFromSmiles("CCCC"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    strains = []
    for angle in (180.0, 65.0):
        rdMolTransforms.SetDihedralDeg(mol.GetConformer(), 0, 1, 2, 3, angle)
        strains.append(pose_strain(Chem.RemoveAllHs(mol), 10, 0).total)
    assert strains[0] == pytest.approx(0.0, abs=0.02)
    assert 0.7 < strains[1] < 0.9


def test_strain_of_an_atom_without_parameters_is_not_known() -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles("C[Se]C"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    assert math.isnan(pose_strain(Chem.RemoveAllHs(mol), 2, 0).total)


def test_a_link_in_the_folder_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    mol = Chem.MolFromSmiles("CO")
    path = write_poses(tmp_path, mol, [], reward().pocket)
    path.unlink()
    (tmp_path / "precious").write_text("precious")
    path.symlink_to(tmp_path / "precious")
    write_poses(tmp_path, mol, [], reward().pocket)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not path.is_symlink()


@pytest.mark.parametrize(
    ("smiles", "ph", "expected"),
    [
        ("CC(=O)O", 7.4, "CC(=O)[O-]"),
        ("CC(=O)O", 2.0, "CC(=O)O"),
        ("CC(=O)[O-]", 2.0, "CC(=O)O"),
        ("CCN(CC)CC", 7.4, "CC[NH+](CC)CC"),
        ("Nc1ccccc1", 7.4, "Nc1ccccc1"),
        ("C[C@H](N)C(=O)O", 7.4, "C[C@H]([NH3+])C(=O)[O-]"),
    ],
)
def test_protonation_is_that_of_textbooks(smiles: str, ph: float, expected: str) -> None:
    """Acetic acid has a pKa of 4.8, triethylammonium 10.8, anilinium 4.6; alanine is a zwitterion."""
    mol = Chem.MolFromSmiles(smiles)
    assert Chem.MolToSmiles(mol) == Chem.CanonSmiles(smiles)
    if "@" in smiles:
        complete = Chem.AddHs(mol)
        assert rdDistGeom.EmbedMolecule(complete, randomSeed=1) == 0
        pytest.importorskip("dimorphite_dl")
        prepare = Preparation(ph=ph, canonical_tautomer=False, conformers=0, seed=0)
        (one,) = prepare(mol, complete.GetConformer().GetPositions()[: mol.GetNumAtoms()])
        state = one.mol
    else:
        state = at_ph(smiles, ph)
    assert Chem.MolToSmiles(state) == Chem.CanonSmiles(expected)
    assert [atom.GetAtomicNum() for atom in state.GetAtoms()] == [atom.GetAtomicNum() for atom in mol.GetAtoms()]


def test_another_state_keeps_the_order_of_the_atoms() -> None:
    mol, state = Chem.MolFromSmiles("OC(=O)CCN"), Chem.MolFromSmiles("[NH3+]CCC([O-])=O")
    ordered = in_order(state, mol)
    assert [atom.GetSymbol() for atom in ordered.GetAtoms()] == list("OCOCCN")
    assert ordered.GetAtomWithIdx(5).GetFormalCharge() == 1
    with pytest.raises(ValueError, match="other bonds"):
        in_order(Chem.MolFromSmiles("OCCCCN"), mol)


def test_the_canonical_tautomer_is_one_for_all() -> None:
    """The two are 2-hydroxypyridine and 2-pyridone."""
    prepare = Preparation(ph=None, canonical_tautomer=True, conformers=0, seed=0)
    states = [prepare(Chem.MolFromSmiles(smiles), np.zeros((7, 3)))[0].mol for smiles in ("Oc1ccccn1", "O=c1cccc[nH]1")]
    assert len({Chem.MolToSmiles(state) for state in states}) == 1


def test_ring_conformers_are_kept_and_torsions_are_not() -> None:
    """A chain has one shape; methylcyclohexane may have its methyl group axial or equatorial."""
    prepare = Preparation(ph=None, canonical_tautomer=False, conformers=12, seed=1)
    assert len(prepare(Chem.MolFromSmiles("CCCCCCO"), np.zeros((7, 3)))) == 1
    rings = prepare(Chem.MolFromSmiles("CC1CCCCC1"), np.zeros((7, 3)))
    assert 2 <= len(rings) <= 6


def test_embedding_keeps_the_chirality_of_the_positions() -> None:
    """Where the graph does not state it: L-alanine and D-alanine, read off their geometry."""
    prepare = Preparation(ph=None, canonical_tautomer=False, conformers=1, seed=1)
    for smiles in ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        assert rdDistGeom.EmbedMolecule(mol, randomSeed=5) == 0
        (one,) = prepare(Chem.MolFromSmiles("CC(N)C(=O)O"), mol.GetConformer().GetPositions()[:6])
        assert Chem.MolToSmiles(one.mol) == Chem.CanonSmiles(smiles)
        signs = [np.linalg.det(x[[0, 2, 3]] - x[1]) for x in (one.positions, mol.GetConformer().GetPositions())]
        assert signs[0] * signs[1] > 0


def test_the_deviation_of_a_turned_molecule_is_none_and_of_a_mirrored_one_is() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3))
    turned = x @ random_rotation().numpy().astype(float) + 2.0
    assert deviation(x, turned) == pytest.approx(0.0, abs=1e-3)
    assert deviation(x, -x) > 0.1
    assert deviation(np.zeros((1, 3)), np.ones((1, 3))) == 0.0
    tree = torsion_tree(Chem.MolFromSmiles("CC1CCCCC1"))
    assert len(distinct([x7 := np.random.default_rng(1).normal(size=(7, 3)), -x7, x7 + 1.0], tree)) == 2


def test_conformers_serve_as_the_sample_does() -> None:
    scored = reward(conformers=2).score([embedded("OCCc1ccccc1")]).scored[0]
    assert math.isfinite(scored.value)
    assert scored.value > 2


def test_worker_processes_give_the_same_values() -> None:
    samples = [embedded(BENZENE), embedded("CCCO")]
    with Pooled(reward(), workers=1, timeout=60.0) as pooled:
        assert pooled.score(samples).values == pytest.approx(reward().score(samples).values, abs=1e-5)


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        (lambda: replace(AS_IS, ph=15.0), "ph: got 15.0, need a number from 0 to 14"),
        (lambda: replace(AS_IS, conformers=101), "conformers: got 101, need 0 to 100"),
    ],
)
def test_a_preparation_out_of_range_is_refused(prepared: Callable[[], Preparation], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepared()


def test_the_settings_build_the_reward() -> None:
    config = compose("score", ["reward=docking_flexible", "reward.workers=0", "file=x.sdf", *SETTINGS])
    built = build(config["reward"], "reward")
    assert isinstance(built.scorer, FlexibleDocking)
    assert built.scorer.search.chains == 256


def test_the_command_scores_and_writes_poses(tmp_path: Path) -> None:
    file, table, folder = tmp_path / "in.smi", tmp_path / "out.csv", tmp_path / "poses"
    file.write_text(f"{BENZENE} benzene\nCCO ethanol\n")
    quick = [f"reward.scorer.search.{name}=4" for name in ("chains", "steps", "evaluations")]
    small = [SETTINGS[0], SETTINGS[1], "reward.site.size=[9,9,9]", "reward.workers=0"]
    done = molrl(
        "score",
        str(file),
        "embed=true",
        "reward=docking_flexible",
        *small,
        *quick,
        f"out={table}",
        f"reward.scorer.folder={folder}",
    )
    assert done.code == 0, done.err
    assert "docking_flexible.hydrogen_bonds" in table.read_text().splitlines()[0]
    assert len(list(folder.glob("*.sdf"))) == 2
