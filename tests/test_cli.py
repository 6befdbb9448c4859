"""The command line does what the settings say and exits with 0, or says in one line why not."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import complaint, molrl

import molrl as package
from molrl.arguments import COMMANDS
from molrl.cli import HELP
from molrl.data.molecules.files import read
from molrl.exit_codes import ExitCode
from molrl.models.shipped import SHIPPED
from molrl.runs import checkpoint

MODEL = "qm9_heavy"
MIXED = "CCO ethanol\nC1CC unclosed ring\nc1ccccc1 benzene\n"
EXPLAINED, BAD_INPUT = ExitCode.USAGE, ExitCode.BAD_INPUT


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shell(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "molrl.cli", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_is_there_within_three_seconds() -> None:
    seconds = []
    for _ in range(3):  # another process may have the machine for a while
        began = time.perf_counter()
        assert shell("--help").stdout == molrl("--help").out
        seconds.append(time.perf_counter() - began)
        if seconds[-1] < 3:
            break
    assert min(seconds) < 3


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["train", "--cfg"]])
def test_looking_around_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from molrl.cli import main; code = main(sys.argv[1:]); "
        "print([name for name in ('torch', 'rdkit', 'numpy') if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_a_complaint_is_written_in_one_piece() -> None:
    """Launchers start Python unbuffered, and what several processes write comes out as they wrote it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.settimeout(60)
        command = [sys.executable, "-u", "-m", "molrl.cli", "score", "absent.sdf"]
        subprocess.run(command, stderr=theirs.fileno(), check=False)
        said = next(text for text in iter(lambda: ours.recv(1000), b"") if b"working" not in text)
        assert said == b"molrl: absent.sdf: cannot be read: No such file or directory\n"


def test_help_names_every_command_and_its_examples_can_be_composed() -> None:
    shown = molrl("--help").out
    assert all(f"\n  {name}" in shown for name in COMMANDS)
    examples = [line.split("  ")[1].split() for line in HELP.splitlines() if line.startswith("  molrl ")]
    assert len(examples) >= 5
    for _, command, *arguments in examples:
        assert molrl(command, *arguments, "--cfg").code == 0


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("train", "task= reward= algo= run: seed: device: iterations: rollouts: weights: candidates: timeout:"),
        ("pretrain", "model= data= run: steps: batch: network: max_heavy:"),
        ("sample", "weights: n: out: num_steps: seed:"),
        ("score", "reward= FILE file: out: timeout:"),
        ("evaluate", "FILE reference: hydrogens: out:"),
    ],
)
def test_the_help_of_a_command_shows_its_settings(command: str, settings: str) -> None:
    shown = molrl(command, "--help")
    assert shown.code == 0
    assert not [name for name in settings.split() if name not in shown.out]


def test_the_help_follows_the_choice() -> None:
    assert "candidates:" not in molrl("train", "algo=ddpo", "--help").out
    assert "    clip: " in molrl("train", "algo=ddpo", "--help").out
    assert "rgdm" in complaint(["train", "algo=rgmd", "--help"], EXPLAINED)
    assert "with reward=logp:\n  reward:\n    # Crippen's logP" in molrl("train", "reward=logp", "--help").out
    assert "synthesisability" in complaint(["train", "reward=synthesizability", "--help"], EXPLAINED)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_nothing_that_only_hydra_needs(command: str) -> None:
    assert not [word for word in ("defaults:", "_self_", "_global_") if word in molrl(command, "--help").out]


def test_nothing_asked_is_answered_with_help_and_is_no_success() -> None:
    assert molrl() == molrl("--help")._replace(code=2)


def test_the_version_is_that_of_the_package() -> None:
    assert molrl("--version").out.strip() == package.__version__


def test_cfg_shows_what_would_be_used_and_stops(tmp_path: Path) -> None:
    shown = molrl("train", "algo=ddpo", "policy.num_steps=7", "--cfg")
    assert shown.code == 0
    assert "num_steps: 7" in shown.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("training", "training known train pretrain sample score evaluate"),
        ("train -x", "-x option"),
        ("train foo", "foo name=value"),
        ("train =3", "=3 name=value"),
        ("train task=qde", "qde known qed mean"),
        ("train algo=rgmd", "rgmd known ddpo ddpo_sf rgdm mean"),
        ("train tsk=qed", "tsk mean task"),
        ("train algo.radus=3", "algo.radus mean algo.radius"),
        ("train lr=3", "lr mean optimizer.lr"),
        ("train reward=qedd", "reward=qedd known logp qed sa synthesisability mean"),
        ("train task.reward.workers=1", "task.reward.workers mean reward.workers"),
        ("train chosen.algo=ddpo", "chosen.algo"),
        ("train +new=3", "new allowed iterations"),
        ("train ~seed=0", "~seed"),
        ("train hydra.run.dir=x", "hydra.run.dir"),
        ("train seed='", "seed=' quotes"),
        ("train iterations=1,2", "iterations=1,2 several"),
        ("train iterations=abc", "iterations 'abc' int"),
        ("train iterations=0", "iterations 0 1"),
        ("train seed=1.5", "seed 1.5 int"),
        ("train algo.radius=abc", "algo.radius 'abc' float"),
        ("train algo.radius=-1", "radius -1"),
        ("train optimizer.lr=abc", "optimizer.lr 'abc' float"),
        ("train optimizer.lr=-1", "optimizer learning rate -1"),
        ("train reward=null", "reward=null known logp qed"),
        ("train reward.workers=abc", "reward.workers 'abc' int"),
        ("train policy.num_steps=0", "num_steps 0 1"),
        ("train policy.eta=2", "eta 2 0 1"),
        ("train evaluate=1", "evaluate 1 2"),
        ("train evaluate=abc", "evaluate 'abc' int"),
        ("train device=null", "device null str"),
        ("train device=tpu", "device=tpu auto cpu cuda"),
        ("train threads=0", "threads 1 null"),
        ("sample n=0", "n 0 1"),
        ("sample n=true", "n True int"),
        ("sample policy.num_steps=0", "num_steps 0 1"),
        ("sample out=new.pdb", "out=new.pdb .sdf"),
        ("score", "file missing"),
        ("score a.sdf b.sdf", "2 files one"),
        ("score a.sdf reward=nope", "nope known qed logp sa"),
        ("evaluate a.sdf hydrogens=some", "hydrogens some counts"),
        ("pretrain data=file", "data.path missing"),
        ("pretrain data=file data.pathh=a.sdf", "data.pathh mean data.path"),
        ("pretrain model.codec.type_scale=abc", "type_scale 'abc' float"),
        ("pretrain training.lr=abc", "training.lr 'abc' float"),
    ],
)
def test_wrong_use_is_explained_and_leaves_nothing_behind(arguments: str, words: str, tmp_path: Path) -> None:
    said = complaint(arguments.split(), EXPLAINED)
    assert not [word for word in words.split() if word not in said], said
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("command", ["train", "sample", "pretrain"])
def test_a_gpu_that_is_not_there_is_refused_before_anything_starts(command: str, tmp_path: Path) -> None:
    assert "device=cuda" in complaint([command, "device=cuda"], EXPLAINED)
    assert not list(tmp_path.iterdir())


def test_a_refusal_takes_no_import_of_the_model_and_no_traceback_in_a_process_of_its_own() -> None:
    done = shell("train", "algo=rgmd")
    assert (done.returncode, done.stdout) == (EXPLAINED, "")
    assert done.stderr.startswith("molrl: algo=rgmd")
    assert done.stderr.count("\n") == 1


def empty(path: Path) -> None:
    path.touch()


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


@pytest.mark.parametrize("command", ["score", "evaluate"])
@pytest.mark.parametrize(
    ("name", "make", "word"),
    [
        ("none.sdf", None, "No such file"),
        ("empty.sdf", empty, "empty"),
        ("binary.sdf", binary, "binary"),
        ("folder.sdf", Path.mkdir, "folder"),
        ("some.pdb", empty, "allowed"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    command: str, name: str, make: Callable[[Path], None] | None, word: str, tmp_path: Path
) -> None:
    if make is not None:
        make(tmp_path / name)
    said = complaint([command, name, *(["reward.workers=0"] if command == "score" else [])], BAD_INPUT)
    assert name in said
    assert word in said
    assert [path.name for path in tmp_path.iterdir()] == ([] if make is None else [name])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_one_may_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret.sdf").write_text("x")
    (tmp_path / "secret.sdf").chmod(0)
    assert "secret.sdf" in complaint(["evaluate", "secret.sdf"], BAD_INPUT)


def test_a_file_is_scored_row_by_row_into_a_table_named_after_the_reward(tmp_path: Path) -> None:
    (tmp_path / "mixed.smi").write_text(MIXED)
    for reward in ("qed", "logp"):
        done = molrl("score", "mixed.smi", f"reward={reward}", "reward.workers=0")
        assert done.code == 4  # a line could not be read
        assert f"3 records\n  {reward}: 2 scored" in done.out
        assert "1 unreadable" in done.out
        with (tmp_path / f"mixed.smi.{reward}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [bool(row[reward]) for row in rows] == [True, False, True]
        assert [bool(row["reason"]) for row in rows] == [False, True, False]


def test_out_names_the_table(tmp_path: Path) -> None:
    (tmp_path / "it's = a file.smi").write_text(MIXED)
    assert (
        molrl("score", "it's = a file.smi", "reward.workers=0", "out=sub folder/x=1.csv", "allow_failures=true").code
        == 0
    )
    assert (tmp_path / "sub folder/x=1.csv").is_file()


def test_a_file_in_which_nothing_can_be_scored_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "bad.smi").write_text("C1CC\nnothing\n")
    done = molrl("score", "bad.smi", "reward.workers=0")
    assert (done.code, done.err) == (3, "")
    assert "nothing scored" in done.out
    assert molrl("evaluate", "bad.smi").code == 3


def test_evaluation_prints_the_protocol_and_writes_it_as_json(tmp_path: Path) -> None:
    (tmp_path / "mixed.smi").write_text(MIXED)
    (tmp_path / "known.smi").write_text("OCC\n")
    done = molrl("evaluate", "mixed.smi", "reference=known.smi", "out=figures.json")
    assert done.code == 0
    assert "2 molecules, 1 skipped" in done.out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["n"], figures["uniqueness"], figures["novelty"]) == (3, 1.0, 0.5)
    assert figures["validity"] == pytest.approx(2 / 3)  # the skipped line is an invalid sample
    assert "novelty 0.5000 not in the reference" in " ".join(done.out.split())
    assert "perceive_bonds" in done.out


def test_a_reference_may_be_a_model_and_must_be_something(tmp_path: Path) -> None:
    (tmp_path / "known.smi").write_text("CCO\nCCCCCCCCCCCCCCCCCC\n")
    shutil.copytree(SHIPPED / "molecules" / MODEL, tmp_path / "folder")
    for reference in (MODEL, "folder"):
        shown = molrl("evaluate", "known.smi", f"reference={reference}").out
        assert "novelty 0.5000 not in the reference" in " ".join(shown.split())
    (tmp_path / "folder" / "reference.smi.gz").unlink()
    assert "without its training set" in complaint(["evaluate", "known.smi", "reference=folder"], BAD_INPUT)
    assert "nope" in complaint(["evaluate", "known.smi", "reference=nope"], BAD_INPUT)


def test_samples_are_written_and_depend_on_the_seed_alone(tmp_path: Path) -> None:
    for name, options in {"one": [], "two": ["batch=5"], "other": ["seed=1"]}.items():
        done = molrl("sample", "n=12", "policy.num_steps=10", "threads=1", f"out=new/{name}.sdf", *options)
        assert done.code == 0
        assert "12 molecules" in done.out
    one, two, other = ((tmp_path / f"new/{name}.sdf").read_text() for name in ("one", "two", "other"))
    assert one.count("$$$$") == 12
    assert one != other
    (a, _), (b, _) = read("new/one.sdf"), read("new/two.sdf")
    assert [list(m.numbers) for m in a] == [list(m.numbers) for m in b]
    assert one.splitlines()[3] == two.splitlines()[3]


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short, emptied])
@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "manifest.json"])
def test_a_damaged_model_is_named(name: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "molecules" / MODEL, tmp_path / "model")
    damage(tmp_path / "model" / name)
    said = complaint(["sample", "policy=model", "n=1"], BAD_INPUT)
    assert f"model/{name}" in said or (name == "manifest.json" and "the manifest" in said)


def test_weights_of_the_wrong_shape_are_named(tmp_path: Path) -> None:
    tensors, values = checkpoint.load(SHIPPED / "molecules" / MODEL)
    name = next(name for name, tensor in tensors["weights"].items() if tensor.ndim == 2)
    tensors["weights"][name] = tensors["weights"][name][:-1]
    checkpoint.save(tmp_path / "model", tensors, values)
    assert name in complaint(["sample", "policy=model", "n=1"], BAD_INPUT)
    assert name in complaint(["train", "policy=model", "run=run"], BAD_INPUT)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [["sample", "policy=nope"], ["train", "policy=nope"]])
def test_a_model_that_is_not_there_is_answered_with_those_that_are(arguments: list[str], tmp_path: Path) -> None:
    said = complaint(arguments, EXPLAINED)
    assert "nope" in said
    assert MODEL in said
    assert not list(tmp_path.iterdir())
