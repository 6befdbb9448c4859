"""`--multirun` makes a run for every combination, and one table of them all."""

import csv
from pathlib import Path

import pytest
from command import QUICK_RUN, Outcome, complaint, molrl

SWEEP = ("train", "--multirun", "algo=ddpo,rwr", "seed=0", *QUICK_RUN)


def table(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a sweep's table."""
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """Return the folder of a sweep over two algorithms and how it ended."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    return folder, molrl(*SWEEP, f"hydra.sweep.dir={folder}")


def test_every_combination_is_a_run_and_a_row(sweep: tuple[Path, Outcome]) -> None:
    folder, done = sweep
    assert done.code == 0, done
    rows = table(folder)
    assert [(row["run"], row["algo"], row["task"]) for row in rows] == [("0", "ddpo", "qed"), ("1", "rwr", "qed")]
    assert rows[0]["before"] == rows[1]["before"], "the same seed, so the same samples before training"
    assert str(folder / "table.csv") in done.out
    assert f"report: {folder / 'report.html'}" in done.out
    assert "2 runs compared" in (folder / "report.html").read_text("utf-8")


def test_a_run_of_a_sweep_is_that_of_its_own_command(sweep: tuple[Path, Outcome], tmp_path: Path) -> None:
    assert molrl("train", "algo=rwr", "seed=0", f"run={tmp_path / 'alone'}", *QUICK_RUN).code == 0
    alone, swept = tmp_path / "alone", sweep[0] / "1"
    assert (alone / "config.yaml").read_text().replace(str(alone), str(swept)) == (swept / "config.yaml").read_text()


def test_a_failed_run_costs_no_other(tmp_path: Path) -> None:
    done = molrl("train", "--multirun", "algo=ddpo,rwrr", *QUICK_RUN, f"hydra.sweep.dir={tmp_path}")
    assert done.code == 6, done
    assert [row["algo"] for row in table(tmp_path)] == ["ddpo"]
    assert "1 of 2 runs failed: 1" in done.err


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interruption_ends_the_sweep_and_not_one_run_alone(name: str, code: int, tmp_path: Path) -> None:
    body = f"    signal.raise_signal(signal.{name})\n    return [0.0] * len(samples)\n"
    source = f"import signal\n\n\ndef stop(samples):\n{body}"
    (tmp_path / "own.py").write_text(source)
    sweep = tmp_path / "sweep"
    settings = [item for item in QUICK_RUN if not item.startswith("reward.")]
    done = molrl("train", "-m", f"reward={tmp_path / 'own.py'}:stop", "seed=0,1", *settings, f"hydra.sweep.dir={sweep}")
    assert done.code == code, done
    assert [path.name for path in sweep.iterdir() if path.is_dir()] == ["0"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("score", "--multirun", "in.smi"), "for molrl train"),
        (("train", "--multirun", "run=here"), "hydra.sweep.dir=FOLDER"),
    ],
)
def test_what_a_sweep_cannot_have_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    assert words in complaint(arguments, 2)
