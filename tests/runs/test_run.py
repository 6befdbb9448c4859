"""A run keeps all it promises in its folder, repeats itself, goes on where it was stopped, and harms no other run."""

import json
import math
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command import OF_GRADIENTS, OF_PIPELINES, QUICK_RUN, complaint, molrl
from PIL import Image
from torch import Tensor

from molrl.composition import choices, compose
from molrl.config import ConfigError
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.scores import Scored, Scores
from molrl.run import train
from molrl.runs.checkpoints import Series
from molrl.runs.errors import CheckpointError
from molrl.runs.folder import lock
from molrl.runs.tracking import read_metrics

ALGORITHMS = sorted({*choices("algo")} - {*OF_GRADIENTS, *OF_PIPELINES})
CHAIN_FACTS = ("ddpo", "ddpo_sf", "dpok", "grpo")  # of those that learn from reverse steps
OF_NOISED_SAMPLES = ("awm", "dpo", "epg", "nft", "pepg", "ram", "rwr", "rwr_sparse", "sft_kl_d", "sft_kl_o", "tilt")
SMALL = {
    "rgdm": ("algo.candidates=2", "algo.states=1", "algo.held=1"),
    **dict.fromkeys(OF_NOISED_SAMPLES, ("algo.noisings=2",)),
}
METRICS = (
    "iteration reward reward_std validity uniqueness kl clip_fraction max_abs_log_ratio_first reward_queries "
    "seconds_rollout seconds_decode seconds_reward seconds_candidates seconds_metrics seconds_train seconds"
).split()
MEASUREMENTS = (  # all that is promised
    "n lost reward_mean reward_sem validity uniqueness novelty valence_molecule_stability edm_molecule_stability"
).split()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished run of every algorithm."""
    folder = tmp_path_factory.mktemp("runs")
    for algo in ALGORITHMS:
        done = molrl("train", f"algo={algo}", f"run={folder / algo}", *QUICK_RUN, *SMALL.get(algo, ()))
        assert done.code == 0, done
    return folder


def untimed(path: Path) -> list[dict[str, Any]]:
    rows = read_metrics(path / "metrics.jsonl")
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def known(metric: str, row: dict[str, Any]) -> Any:
    """Return the type of a metric: a number, or None for the uniqueness of no molecules."""
    return NoneType if metric == "uniqueness" and row["validity"] == 0 else int | float


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_run_leaves_its_settings_metrics_samples_model_and_report(algo: str, runs: Path) -> None:
    run = runs / algo
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["iterations"], config["task"]["name"]) == (2, "qed")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [0, 1]
    assert not [name for row in rows for name in METRICS if not isinstance(row[name], known(name, row))]
    assert any(path.name.startswith("events") for path in (run / "tensorboard").iterdir())
    for when in ("before", "after"):
        assert (run / f"samples/{when}.sdf").read_text().count("$$$$") == 8
    with Image.open(run / "report.png") as image:
        assert image.width > 1000
    assert "<html" in (run / "report.html").read_text()


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_summary_says_what_was_asked_and_what_came_of_it(algo: str, runs: Path) -> None:
    summary = json.loads((runs / algo / "summary.json").read_text())
    assert list(summary) == [
        "task",
        "reward",
        "algo",
        "seed",
        "iterations",
        "ended",
        "reward_queries",
        "wall_seconds",
        "before",
        "after",
        "best",
        "changes",
    ]
    assert [summary[name] for name in ("task", "reward", "algo", "seed")] == ["qed", "qed", algo, 0]
    assert summary["reward_queries"] == sum(row["reward_queries"] for row in untimed(runs / algo)) >= 16
    assert summary["wall_seconds"] > 0
    for when in ("before", "after"):
        assert set(MEASUREMENTS) <= set(summary[when])
        assert summary[when]["n"] == 8
        assert 0 <= summary[when]["reward_mean"] <= 1


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_algorithm_moves_the_model_and_says_how_far(algo: str, runs: Path) -> None:
    summary = json.loads((runs / algo / "summary.json").read_text())
    assert summary["before"]["kl"] == 0
    assert summary["after"]["kl"] > 0
    rows = untimed(runs / algo)
    for row in rows:
        assert row["max_abs_log_ratio_first"] <= 1e-3
        assert row["reward_before"] == pytest.approx(summary["before"]["reward_mean"])
        assert row["kl"] >= 0
    assert any(row["grad_norm"] > 0 for row in rows)  # five steps make few sound molecules; a round may have none
    if algo in CHAIN_FACTS:
        assert any(name.startswith("log_ratio_mean_") for name in rows[1])
    if algo.startswith(("rwr", "sft")):
        assert 0 < rows[0]["weight_ess"] <= 1


def test_every_run_is_measured_before_on_the_same_molecules(runs: Path) -> None:
    first, *others = ((runs / algo / "samples/before.sdf").read_text() for algo in ALGORITHMS)
    assert all(other == first for other in others)
    assert first != (runs / ALGORITHMS[0] / "samples/after.sdf").read_text()


def test_the_trained_model_can_be_sampled_and_trained_further(runs: Path, tmp_path: Path) -> None:
    model = runs / "ddpo/model"
    sampled = molrl(
        "sample", f"policy={model}", "n=8", "policy.num_steps=5", f"out={tmp_path / 'new.sdf'}", "threads=1"
    )
    assert "8 molecules" in sampled.out
    assert len(read(tmp_path / "new.sdf")[0]) == 8
    arguments = ["algo=ddpo", f"policy={model}", f"run={tmp_path / 'further'}", *QUICK_RUN, "iterations=1"]
    assert molrl("train", *arguments).code == 0
    before = json.loads((tmp_path / "further/summary.json").read_text())["before"]
    after = json.loads((runs / "ddpo/summary.json").read_text())["after"]
    assert after.pop("kl") > before.pop("kl") == 0  # each against the model that its own run began with
    assert before == pytest.approx(after, nan_ok=True)


def test_the_same_seed_gives_the_same_run(runs: Path, tmp_path: Path) -> None:
    assert molrl("train", "algo=ddpo", f"run={tmp_path / 'again'}", *QUICK_RUN).code == 0
    assert untimed(tmp_path / "again") == untimed(runs / "ddpo")
    assert (tmp_path / "again/samples/after.sdf").read_text() == (runs / "ddpo/samples/after.sdf").read_text()


def test_a_finished_run_says_so_and_stays_as_it_is(runs: Path) -> None:
    files = {path: path.read_bytes() for path in (runs / "ddpo").rglob("*") if path.is_file()}
    done = molrl("train", "algo=ddpo", f"run={runs / 'ddpo'}", *QUICK_RUN)
    assert done.code == 0
    assert "complete" in done.out
    assert {path: path.read_bytes() for path in (runs / "ddpo").rglob("*") if path.is_file()} == files


LOADED = (
    "import sys; from molrl.cli import main; code = main(sys.argv[1:]); "
    "print([name for name in ('torch', 'rdkit', 'numpy') if name in sys.modules], file=sys.stderr); sys.exit(code)"
)


def test_a_finished_run_says_so_before_anything_heavy_is_loaded(runs: Path) -> None:
    command = [sys.executable, "-c", LOADED, "train", "algo=ddpo", f"run={runs / 'ddpo'}", *QUICK_RUN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert done.stdout.startswith(f"{runs / 'ddpo'} is complete: reward 0.")
    other = subprocess.run([*command, "seed=1"], capture_output=True, text=True, check=False)
    assert (other.returncode, other.stdout) == (2, "")
    assert "seed: 0 -> 1" in other.stderr
    assert other.stderr.endswith("[]\n")


def test_another_reward_than_the_tasks_own_is_named_wherever_the_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = molrl("train", "algo=ddpo", "reward=logp", *QUICK_RUN, "iterations=1")
    assert done.code == 0
    assert "task qed, reward logp, ddpo, seed 0" in done.out
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.endswith("_qed_logp")
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["task"], summary["reward"]) == ("qed", "logp")
    assert "reward logp" in (run / "report.html").read_text()
    assert "reward: 'logp' -> 'sa'" in complaint(["train", "algo=ddpo", "reward=sa", f"run={run}", *QUICK_RUN], 2)


def test_the_folder_of_another_run_is_refused_with_what_differs(runs: Path) -> None:
    other = ["train", "algo=ddpo", f"run={runs / 'ddpo'}", *QUICK_RUN, "algo.clip=0.51", "rollouts=9"]
    said = complaint(other, 2)
    assert f"algo.clip: {compose('train', ['algo=ddpo'])['algo']['clip']} -> 0.51" in said
    assert "rollouts: 8 -> 9" in said
    assert "minibatch" not in said
    said = complaint(["train", "algo=rgdm", f"run={runs / 'ddpo'}", *QUICK_RUN], 2)
    assert "(algo: 'ddpo' -> 'rgdm')" in said


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert str(tmp_path) in complaint(["train", f"run={tmp_path}", *QUICK_RUN], 2)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert "thesis.tex" in complaint(["train", f"run={tmp_path / 'thesis.tex'}", *QUICK_RUN], 2)


def test_a_folder_whose_settings_are_damaged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{[")
    assert "config.yaml" in complaint(["train", f"run={tmp_path}", *QUICK_RUN], 2)


def test_a_folder_in_use_is_refused_with_who_uses_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["train", f"run={run}", *QUICK_RUN]
    run.mkdir()
    (run / "config.yaml").write_text(molrl(*arguments, "--cfg").out)
    script = (
        "import sys; from pathlib import Path; from molrl.runs.folder import lock\n"
        "with lock(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        assert f"process {holder.pid}" in complaint(arguments, 2)
        holder.kill()
    with lock(run):
        pass


def test_settings_that_cannot_be_met_leave_no_folder_so_the_corrected_command_runs(tmp_path: Path) -> None:
    arguments = ["train", "algo=ddpo", f"run={tmp_path / 'run'}", *QUICK_RUN]
    for wrong in ("algo.clip=-1", "optimizer.lr=-1", "policy=nope", "device=tpu"):
        assert molrl(*arguments, wrong).code > 0
        assert not (tmp_path / "run").exists()


def rings(molecules: Sequence[Molecule]) -> Tensor:
    """Count the rings of each sound molecule; 0 for the others."""
    mols = [rdkit_bonds(molecule).mol for molecule in molecules]
    return torch.tensor([0.0 if mol is None else mol.GetRingInfo().NumRings() for mol in mols])


class Interrupted:
    """The same reward, whose n-th call is interrupted by Ctrl-C."""

    __name__ = "rings"

    def __init__(self, call: int) -> None:
        self.calls_left = call

    def __call__(self, molecules: Sequence[Molecule]) -> Tensor:
        self.calls_left -= 1
        if self.calls_left == 0:
            raise KeyboardInterrupt
        return rings(molecules)


def of_rings(run: Path) -> dict[str, Any]:
    return compose("train", ["algo=ddpo", f"run={run}", *QUICK_RUN])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the example of the README: any function of molecules is a reward."""
    run = tmp_path_factory.mktemp("whole") / "rings"
    assert train(of_rings(run), reward=rings) == 0
    return run


@pytest.fixture
def broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Run the same reward, stopped in the second iteration."""
    run = tmp_path / "broken"
    assert train(of_rings(run), Interrupted(call=3)) == 130  # the measurement before, iteration 0, iteration 1
    assert "1 of 2 iterations are kept; to go on: molrl.train, with the same" in capsys.readouterr().out
    assert len(untimed(run)) == 1
    return run


def test_any_function_of_molecules_is_a_reward(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert [summary[name] for name in ("task", "reward", "algo")] == ["qed", "rings", "ddpo"]
    assert summary["before"]["reward_mean"] > 0
    with pytest.raises(ConfigError, match=r"\(reward: 'rings' -> 'qed'\)"):
        train(of_rings(whole))


def test_an_interrupted_run_goes_on_to_what_it_would_have_been(whole: Path, broken: Path) -> None:
    assert train(of_rings(broken), rings) == 0
    assert untimed(broken) == untimed(whole)
    one, two = (json.loads((run / "summary.json").read_text()) for run in (whole, broken))
    assert {**one, "wall_seconds": 0} == {**two, "wall_seconds": 0}
    for part in ("samples/after.sdf", "model/weights.safetensors"):
        assert (whole / part).read_bytes() == (broken / part).read_bytes()


def test_a_damaged_checkpoint_is_named_and_nothing_starts_afresh(broken: Path) -> None:
    path = broken / "checkpoint/step_00000001/denoiser.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=path.name):
        train(of_rings(broken), rings)
    assert len(untimed(broken)) == 1


def children(process: int) -> list[str]:
    """Return the processes that a process has started, from any of its threads (Linux)."""
    threads = Path(f"/proc/{process}/task").glob("*/children")
    return [child for thread in threads for child in thread.read_text().split()]


def running(process: str) -> bool:
    """Return whether a process is alive, and no zombie (Linux)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def long_run(tmp_path: Path) -> Iterator["tuple[Path, subprocess.Popen[str]]"]:
    """Start a long run and yield its folder and process once training has begun."""
    long = ("iterations=1000", "evaluate=2", "reward.workers=1")
    arguments = ["train", "algo=ddpo", f"run={tmp_path / 'run'}", *QUICK_RUN, *long]
    with subprocess.Popen(
        [sys.executable, "-m", "molrl.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("2/1000"):  # the checkpoint of the first iteration is safe
                break
        yield tmp_path / "run", process
        process.kill()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_end_a_run_with_a_checkpoint_and_no_workers(
    sent: signal.Signals, code: int, long_run: "tuple[Path, subprocess.Popen[str]]"
) -> None:
    run, process = long_run
    workers = children(process.pid)
    assert workers or sys.platform != "linux"
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"to go on: molrl train resume={run}\n" in out
    until = time.monotonic() + 10  # multiprocessing's own helper ends when it finds its parent gone
    while left := [worker for worker in workers if running(worker)]:
        assert time.monotonic() < until, left
        time.sleep(0.05)
    assert "Traceback" not in err
    assert Series(run / "checkpoint").steps()[-1] >= 1


def test_a_reward_that_scores_nothing_ends_the_run_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = compose("train", [f"run={tmp_path / 'run'}", *QUICK_RUN])
    assert train(config, lambda molecules: torch.full((len(molecules),), torch.nan)) == 3
    assert "none of 8 samples could be scored: the reward gives no reason\n" in capsys.readouterr().err


class Failing:
    """A reward that says why it scores nothing."""

    def __call__(self, samples: Sequence[Any]) -> torch.Tensor:
        return self.score(samples).tensor()

    def score(self, samples: Sequence[Any]) -> Scores:
        return Scores(tuple(Scored(math.nan, f"crash: {row}") for row in range(len(samples))))


def test_where_nothing_is_scored_the_reasons_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = compose("train", [f"run={tmp_path / 'run'}", *QUICK_RUN])
    assert train(config, Failing()) == 3
    assert "none of 8 samples could be scored: crash: 0; crash: 1; crash: 2\n" in capsys.readouterr().err


def test_lost_rewards_are_counted_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def some(molecules: Sequence[Any]) -> torch.Tensor:
        return torch.tensor([math.nan, 1.0] * (len(molecules) // 2))

    assert train(compose("train", [f"run={tmp_path / 'run'}", *QUICK_RUN]), some) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [(summary[when]["n"], summary[when]["lost"]) for when in ("before", "after")] == [(8, 4)] * 2
    printed = capsys.readouterr().out
    assert printed.count("(4 scored of n = 8)") == 2


def test_a_reward_of_the_wrong_kind_is_told_what_is_expected(tmp_path: Path) -> None:
    config = compose("train", [f"run={tmp_path / 'run'}", *QUICK_RUN])
    with pytest.raises(ValueError, match=r"reward: got list, expected a tensor of shape \(8,\)"):
        train(config, lambda molecules: [1.0] * len(molecules))  # type: ignore[arg-type]


def test_a_reward_that_draws_from_the_global_generators_repeats_itself(tmp_path: Path) -> None:
    """Python's, numpy's and torch's, in a run, and with another seed differently."""

    def noisy(samples: Sequence[Molecule]) -> Tensor:
        own = [random.random() + np.random.rand() + float(torch.rand(())) for _ in samples]  # noqa: NPY002
        return torch.tensor(own)

    rows = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = compose("train", ["algo=ddpo", *QUICK_RUN, f"seed={seed}", f"run={tmp_path / name}"])
        assert train(config, noisy) == 0
        for disturb in (random.seed, np.random.seed, torch.manual_seed):  # what came before does not matter
            disturb(17)
        rows.append([row["reward"] for row in untimed(tmp_path / name)])
    assert rows[0] == rows[1] != rows[2]
