"""Hashes of SMILES know their members, hold no structure, and travel with a model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import molrl
from hypothesis import given
from hypothesis import strategies as st

from molrl.data.molecules.smiles_hashes import SmilesHashes, hash_smiles
from molrl.models.molecules.model import HASHES, Architecture, load, save
from molrl.runs import checkpoint
from molrl.runs.errors import CheckpointError

TINY = Architecture(
    network={"kind": "egnn", "width": 4, "pair_width": 4, "blocks": 1, "radial": 2},
    noise_min=0.02,
    noise_max=9.0,
    data_std=(1.0,) * 4,
    codec={"elements": [6], "type_scale": 0.25, "charge_scale": None, "hydrogen_scale": None},
    sizes={"atoms": [4], "counts": [1]},
)


def test_the_hash_is_the_beginning_of_blake2b() -> None:
    """The value for no characters is that of the reference implementation (b2sum -l 64)."""
    assert f"{hash_smiles(''):016x}" == "e4a6a0577479b2b4"


@given(st.sets(st.text("CNOcno()=#123", max_size=9)), st.sets(st.text("CNOcno()=#123", max_size=9)))
def test_members_are_known_and_others_are_not(members: set[str], others: set[str]) -> None:
    hashes = SmilesHashes.of(members)
    assert len(hashes) == len(members)
    assert all(text in hashes for text in members)
    assert not any(text in hashes for text in others - members)


@pytest.mark.parametrize("values", [[2, 1], [1, 1], [[1, 2]]])
def test_values_in_another_order_are_refused(values: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        SmilesHashes(np.array(values, np.uint64))


def test_hashes_travel_with_a_model_and_are_protected_by_its_manifest(tmp_path: Path) -> None:
    state = TINY.build().denoiser.state_dict()
    save(tmp_path / "model", TINY, state, SmilesHashes.of(["CC", "CCC"]))
    reference = load(str(tmp_path / "model")).reference
    assert isinstance(reference, SmilesHashes)
    assert ["CC" in reference, "CCC" in reference, "C" in reference] == [True, True, False]
    (tmp_path / "new.smi").write_text("CC\nC\nCCCC\nCCC\n")
    sets = (f"reference={tmp_path / 'model'}", f"out={tmp_path / 'out.json'}")
    shown = molrl("evaluate", str(tmp_path / "new.smi"), *sets).out
    assert json.loads((tmp_path / "out.json").read_text())["novelty"] == 0.5
    assert "keeps only hashes of its training set" in shown
    path = tmp_path / "model" / f"{HASHES}.safetensors"
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(CheckpointError, match=HASHES):
        load(str(tmp_path / "model"))


@pytest.mark.parametrize("tensor", [torch.tensor([2, 1]), torch.tensor([0.5, 1.5]), torch.tensor([[1], [2]])])
def test_a_model_with_something_else_for_hashes_is_refused(tensor: torch.Tensor, tmp_path: Path) -> None:
    state = TINY.build().denoiser.state_dict()
    checkpoint.save(tmp_path / "model", {"weights": state, HASHES: {HASHES: tensor}}, {"model": TINY.plain()})
    with pytest.raises(CheckpointError, match="hashes of its training set"):
        load(str(tmp_path / "model"))
