"""`molrl pretrain` makes a model that the other commands take, goes on where it was, and leaves other folders alone."""

import json
from pathlib import Path

import pytest
import torch
from command import QUICK_PRETRAINING, complaint, molrl

from molrl.data.molecules.files import read
from molrl.models.molecules.model import load
from molrl.runs.checkpoints import Series


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain") / "run"
    done = molrl("pretrain", f"run={folder}", *QUICK_PRETRAINING)
    assert done.code == 0, done
    assert "40 molecules" in done.out
    assert f"model: {folder / 'model'}" in done.out
    return folder


def test_pretraining_makes_a_model_that_can_be_sampled(trained: Path, tmp_path: Path) -> None:
    assert load(str(trained / "model")).reference
    done = molrl("sample", f"policy={trained / 'model'}", "n=3", "policy.num_steps=5", f"out={tmp_path / 'x.sdf'}")
    assert done.code in (0, 3)  # four steps of training do not promise a molecule
    assert len(read(tmp_path / "x.sdf")[0]) == 3


def test_the_quality_of_samples_is_logged_along_the_way(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "pretrain.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert all({"loss", "validity", "uniqueness", "edm_molecule_stability"} <= set(row) for row in rows)


def test_pretraining_goes_on_to_what_it_would_have_been(trained: Path, tmp_path: Path) -> None:
    """The learning rate is still at its peak at step 2, whatever the end is."""
    for steps in ("training.steps=3", "training.steps=4"):
        settings = [item for item in QUICK_PRETRAINING if not item.startswith("training.steps")]
        assert molrl("pretrain", f"run={tmp_path / 'run'}", *settings, steps, "training.cooldown=0").code == 0
    assert Series(tmp_path / "run/checkpoint").steps()[-1] == 4
    uninterrupted = tmp_path / "uninterrupted"
    assert molrl("pretrain", f"run={uninterrupted}", *QUICK_PRETRAINING, "training.cooldown=0").code == 0
    one, two = (load(str(path / "model")).denoiser.state_dict() for path in (tmp_path / "run", uninterrupted))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_finished_pretraining_stays_as_it_is(trained: Path) -> None:
    weights = (trained / "model/weights.safetensors").read_bytes()
    assert molrl("pretrain", f"run={trained}", *QUICK_PRETRAINING).code == 0
    assert (trained / "model/weights.safetensors").read_bytes() == weights


@pytest.mark.parametrize("change", ["model.network.width=16", "data.n=30", "model.noise_max=9.0"])
def test_the_folder_of_another_model_or_data_set_is_refused(change: str, trained: Path) -> None:
    settings = [item for item in QUICK_PRETRAINING if not item.startswith("data.n") or not change.startswith("data.n")]
    weights = (trained / "model/weights.safetensors").read_bytes()
    assert "name another folder" in complaint(["pretrain", f"run={trained}", *settings, change], 2)
    assert (trained / "model/weights.safetensors").read_bytes() == weights


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert str(tmp_path) in complaint(["pretrain", f"run={tmp_path}", *QUICK_PRETRAINING], 2)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_molecules_with_an_element_the_model_does_not_know_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "mine.smi").write_text("CCCO one\nCCCN two\nCCCCl salty\nC1CC broken\nCCCCC three\n")
    data = ["data=smiles", f"data.path={tmp_path / 'mine.smi'}", "data.workers=0", f"data.cache={tmp_path / 'cache'}"]
    data += [f"run={tmp_path / 'run'}", "model.codec.elements=[C,N,O]"]
    settings = [*data, *(item for item in QUICK_PRETRAINING if not item.startswith("data."))]
    assert "2 of 5 records (40%) would be left out" in complaint(["pretrain", *settings], 2)
    assert not (tmp_path / "run").exists()
    done = molrl("pretrain", *settings, "model.max_skipped=0.4")
    assert done.code == 0
    assert "skipped salty: element Cl" in done.out
    assert "skipped line 4" in done.out
    assert "3 molecules" in done.out


def drug_file(folder: Path, *more: str) -> list[str]:
    """Write ten drugs as SMILES, most of their atom types rare, and return the settings to train on them in no time."""
    smiles = (
        *("CC(=O)Nc1ccc(O)cc1", "CC(C)Cc1ccc(C(C)C(=O)O)cc1", "O=[N+]([O-])c1ccc(Cl)cc1", "Nc1ccc(S(N)(=O)=O)cc1"),
        *("CN1CCC[C@H]1c1cccnc1", "Fc1ccc(C(=O)CCl)cc1", "BrCC(=O)c1ccccc1", "OCC1OC(O)C(O)C(O)C1O"),
        *("c1ccc2[nH]ccc2c1", "CCOC(=O)c1ccc(N)cc1"),
    )
    (folder / "drugs.smi").write_text("\n".join((*smiles, *more)))
    settings = [f"data.path={folder / 'drugs.smi'}", "data.workers=0", f"data.cache={folder / 'cache'}"]
    short = [
        "training.bf16=false",
        "training.steps=1",
        "training.batch=2",
        "evaluate=2",
        "num_steps=2",
        "threads=1",
        f"run={folder / 'run'}",
    ]
    return [*settings, *short]


def test_a_few_drugs_teach_the_shipped_model_whose_atom_types_they_have(tmp_path: Path) -> None:
    done = molrl("pretrain", "model=drugs", "init=drugs", *drug_file(tmp_path))
    assert done.code == 0, done
    assert "10 molecules" in done.out
    assert "skipped" not in done.out
    types = load(str(tmp_path / "run/model")).codec.plain()["types"]
    assert {(7, 0, 1), (35, 0, 0), (9, 0, 0)} < set(map(tuple, types))


def test_a_type_that_nothing_teaches_is_named_with_the_setting_that_learns_it(tmp_path: Path) -> None:
    command = ["pretrain", "model=drugs", "init=drugs", *drug_file(tmp_path, "CC[Si](CC)(CC)c1ccccc1")]
    message = complaint(command, 2)
    assert "1 of 11 records (9%) would be left out" in message
    assert "a model.codec.min_count below 20 atoms learns rarer types (1 of these records)" in message
    assert molrl(*command, "model.codec.min_count=1").code == 0


def test_an_unknown_start_is_refused_before_the_data_set_is_read(tmp_path: Path) -> None:
    (tmp_path / "empty.smi").write_text("")
    settings = ["model=drugs", "training.bf16=false", f"data.path={tmp_path / 'empty.smi'}"]
    assert "nope: no such model" in complaint(["pretrain", *settings, "init=nope"], 5)


@pytest.mark.parametrize(("text", "word"), [("CCCCl\nCCCBr\n", "none of 0"), ("", "empty"), ("\0\1\2" * 99, "binary")])
def test_a_file_with_nothing_to_learn_from_is_refused_and_leaves_no_folder(
    text: str, word: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.smi").write_text(text)
    data = ["data=smiles", f"data.path={tmp_path / 'mine.smi'}", "data.workers=0", f"data.cache={tmp_path / 'cache'}"]
    data += ["model.codec.elements=[6,7,8]", "model.max_skipped=1"]
    rest = [item for item in QUICK_PRETRAINING if not item.startswith("data.")]
    assert word in complaint(["pretrain", f"run={tmp_path / 'run'}", *data, *rest], 5)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        *("model.network.width=0", "model.network.width=abc", "model.network.kind=nope", "+model.network.depth=3"),
        *("model.noise_min=-1", "model.bucket=0", "model.codec.elements=[]", "model.codec.elements=[400]"),
        *("num_steps=0", "grid_power=-1", "training.bf16=maybe"),
    ],
)
def test_a_model_that_cannot_be_is_refused_and_leaves_no_folder(wrong: str, tmp_path: Path) -> None:
    complaint(["pretrain", f"run={tmp_path / 'run'}", *QUICK_PRETRAINING, wrong], 2)
    assert not (tmp_path / "run").exists()


def test_training_may_start_from_another_model(trained: Path, tmp_path: Path) -> None:
    """One step at a rate of nearly nothing leaves its weights where they were."""
    still = [f"init={trained / 'model'}", "training.steps=1", "training.lr=1e-9", "training.save_every=1"]
    assert molrl("pretrain", f"run={tmp_path / 'run'}", *QUICK_PRETRAINING, *still).code == 0
    before, after = (load(str(path / "model")).denoiser.state_dict() for path in (trained, tmp_path / "run"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_weights_of_another_shape_are_no_start(trained: Path, tmp_path: Path) -> None:
    message = complaint(["pretrain", f"run={tmp_path / 'run'}", *QUICK_PRETRAINING, "init=qm9_heavy"], 5)
    assert "misshaped" in message or "missing" in message
    assert not (tmp_path / "run").exists()
