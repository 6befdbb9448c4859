"""Two processes make the run that one makes: the same samples and rewards, and the same updates but for rounding."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from command import molrl
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from sharing import CASES, MOLECULES, Result, outcome, wide_policy, wide_task
from test_finetune import ALGORITHMS, finetuning, untimed, weights
from torch import Tensor
from torch.testing import assert_close
from toy import learner, lifted, number_task

from molrl.finetune import FinetuneConfig, check_setup, finetune, freeze_copy, number_rows
from molrl.gaussian import Context
from molrl.machine.processes import SINGLE_PROCESS, Processes, buckets
from molrl.noise import Key
from molrl.runs.checkpoints import Series
from molrl.runs.tracking import read_metrics
from molrl.task import Metrics

pytestmark = pytest.mark.timeout(900)  # processes start slowly where all cores are busy
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SENSITIVE = ("DDPO", "RGDM", "RWR", "DPOK", "groups")  # cases in which errors are made on purpose
ROUNDING = 1e-7
"""Bound on weights of order one after some ten updates of at most 0.03, in float64.

Sums in another order move the updates by 1e-15. What is left is a float32 reward that rounds to its other neighbour, by
2^-24 of itself; a sixteenth of the gradient moves with it, and the weights by 0.03 x 10 x 5 x 2^-24 / 16 < 1e-8.
"""


def launch(count: int, script: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Start some processes of a script by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += [str(script), *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all cases in two processes, in one launch, and return the folder of their outcomes."""
    folder = tmp_path_factory.mktemp("two")
    done = launch(2, HERE / "sharing.py", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def close(got: list[Metrics], expected: list[Metrics]) -> bool:
    """Return whether all numbers agree up to rounding.

    Facts of rows are float32: the mean of a hundred, of order one or below, moves by at most 100 x 2^-24 < 1e-5.
    """
    return got == [
        {name: pytest.approx(v, rel=1e-5, abs=1e-6, nan_ok=True) for name, v in row.items()} for row in expected
    ]


def same_run(got: Result, expected: Result) -> bool:
    """Return whether samples and rewards are equal, and weights and metrics up to rounding."""
    return (
        got.tensors.keys() == expected.tensors.keys()
        and got.tensors["samples"].equal(expected.tensors["samples"])
        and got.tensors["rewards"].allclose(expected.tensors["rewards"], rtol=0, atol=0, equal_nan=True)
        and distance(got, expected) <= ROUNDING
        and close(got.metrics, expected.metrics)
    )


def distance(got: Result, expected: Result) -> float:
    """Compute the largest difference between the weights of two runs."""
    weights = expected.tensors.keys() - {"samples", "rewards"}
    return max((got.tensors[kind] - expected.tensors[kind]).abs().max().item() for kind in weights)


@cache
def alone(name: str) -> Result:
    """Return the outcome of a case in one process."""
    return outcome(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_two_processes_make_the_same_run_as_one(name: str, two: Path) -> None:
    for rank in range(2):
        got = Result(
            load_file(two / f"{name}.{rank}.safetensors"), json.loads((two / f"{name}.{rank}.json").read_text())
        )
        assert same_run(got, alone(name))


def half_of_the_rows_are_lost(config: FinetuneConfig, places: Tensor) -> Sequence[Tensor]:
    """As when the second of two processes adds nothing to the gradient."""
    half = len(places) // 2
    return (places[:half] if half else places).split(config.microbatch or len(places)) if len(places) else ()


def one_row_is_lost(config: FinetuneConfig, places: Tensor) -> Sequence[Tensor]:
    kept = places[1:] if len(places) > 1 else places
    return kept.split(config.microbatch or len(kept)) if len(kept) else ()


@pytest.mark.parametrize("error", [half_of_the_rows_are_lost, one_row_is_lost])
@pytest.mark.parametrize("name", SENSITIVE)
def test_a_contribution_that_is_missing_is_no_rounding(
    name: str, error: Callable[..., Sequence[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = alone(name)
    monkeypatch.setattr("molrl.finetune.microbatches", error)
    wrong = outcome(CASES[name])
    assert distance(wrong, right) > 1000 * ROUNDING
    assert not close(wrong.metrics, right.metrics)


@pytest.mark.parametrize("name", SENSITIVE)
def test_a_gradient_of_the_wrong_scale_is_no_rounding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam hides it from the weights, as clipping does; the norm of the gradient tells."""

    def scaled(self: Processes, parameters: Iterable[torch.nn.Parameter]) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= 1.001

    right = alone(name)
    monkeypatch.setattr(Processes, "sum_gradients", scaled)
    assert not close(outcome(CASES[name]).metrics, right.metrics)


@pytest.mark.parametrize("name", CASES)
def test_all_processes_have_the_same_weights_and_numbers_to_the_last_bit(name: str, two: Path) -> None:
    first, second = (load_file(two / f"{name}.{rank}.safetensors") for rank in range(2))
    assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    assert (two / f"{name}.0.json").read_text() == (two / f"{name}.1.json").read_text()


def about(value: float | None) -> Any:
    """Return what is equal to a number up to rounding; a metric that is not measured is None."""
    return None if value is None else pytest.approx(value, rel=2e-4, abs=2e-4)


def test_two_processes_train_molecules_as_one_does(two: Path, tmp_path: Path) -> None:
    """The first writes all of the samples and one row for each round; the weights of a value network are the same.

    The run is in float32. Its optimiser is SGD, which moves a weight in proportion to the gradient, rounding included.
    A log-ratio is the difference of two log-probabilities of about 100 nats, each a sum of some sixty squares: it may
    move by 16 x 100 x 2^-23 < 2e-4. Other numbers are sums of terms of one sign, or ratios of those.
    """
    done = molrl("train", f"run={tmp_path / 'run'}", *MOLECULES)
    assert done.code == 0, done.err
    got, expected = (untimed(read_metrics(folder / "run/metrics.jsonl")) for folder in (two, tmp_path))
    assert len(got) == len(expected) == 2
    for row, same in zip(got, expected, strict=True):
        assert row == {name: about(value) for name, value in same.items()}
    before = [(folder / "run/samples/before.sdf").read_text() for folder in (two, tmp_path)]
    assert before[0].count("$$$$") == before[1].count("$$$$") == 8
    summaries = [json.loads((folder / "run/summary.json").read_text()) for folder in (two, tmp_path)]
    assert summaries[0]["before"] == pytest.approx(summaries[1]["before"], rel=1e-4, nan_ok=True)
    assert summaries[0]["reward_queries"] == summaries[1]["reward_queries"]


def test_accelerate_launches_the_run_that_torchrun_launches(two: Path, tmp_path: Path) -> None:
    """--multi_gpu starts several processes, whatever they compute on; --cpu starts one alone."""
    pytest.importorskip("accelerate")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    command += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={free_port()}"]
    command += ["-m", "molrl", "train", f"run={tmp_path / 'run'}", *MOLECULES]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    got, expected = (untimed(read_metrics(folder / "run/metrics.jsonl")) for folder in (tmp_path, two))
    assert got == expected


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a process that imports the helpers of these tests and uses one thread."""
    folders = [ROOT, ROOT / "tests", *sorted(path for path in (ROOT / "tests").iterdir() if path.is_dir())]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1", **more}


def steps(run: Path) -> list[str]:
    return sorted(path.parent.name for path in (run / "checkpoint").glob("*/COMPLETE"))


def left_by_one(how: str, folder: Path) -> list[Any]:
    """Start two processes by hand, of which the second leaves, and return the exit code and stderr of each."""
    port = str(free_port())
    command = [sys.executable, str(HERE / "leaving.py"), how, str(folder)]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(command, env=environment(**place, RANK=str(rank)), stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        first = processes[0].communicate(timeout=500)[1]
        if how == "stuck":
            processes[1].kill()
        return [(processes[0].returncode, first), (processes[1].wait(100), processes[1].communicate()[1])]
    finally:
        for process in processes:
            process.kill()


def test_when_a_process_dies_the_others_leave_with_its_number_and_the_checkpoint_is_whole(tmp_path: Path) -> None:
    """In the second round of a run of three. The launcher tells the others to end, which must not hide the reason."""
    done = launch(3, HERE / "leaving.py", "killed", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("molrl: process 2 of 3 does not answer\n") == 2
    assert steps(tmp_path) == ["step_00000001"]
    assert Series(tmp_path / "checkpoint").latest() is not None


def test_when_a_process_fails_it_tells_the_others_why(tmp_path: Path) -> None:
    (code, said), (failed, own) = left_by_one("failing", tmp_path)
    assert (code, failed) == (6, 5)
    assert "molrl: process 1 of 2 left: the reward is out of order\n" in said
    assert "molrl: the reward is out of order\n" in own
    assert steps(tmp_path) == ["step_00000001"]


def test_a_signal_to_one_process_ends_all_after_the_round_and_a_checkpoint(tmp_path: Path) -> None:
    assert [code for code, _ in left_by_one("told", tmp_path)] == [143, 143]
    assert steps(tmp_path) == ["step_00000001", "step_00000002"]


@pytest.mark.slow
def test_a_process_that_does_not_answer_is_waited_for_no_longer_than_asked(tmp_path: Path) -> None:
    code, said = left_by_one("stuck", tmp_path)[0]
    assert code == 6
    assert "molrl: process 1 of 2 does not answer\n" in said


@given(size=st.integers(1, 9), groups=st.integers(0, 40), group_size=st.integers(1, 5))
def test_shares_are_whole_groups_as_even_as_can_be(size: int, groups: int, group_size: int) -> None:
    world = [Processes(rank, size) for rank in range(size)]
    if groups < size:
        with pytest.raises(ValueError, match=f"too few for {size} processes"):
            world[0].share(groups * group_size, group_size)
        return
    shares = [one.share(groups * group_size, group_size) for one in world]
    assert [row for share in shares for row in range(share.start, share.stop)] == list(range(groups * group_size))
    counts = [(share.stop - share.start) / group_size for share in shares]
    assert all(count == int(count) for count in counts)
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_rows_of_one_process_are_in_order_already(name: str) -> None:
    student = replace(learner(number_task(lifted)), modules=ALGORITHMS[name].modules(number_task()))
    collected = ALGORITHMS[name].collect(student, list(range(7)), Key(0, 1))
    number, count = number_rows(collected, SINGLE_PROCESS)
    assert count == len(collected.table) > 0
    assert number.tolist() == list(range(count))


@cache
def in_parts(name: str, microbatch: int | None) -> Result:
    """Return the weights and the metrics of a run whose minibatches are computed in parts of this size."""
    task, seen = wide_task(lifted), list[Metrics]()
    finetune(finetuning(microbatch=microbatch), task, ALGORITHMS[name], freeze_copy(wide_policy()), None, seen.append)
    return Result(weights(task), untimed(seen))


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("microbatch", [1, 7, 1000])
def test_a_minibatch_computed_in_parts_makes_the_same_update(name: str, microbatch: int) -> None:
    got, whole = in_parts(name, microbatch), in_parts(name, None)
    assert_close(got.tensors, whole.tensors, rtol=0, atol=ROUNDING)
    assert close(got.metrics, whole.metrics)


def test_the_weights_of_a_value_network_follow_from_the_seed_alone() -> None:
    """Not from what else was drawn before, and nothing drawn after depends on them."""

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
            values: Tensor = self.layer(torch.stack([x[:, 0], t], 1))
            return values.squeeze(1)

    seen = [list[Metrics](), list[Metrics]()]
    for rows in seen:
        torch.rand(len(seen[0]) + 1)
        task, state = replace(number_task(), value_network=Linear), torch.get_rng_state()
        finetune(
            finetuning(iterations=1), task, ALGORITHMS["DPOK"], freeze_copy(number_task().policy), None, rows.append
        )
        assert (torch.get_rng_state() == state).all()
    assert untimed(seen[0]) == untimed(seen[1])


def test_alone_everything_stays_what_it_is() -> None:
    values = torch.tensor([1.0, 2.0])
    assert SINGLE_PROCESS.gather(values) is values
    assert SINGLE_PROCESS.sum(values) is values
    assert (SINGLE_PROCESS.any(True), SINGLE_PROCESS.any(False)) == (True, False)
    assert SINGLE_PROCESS.gather_strings("words") == ["words"]
    assert SINGLE_PROCESS.share(5) == slice(0, 5)


def test_tensors_travel_in_buckets_of_which_none_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molrl.machine.processes.BUCKET_SIZE", 5)
    tensors = [torch.zeros(size) for size in (2, 2, 4, 9, 1)]
    assert [[len(tensor) for tensor in bucket] for bucket in buckets(tensors)] == [[2, 2, 4], [9], [1]]


def test_more_processes_than_groups_are_refused_before_anything_is_drawn() -> None:
    task: Any = replace(number_task(), processes=Processes(0, 17))
    with pytest.raises(ValueError, match="16 samples are too few for 17 processes"):
        check_setup(finetuning(), task, ALGORITHMS["DDPO"])
