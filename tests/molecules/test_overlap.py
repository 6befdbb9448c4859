"""Overlap with a reference: 1 for the reference itself wherever it lies, and the formula for two spheres."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from test_molecule_rewards import BAD, embedded, from_smiles

from molrl.building import build
from molrl.composition import compose
from molrl.config import ConfigError
from molrl.data.files import EXAMPLES
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Molecule, count_hydrogens
from molrl.rewards.molecules.geometry import NO_GEOMETRY
from molrl.rewards.molecules.overlap import Overlap
from molrl.rewards.wrapping import parts_of

IMATINIB = EXAMPLES / "imatinib.sdf"
LACTIC_ACID = "C[C@H](O)C(=O)O"


def overlap(reference: Path = IMATINIB, colour_weight: float = 0.5) -> Overlap:
    return Overlap(reference=str(reference), colour_weight=colour_weight, reader=rdkit_bonds)


def written(path: Path, smiles: str, *, flat: bool = False) -> Path:
    """Write a file with the molecule, with a geometry or as a drawing."""
    sample = embedded(smiles)
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    mol.AddConformer(Chem.Conformer(mol.GetNumAtoms()))
    mol.GetConformer().SetPositions(sample.positions.astype(float) * (0 if flat else 1))
    path.write_text(Chem.MolToMolBlock(mol))
    return path


def turned(sample: Molecule, *, mirrored: bool) -> Molecule:
    """Return a sample, or its mirror image, rotated and shifted, bonds unknown."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn)) * (-1 if mirrored else 1)
    return replace(sample, positions=(sample.positions @ turn + [3.0, -2.0, 5.0]).astype(np.float32))


def test_the_reference_itself_is_worth_one_wherever_it_lies() -> None:
    ((imatinib,), _) = read(IMATINIB)
    (scored, moved) = overlap().score([imatinib, turned(imatinib, mirrored=False)]).scored
    assert (scored.value, moved.value) == pytest.approx((1.0, 1.0), abs=1e-6)
    assert parts_of(scored) == pytest.approx({"shape": 1.0, "colour": 1.0}, abs=1e-6)


def test_the_mirror_image_and_other_molecules_are_worth_less(tmp_path: Path) -> None:
    reward = overlap(written(tmp_path / "x.sdf", LACTIC_ACID))
    sample = embedded(LACTIC_ACID)
    same, mirrored, other = reward([sample, turned(sample, mirrored=True), embedded("c1ccccc1")]).tolist()
    assert same == pytest.approx(1.0, abs=1e-5)
    assert other < mirrored < 0.97


def test_the_reference_may_be_the_parent_of_a_salt(tmp_path: Path) -> None:
    path = written(tmp_path / "x.sdf", f"{LACTIC_ACID}.Cl")
    with pytest.raises(ValueError, match=r"x\.sdf: disconnected: 2 fragments"):
        overlap(path)
    reward = Overlap(reference=str(path), colour_weight=0.5, fragments="largest", reader=rdkit_bonds)
    assert reward.ligand.GetNumAtoms() == 6
    with pytest.raises(ValueError, match=r"x\.sdf: several fragments: "):
        Overlap(reference=str(path), colour_weight=0.5, fragments="refuse", reader=rdkit_bonds)


def test_two_spheres_overlap_as_two_gaussians_do(tmp_path: Path) -> None:
    """Densities exp(-k r^2 / R^2): the overlap of two at one place goes with (R1^2 R2^2 / (R1^2 + R2^2))^(3/2).

    R: van der Waals radii, Bondi 1964 (doi:10.1021/j100785a001), of C 1.70 and O 1.52 angstrom.
    """
    carbon, oxygen = 1.70**2, 1.52**2
    both, one, other = ((a * b / (a + b)) ** 1.5 for a, b in ((carbon, oxygen), (carbon, carbon), (oxygen, oxygen)))
    (value,) = overlap(written(tmp_path / "x.sdf", "C"), colour_weight=0.0)([embedded("O")]).tolist()
    assert value == pytest.approx(both / (one + other - both), abs=1e-4)


def test_the_weight_is_that_of_colour() -> None:
    sample = embedded("COc1ccc(CC(N)=O)cc1")
    for weight in (0.0, 0.3, 1.0):
        (scored,) = overlap(colour_weight=weight).score([sample]).scored
        parts = parts_of(scored)
        assert scored.value == pytest.approx((1 - weight) * parts["shape"] + weight * parts["colour"])


def test_colour_counts_in_the_superposition(tmp_path: Path) -> None:
    """By shape alone the mirror image of aspirin is laid over it ring on carboxyl."""
    aspirin = "CC(=O)Oc1ccccc1C(=O)O"
    reference, sample = written(tmp_path / "x.sdf", aspirin), turned(embedded(aspirin), mirrored=True)
    alone, both = (parts_of(overlap(reference, weight).score([sample]).scored[0])["colour"] for weight in (0.0, 0.5))
    assert both > alone + 0.2


def test_hydrogens_as_atoms_and_as_counts_have_one_value() -> None:
    atoms = embedded("CC(O)CN")
    first, second = overlap()([atoms, count_hydrogens(atoms)]).tolist()
    assert first == pytest.approx(second, abs=1e-6)


def test_the_order_of_the_atoms_changes_nothing() -> None:
    sample = embedded("CC(O)CNC=O")
    order = np.random.default_rng(0).permutation(len(sample))
    shuffled = Molecule(sample.numbers[order], sample.positions[order])
    first, second = overlap()([sample, shuffled]).tolist()
    assert first == pytest.approx(second, abs=2e-3)


@pytest.mark.parametrize(("smiles", "reason"), BAD.items())
def test_a_bad_sample_has_the_floor_and_a_reason(smiles: str, reason: str) -> None:
    sample = from_smiles(smiles)
    spread = np.arange(3 * len(sample), dtype=np.float32).reshape(-1, 3)
    assert overlap().score([replace(sample, positions=spread)]).scored == ((0.0, reason),)


def test_an_element_without_a_radius_has_the_floor() -> None:
    iron = Molecule(np.array([26]), np.zeros((1, 3), np.float32), graph=Chem.MolFromSmiles("[Fe+2]"))
    assert overlap().score([iron]).scored == ((0.0, "element: No VdW radius for atom with Z=26"),)


def test_a_sample_without_a_geometry_has_no_value() -> None:
    scores = overlap().score([from_smiles("CCO")])
    assert scores.reasons == [NO_GEOMETRY]
    assert np.isnan(scores.values[0])


def test_a_reward_that_was_sent_somewhere_needs_its_file_no_more(tmp_path: Path) -> None:
    path = written(tmp_path / "x.sdf", LACTIC_ACID)
    sent = pickle.dumps(overlap(path))
    path.unlink()
    assert pickle.loads(sent)([embedded(LACTIC_ACID)]).item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("smiles", "weight", "flat", "message"),
    [
        ("CCCC", 0.5, False, "no donor, acceptor, charge, ring or hydrophobe in it; set colour_weight=0"),
        ("CCO", 1.5, False, "colour_weight: got 1.5, need 0 to 1"),
        ("CCO", 0.5, True, "reference .*x.sdf: "),
        ("CC.O", 0.5, False, "x.sdf: disconnected: 2 fragments"),
    ],
)
def test_a_reference_without_features_is_refused(
    tmp_path: Path, smiles: str, weight: float, flat: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        overlap(written(tmp_path / "x.sdf", smiles, flat=flat), weight)


def test_the_settings_build_the_reward() -> None:
    config = compose("score", ["reward=overlap", "file=x.sdf", f"reward.scorer.reference='{IMATINIB}'"])
    assert isinstance(build(config["reward"], "reward").scorer, Overlap)
    config["reward"]["scorer"]["reference"] = "none.sdf"
    with pytest.raises(ConfigError, match=r"reward\.scorer: none.sdf: cannot be read"):
        build(config["reward"], "reward")
