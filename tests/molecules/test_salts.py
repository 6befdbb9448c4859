"""Salts in every command that reads molecules: as they are, the parent alone, or left out by name."""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from command import molrl
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.standardise import Fragments, Treatment
from molrl.models.molecules.codec import MoleculeCodec
from molrl.models.molecules.dataset import RealMolecules
from molrl.models.molecules.reference import load_reference
from molrl.noise import Key
from molrl.rewards.molecules.similarity import Similarity

SALT, PARENT = "Cl.NCCc1ccccc1", "NCCc1ccccc1"
CATION, ANION = "CC[NH3+]", "F[P-](F)(F)(F)(F)F"


@pytest.fixture
def salts(tmp_path: Path) -> Path:
    path = tmp_path / "salts.smi"
    path.write_text(f"{SALT} salt\n{PARENT} parent\nCCO ethanol\n")
    return path


@pytest.mark.parametrize(
    ("fragments", "rows"),
    [
        ("keep", [(SALT, "disconnected: 2 fragments"), (PARENT, ""), ("CCO", "")]),
        ("largest", [(PARENT, ""), (PARENT, ""), ("CCO", "")]),
        ("refuse", [(SALT, "unreadable: several fragments: NCCc1ccccc1, Cl"), (PARENT, ""), ("CCO", "")]),
    ],
)
def test_scores_are_those_of_the_parent_where_asked(
    salts: Path, fragments: str, rows: list[tuple[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    settings = [f"file={salts}", f"out={out}", f"fragments={fragments}", "reward=qed", "reward.workers=0"]
    assert molrl("score", *settings, "allow_failures=true").code == 0
    with out.open() as file:
        found = list(csv.DictReader(file))
    for row, (smiles, reason) in zip(found, rows, strict=True):
        assert (row["smiles"], row["reason"]) == (smiles, reason)


@pytest.mark.parametrize(("fragments", "validity"), [("keep", 1), ("largest", 1), ("refuse", 2 / 3)])
def test_the_metrics_are_those_of_the_parents(salts: Path, fragments: str, validity: float, tmp_path: Path) -> None:
    """The reference is read in the same way, so nothing is new to it; a refused salt is an invalid sample."""
    out = tmp_path / "out.json"
    settings = [str(salts), f"reference={salts}", f"fragments={fragments}", "posebusters=null", f"out={out}"]
    done = molrl("evaluate", *settings)
    assert done.code == 0
    metrics = json.loads(out.read_text())
    assert (metrics["n"], metrics["validity"], metrics["novelty"]) == (3, pytest.approx(validity), 0)


@pytest.mark.parametrize("kind", ["smi", "sdf"])
@pytest.mark.parametrize(("fragments", "parents"), [("keep", [ANION]), ("largest", [CATION]), ("refuse", [])])
def test_a_reference_is_of_the_organic_parents(
    kind: str, fragments: Fragments, parents: list[str], tmp_path: Path
) -> None:
    """By heavy atoms alone the inorganic anion would be the largest fragment."""
    path = tmp_path / f"salt.{kind}"
    if kind == "smi":
        path.write_text(f"{CATION}.{ANION}\n")
    else:
        mol = Chem.AddHs(Chem.MolFromSmiles(f"{CATION}.{ANION}"))
        rdDistGeom.EmbedMolecule(mol, randomSeed=1)
        path.write_text(f"{Chem.MolToMolBlock(mol)}$$$$\n")
    treatment = Treatment(fragments)
    known = load_reference("known", str(path), rdkit_bonds, "file", perceive=False, treatment=treatment)
    assert known.smiles == parents


@pytest.mark.parametrize(("fragments", "shares"), [("keep", (0, 0, 1)), ("largest", (0, 1, 0))])
def test_known_molecules_are_treated_like_the_samples(
    fragments: str, shares: tuple[int, int, int], tmp_path: Path
) -> None:
    for name, text in {"new": CATION, "seen": "CCO", "all": f"{CATION}.{ANION}"}.items():
        (tmp_path / f"{name}.smi").write_text(f"{text}\n")
    sets = [f"reference={tmp_path / 'seen.smi'}", f"known={tmp_path / 'all.smi'}", f"out={tmp_path / 'out.json'}"]
    assert molrl("evaluate", str(tmp_path / "new.smi"), *sets, f"fragments={fragments}").code == 0
    metrics = json.loads((tmp_path / "out.json").read_text())
    assert (metrics["seen"], metrics["unseen"], metrics["outside"]) == shares


@pytest.mark.parametrize(("fragments", "sizes"), [("keep", {3, 9}), ("largest", {3, 9}), ("refuse", {3, 9})])
def test_what_is_left_out_of_the_data_of_a_task_is_said(salts: Path, fragments: Fragments, sizes: set[int]) -> None:
    codec = MoleculeCodec(elements=(6, 7, 8), type_scale=1.0, hydrogen_scale=1.0)
    data = RealMolecules(str(salts), codec, fragments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x0, context = data(range(20), Key(0))
    assert {int(size) for size in context["mask"].sum(1)} == sizes
    assert np.isfinite(x0.numpy()).all()
    said = [str(warning.message) for warning in caught if "skipped" in str(warning.message)]
    assert len(said) == (fragments != "largest")


def test_a_reference_may_be_of_salts(salts: Path) -> None:
    def known(fragments: Fragments) -> int:
        return len(Similarity(reader=rdkit_bonds, reference=str(salts), fragments=fragments).fingerprints)

    assert (known("keep"), known("largest")) == (3, 2)
    with pytest.warns(UserWarning, match="1 of 3 records left out"):
        assert known("refuse") == 2
