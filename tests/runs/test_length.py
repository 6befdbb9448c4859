"""The length of a run: `iterations=+N` makes a run longer, `minutes=N` ends it in time."""

import json
import zipfile
from pathlib import Path

import pytest
from command import QUICK_PRETRAINING, QUICK_RUN, complaint, molrl
from test_resume_command import kept, rows

SMALL = ("rollouts=4", "minibatch=8", "evaluate=4", "threads=1", "policy.num_steps=5")
DOMAINS: dict[str, tuple[str, ...]] = {
    "molecules": ("algo=ddpo", *QUICK_RUN, "reward=logp", "optimizer.lr=1e-3"),
    "shapes": ("task=symmetry", "algo=dpok", *SMALL, "policy.points=32"),
    "images": ("task=compressibility", "policy=images", "algo=ddpo", *SMALL, "rollouts=8", "algo.train_steps=2"),
}


def summary(run: Path) -> dict[str, object]:
    """Return the summary of a run without its time."""
    return {name: value for name, value in json.loads((run / "summary.json").read_text()).items() if "wall" not in name}


def results(run: Path) -> dict[str, object]:
    """Return the results of a run that depend on its seed alone; of an archive its members, without their times."""
    found: dict[str, object] = dict(kept(run))
    for path in run.rglob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            found[str(path.relative_to(run))] = {name: archive.read(name) for name in archive.namelist()}
    return found


@pytest.fixture(scope="module", params=DOMAINS)
def domain(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(domain: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of three rounds that was neither stopped nor made longer."""
    run = tmp_path_factory.mktemp(domain) / "whole"
    assert molrl("train", *DOMAINS[domain], "iterations=3", f"run={run}").code == 0
    return run


@pytest.mark.timeout(1200)
def test_a_run_that_was_made_longer_is_the_longer_run_bit_for_bit(domain: str, whole: Path, tmp_path: Path) -> None:
    parts = tmp_path / "in two parts"
    first = molrl("train", *DOMAINS[domain], "iterations=1", f"run={parts}")
    assert first.code == 0, first
    assert "all 1 iterations are done" in first.out
    second = molrl("train", f"resume={parts}", "iterations=+2")
    assert (second.code, "going on after 1 iterations" in second.out) == (0, True), second
    assert rows(parts) == rows(whole)
    assert results(parts) == results(whole)
    assert summary(parts) == summary(whole)
    again = molrl("train", f"resume={parts}")
    assert again.out.startswith(f"{parts} is complete: ")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of one round."""
    run = tmp_path_factory.mktemp("runs") / "one"
    assert molrl("train", f"run={run}", *DOMAINS["molecules"], "iterations=1").code == 0
    return run


def test_a_run_is_never_made_shorter_and_adding_needs_a_run(run: Path) -> None:
    assert "has 1 already" in complaint(["train", f"resume={run}", "iterations=0"], 2)
    assert "molrl train resume=RUN iterations=+20" in complaint(["train", "iterations=+20"], 2)
    assert "seed=1" in complaint(["train", f"resume={run}", "seed=1", "iterations=+1"], 2)


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_a_time_that_is_none_is_refused(minutes: str) -> None:
    assert "minutes" in complaint(["train", f"minutes={minutes}"], 2)


@pytest.mark.timeout(1200)
def test_a_run_whose_time_is_over_ends_in_order_and_goes_on(domain: str, whole: Path, tmp_path: Path) -> None:
    """A thousandth of a second is over after the first round, whatever the machine."""
    timed = tmp_path / "timed"
    done = molrl("train", *DOMAINS[domain], "iterations=3", f"run={timed}", "minutes=1e-5")
    assert done.code == 0, done
    assert "passed after 1 of 3 iterations; to go on: molrl train resume=" in done.out
    ended = summary(timed)
    assert (ended["iterations"], ended["ended"]) == (1, "minutes=1e-05 passed after 1 of 3 iterations")
    assert {path.name for path in timed.iterdir()} >= {"model", "report.html", "report.png", "samples", "summary.json"}
    assert len(rows(timed)) == 1
    assert molrl("train", f"resume={timed}", "minutes=null").code == 0
    assert rows(timed) == rows(whole)
    assert results(timed) == results(whole)
    assert summary(timed) == summary(whole)


def test_pretraining_takes_more_steps_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert molrl("pretrain", f"run={run}", *QUICK_PRETRAINING).code == 0
    done = molrl("pretrain", f"resume={run}", "training.steps=+2")
    assert (done.code, "6 steps" in done.out) == (0, True), done
    assert "has 6 already" in complaint(["pretrain", f"resume={run}", "training.steps=4"], 2)
