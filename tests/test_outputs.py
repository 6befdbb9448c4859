"""No command replaces an existing file unless `overwrite=true` says so."""

from pathlib import Path

import pytest
from command import QUICK_PRETRAINING, QUICK_RUN, complaint, molrl

from molrl.outputs import unused

SAMPLE = ("sample", "n=2", "policy.num_steps=3", "threads=1")
KEEP = b"do not lose me"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.smi").write_text("CCO\n")


COMMANDS = {
    "molecules": (*SAMPLE, "out=there.sdf"),
    "shapes": (*SAMPLE, "policy=shapes", "out=there.npz"),
    "images": (*SAMPLE, "policy=images", "out=there.zip"),
    "score": ("score", "in.smi", "reward=logp", "reward.workers=0", "out=there.csv"),
    "evaluate": ("evaluate", "in.smi", "out=there.json"),
    "oracle": ("oracle", "algo=adjoint", "out=there.json"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_is_there_stays_unless_it_may_go(name: str, tmp_path: Path) -> None:
    command = COMMANDS[name]
    there = tmp_path / command[-1].removeprefix("out=")
    there.write_bytes(KEEP)
    said = complaint(command, 2)
    assert f"out={there.name}" in said
    assert "overwrite=true" in said
    assert there.read_bytes() == KEEP
    done = molrl(*command, "overwrite=true")
    assert done.code in (0, 3), done  # of two samples perhaps none is readable
    assert there.read_bytes() != KEEP


@pytest.mark.parametrize("name", ["molecules", "evaluate", "oracle"])
def test_a_folder_is_never_replaced(name: str, tmp_path: Path) -> None:
    command = COMMANDS[name]
    (tmp_path / command[-1].removeprefix("out=")).mkdir()
    assert "is a folder" in complaint([*command, "overwrite=true"], 2)


@pytest.mark.parametrize("name", ["score", "evaluate"])
def test_the_file_that_is_read_is_never_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("smiles\nCCO\n")
    rest = ["reward=logp", "reward.workers=0"] if name == "score" else []
    assert "name another file" in complaint([name, "in.csv", *rest, "out=in.csv", "overwrite=true"], 2)
    assert (tmp_path / "in.csv").read_text() == "smiles\nCCO\n"


def test_a_dangling_link_is_something_too(tmp_path: Path) -> None:
    (tmp_path / "there.sdf").symlink_to("elsewhere.sdf")
    assert "overwrite=true" in complaint(COMMANDS["molecules"], 2)
    assert not (tmp_path / "elsewhere.sdf").exists()


@pytest.mark.parametrize("policy", ["qm9_heavy", "shapes", "images"])
def test_a_name_that_molrl_chose_is_a_new_one_and_is_printed(policy: str, tmp_path: Path) -> None:
    for number in ("", "_2", "_3"):
        before = set(tmp_path.iterdir())
        done = molrl(*SAMPLE, f"policy={policy}")
        (new,) = set(tmp_path.iterdir()) - before
        assert new.name.partition(".")[0] == f"samples{number}"
        assert f"{new.name}: 2 " in done.out


@pytest.mark.parametrize(
    "command", [("train", "algo=ddpo", *QUICK_RUN), ("pretrain", *QUICK_PRETRAINING)], ids=["train", "pretrain"]
)
def test_a_folder_of_something_else_is_no_run_folder(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_bytes(KEEP)
    said = complaint([*command, "run=mine"], 2)
    assert "run=mine exists" in said
    assert "name another folder" in said
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_folder_of_something_else_is_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "table.csv").write_bytes(KEEP)
    said = complaint(["train", "--multirun", "seed=0,1", *QUICK_RUN, "hydra.sweep.dir=mine"], 2)
    assert "hydra.sweep.dir=mine" in said
    assert (tmp_path / "mine" / "table.csv").read_bytes() == KEEP


def test_the_part_of_another_table_stays(tmp_path: Path) -> None:
    (tmp_path / "there.csv.part").write_bytes(KEEP)
    assert "there.csv.part exists" in complaint(COMMANDS["score"], 2)
    assert (tmp_path / "there.csv.part").read_bytes() == KEEP


def test_an_unused_name_has_its_number_before_the_suffixes(tmp_path: Path) -> None:
    for expected in ("a.csv.gz", "a_2.csv.gz", "a_3.csv.gz"):
        path = unused(tmp_path / "a.csv.gz")
        assert path.name == expected
        path.touch()
    assert unused(tmp_path).name == f"{tmp_path.name}_2"
