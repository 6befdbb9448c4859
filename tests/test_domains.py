"""A domain is one folder: `tests/circle` adds one, and every command works on it without a change anywhere else."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from molrl.domains import domain, domain_of_file, domain_of_model, names
from molrl.runs.tracking import read_metrics

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT / "tests/circle"), *filter(None, sys.path)]),
    "OMP_NUM_THREADS": "1",
}
TRAIN = (
    *("train", "task=custom", "reward=circle_radius", "algo=ddpo", "rollouts=32", "minibatch=160", "evaluate=16"),
    *("policy.num_steps=10", "threads=1", "algo.train_steps=5"),
)


SERVER = """
import json, sys
from command import molrl

for line in sys.stdin:
    print(json.dumps(molrl(*json.loads(line))), flush=True)
"""


class Commands:
    """A process that finds the domain and runs one command after another in a folder; to start one takes seconds."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", SERVER]
        self.process = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.folder = folder

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command, which is to end with this code, and return what it said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        got, out, err = json.loads(self.process.stdout.readline())
        assert got == code, out + err
        return str(err if code else out)


@pytest.fixture(scope="module")
def molrl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Yield commands in a folder with a pretrained model of points."""
    commands = Commands(tmp_path_factory.mktemp("circle"))
    with commands.process:
        shown = commands("pretrain", "model=circle", "run=pretrained", "threads=1")
        assert "radius error" in shown
        yield commands


def test_ours_are_found_as_any_other() -> None:
    assert names() == ["images", "molecules", "shapes"]
    for name in names():
        assert domain(name).name == name
        assert domain(name).headline


@pytest.mark.parametrize(
    ("file", "name"),
    [("x.sdf", "molecules"), ("x.csv.gz", "molecules"), ("x.xyz", "molecules"), ("x.glb", "shapes"), (".", "shapes")],
)
def test_a_file_belongs_to_the_domain_that_claims_it(file: str, name: str) -> None:
    assert domain_of_file(file).name == name


@pytest.mark.parametrize(
    ("model", "name"),
    [("qm9_heavy", "molecules"), ("shapes", "shapes"), ("images", "images"), ("hub:owner/name", "images")],
)
def test_a_model_belongs_to_the_domain_that_it_names(model: str, name: str) -> None:
    assert domain_of_model(model) == name


def test_samples_of_another_domain_are_drawn_measured_and_scored(molrl: Commands) -> None:
    assert "50 readable; radius" in molrl("sample", "policy=pretrained", "n=50", "out=new.circle")
    assert len((molrl.folder / "new.circle").read_text().splitlines()) == 50
    assert "radius error" in molrl("evaluate", "new.circle")
    with (molrl.folder / "new.circle").open("a") as file:
        file.write("no point\n")
    molrl("score", "new.circle", "reward=circle_radius", code=4)
    rows = (molrl.folder / "new.circle.circle_radius.csv").read_text().splitlines()
    assert rows[0] == "record,line,name,label,circle_radius,reason"
    assert len(rows) == 52
    assert "unreadable" in rows[-1]


def test_a_run_on_another_domain_survives_a_kill_and_leaves_a_report(molrl: Commands) -> None:
    molrl(*TRAIN, "policy=pretrained", "iterations=6", "run=whole")
    for name in ("report.html", "report.png", "samples/after.circle", "model/model.json", "summary.json"):
        assert (molrl.folder / "whole" / name).is_file()
    slow = [*TRAIN, "policy=pretrained", "iterations=6", "run=broken"]
    with subprocess.Popen(
        [sys.executable, "-m", "molrl", *slow],
        cwd=molrl.folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        rows = molrl.folder / "broken/metrics.jsonl"
        while not rows.exists() or len(rows.read_text().splitlines()) < 2:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    molrl("train", "resume=broken")
    whole, broken = (
        [{name: value for name, value in row.items() if "seconds" not in name} for row in read_metrics(path)]
        for path in (molrl.folder / "whole/metrics.jsonl", molrl.folder / "broken/metrics.jsonl")
    )
    assert broken == whole
    after = [json.loads((molrl.folder / run / "summary.json").read_text())["after"] for run in ("whole", "broken")]
    assert after[0] == after[1]


def test_what_is_of_another_domain_is_refused_before_anything_is_written(molrl: Commands) -> None:
    said = molrl(*TRAIN[:2], "policy=pretrained", "reward=qed", "run=mixed", code=2)
    assert "for circle, reward=qed is for molecules" in said
    said = molrl(*TRAIN, "policy=qm9_heavy", "run=mixed", code=2)
    assert "reward: scores circle, but policy=qm9_heavy draws molecules" in said
    assert len([line for line in said.splitlines() if "loading the model" not in line]) == 1  # which is slow at times
    assert not (molrl.folder / "mixed").exists()


def test_nothing_outside_its_folder_names_the_domain() -> None:
    """A new domain needs its own folder and one YAML in it, and no other file knows of it."""
    yaml = list((ROOT / "tests/circle").rglob("*.yaml"))
    assert len(yaml) == 1
    code = [path for name in ("molrl", "models", "rewards", "data") for path in (ROOT / name).rglob("*.py")]
    assert not [path for path in code if "import circle" in path.read_text() or "circle." in path.read_text()]
