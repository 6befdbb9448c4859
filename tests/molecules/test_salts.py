"""Salts in every command that reads molecules: as they are, the parent alone, or left out by name."""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from command import molrl

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.standardise import Fragments
from molrl.models.molecules.codec import MoleculeCodec
from molrl.models.molecules.dataset import RealMolecules
from molrl.noise import Key
from molrl.rewards.molecules.similarity import Similarity

SALT, PARENT = "Cl.NCCc1ccccc1", "NCCc1ccccc1"


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


@pytest.mark.parametrize(("fragments", "counts"), [("keep", (2, 0)), ("largest", (3, 0)), ("refuse", (2, 0))])
def test_the_metrics_are_those_of_the_parents(
    salts: Path, fragments: str, counts: tuple[int, int], tmp_path: Path
) -> None:
    """The reference is read in the same way: nothing is new to it."""
    out = tmp_path / "out.json"
    settings = [str(salts), f"reference={salts}", f"fragments={fragments}", "posebusters=null", f"out={out}"]
    done = molrl("evaluate", *settings)
    assert done.code == 0
    metrics = json.loads(out.read_text())
    assert (metrics["n"], metrics["novelty"]) == counts


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
