"""Faults that no other file tests: read-only folders, pickles, memory, two interrupts; and the table of all faults."""

import ast
import importlib.util
import json
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import QUICK_PRETRAINING, QUICK_RUN, complaint, molrl
from test_finetune import ALGORITHMS, run, weights
from torch import Tensor
from toy import number_task, quadratic

from molrl.composition import compose
from molrl.exit_codes import ExitCode
from molrl.machine.memory import OutOfMemory, enough_memory
from molrl.models.shipped import SHIPPED
from molrl.run import train
from molrl.runs.checkpoints import CHECKPOINTS, Series
from molrl.runs.errors import CheckpointError

ROOT = Path(__file__).parents[2]


# 2: folders


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that not even root may write")
@pytest.mark.parametrize(
    "command", [("train", *QUICK_RUN), ("pretrain", *QUICK_PRETRAINING)], ids=["train", "pretrain"]
)
def test_a_run_folder_that_cannot_be_written_is_named(command: tuple[str, ...]) -> None:
    assert "/proc/molrl" in complaint([*command, "run=/proc/molrl"], 2)


# 5: rewards that are no numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["DDPO", "RGDM", "RWR", "DPOK"])
def test_a_reward_that_is_no_number_costs_its_sample_and_never_the_policy(name: str, value: float) -> None:
    def some(samples: Sequence[Tensor]) -> Tensor:
        rewards = quadratic(samples)
        rewards[::4] = value
        return rewards

    task = number_task(some)
    seen = run(task, ALGORITHMS[name])
    assert [row["reward_lost"] for row in seen] == [0.25] * 3
    assert all(np.isfinite(row["reward"]) for row in seen)
    assert all(tensor.isfinite().all() for tensor in weights(task).values())


@pytest.mark.parametrize("answer", [None, "high", [None] * 16, ["high"] * 16])
def test_a_reward_that_is_no_tensor_stops_at_once(answer: Any) -> None:
    with pytest.raises(ValueError, match="expected a tensor of shape"):
        run(number_task(lambda _: answer), ALGORITHMS["DDPO"])


# 8: packages that are not there


def test_a_missing_package_is_one_line_before_any_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tblite", None)
    monkeypatch.setitem(sys.modules, "tblite.interface", None)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/manifest.json").write_text("{}")
    (tmp_path / "broken/model.json").write_text('{"format": 2, "domain": "molecules"}')
    arguments = ["train", "reward=xtb_energy", f"policy={tmp_path / 'broken'}", f"run={tmp_path / 'run'}"]
    assert "pip install 'molrl[xtb]'" in complaint(arguments, 2)
    assert not (tmp_path / "run").exists()


# 10: pickles


class Payload:
    """A pickle that, when opened, makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Check that the payload works, and return the path that another one would write."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "works")))
    assert (tmp_path / "works").exists()
    return tmp_path / "marker"


def array_of_objects(path: Path, marker: Path) -> None:
    objects = np.empty(1, dtype=object)
    objects[0] = Payload(marker)
    with path.open("wb") as file:
        if path.suffix == ".npz":
            np.savez(file, points=objects, num_atoms=objects, index=objects, atomic_numbers=objects, positions=objects)
        else:
            np.save(file, objects, allow_pickle=True)


@pytest.mark.parametrize(
    ("store", "suffix"),
    [
        *(("pickle", "pkl"), ("pickle", "safetensors"), ("pickle", "sdf")),
        *(("torch", "pt"), ("torch", "npz"), ("numpy", "npz"), ("numpy", "npy")),
    ],
)
def test_a_pickle_is_never_opened_whatever_it_is_offered_as(
    store: str, suffix: str, marker: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"x.{suffix}"
    if store == "pickle":
        path.write_bytes(pickle.dumps(Payload(marker)))
    elif store == "torch":
        torch.save(Payload(marker), path)
    else:
        array_of_objects(path, marker)
    for arguments in (
        ["sample", f"policy={path}", "n=1"],
        ["train", "task=symmetry", f"policy={path}", f"run={tmp_path / 'run'}"],
        ["train", f"resume={path}"],
        ["score", str(path), "reward.workers=0"],
        ["evaluate", str(path)],
        ["pretrain", "data=qm9", f"data.path={path}", f"run={tmp_path / 'run'}"],
        ["pretrain", "model=shapes", "data=shape_files", f"data.path={path}", f"run={tmp_path / 'run'}"],
    ):
        assert molrl(*arguments).code in (ExitCode.USAGE, ExitCode.NOTHING_SCORED, ExitCode.BAD_INPUT), arguments
    assert not marker.exists()


@pytest.mark.parametrize("place", ["model", "checkpoint"])
def test_a_pickle_in_the_place_of_weights_is_never_opened(place: str, marker: Path, tmp_path: Path) -> None:
    """Also where the manifest vouches for it."""
    from molrl.runs import checkpoint

    if place == "model":
        shutil.copytree(SHIPPED / "molecules/qm9_heavy", tmp_path / "model")
        folder, name = tmp_path / "model", "weights.safetensors"
    else:
        run(number_task(), ALGORITHMS["DDPO"], tmp_path / "run", iterations=1)
        folder, name = Series(tmp_path / "run" / CHECKPOINTS).path(1), "denoiser.safetensors"
    (folder / name).write_bytes(pickle.dumps(Payload(marker)))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = checkpoint.sha256((folder / name).read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "COMPLETE").write_text(checkpoint.sha256((folder / "manifest.json").read_bytes()))
    if place == "model":
        assert name in complaint(["sample", f"policy={folder}", "n=1"], 5)
    else:
        with pytest.raises(CheckpointError, match=name):
            run(number_task(), ALGORITHMS["DDPO"], tmp_path / "run", iterations=2)
    assert not marker.exists()


def test_pyg_s_own_files_are_read_without_running_what_is_in_them(marker: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric")
    from molrl.data.molecules.pyg import load_pyg

    for folder in ("raw", "processed"):
        (tmp_path / folder).mkdir()
    for name in ("gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"):
        (tmp_path / "raw" / name).touch()
    torch.save(Payload(marker), tmp_path / "processed/data_v3.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        load_pyg("QM9", tmp_path, {})
    assert not marker.exists()


# 13: devices


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_the_device_that_was_chosen_is_said(tmp_path: Path) -> None:
    done = molrl("train", "device=auto", f"run={tmp_path / 'run'}", "algo=ddpo", *QUICK_RUN, "iterations=1")
    assert (done.code, "seed 0, on cpu" in done.out) == (0, True)


# 14: memory


def eat() -> None:
    """Allocate more memory than any machine has."""
    torch.empty(2**50)


def hungry(call: int) -> Callable[[Sequence[Any]], Tensor]:
    """Return a reward whose n-th call takes too much memory."""
    calls = iter(range(1, 100))

    def reward(samples: Sequence[Any]) -> Tensor:
        if next(calls) == call:
            eat()
        return torch.tensor([float(len(sample)) for sample in samples])

    return reward


def test_out_of_memory_while_sampling_is_a_clean_end_with_the_checkpoint_whole(tmp_path: Path) -> None:
    config = compose("train", ["algo=ddpo", f"run={tmp_path / 'run'}", *QUICK_RUN])
    with pytest.raises(OutOfMemory, match=r"out of memory .*lower microbatch .* or rollouts .* checkpoint is intact"):
        train(config, hungry(3))  # the measurement before, iteration 0, iteration 1
    assert Series(tmp_path / "run" / CHECKPOINTS).steps() == [1]
    assert train(config, hungry(0)) == 0


def test_out_of_memory_while_learning_is_told_from_other_errors() -> None:
    task = number_task()
    parameter = task.policy.denoiser.shift  # type: ignore[attr-defined]
    parameter.register_hook(lambda _: eat())
    with pytest.raises(OutOfMemory, match="lower minibatch"), enough_memory("minibatch"):
        run(task, ALGORITHMS["DDPO"])
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")):
        with pytest.raises(OutOfMemory, match="lower minibatch"), enough_memory("minibatch"):
            raise error
    with pytest.raises(RuntimeError, match="something else"), enough_memory("minibatch"):
        raise RuntimeError("something else")


# 16: impatience

SLOW = """
import sys, time, torch
from molrl.composition import compose
from molrl.exit_codes import ExitCode
from molrl.machine.interruption import raise_on_sigterm
from molrl.run import train

def reward(samples):
    if reward.calls:  # the measurement before is over
        print("round", flush=True)
        time.sleep(600 if reward.calls > 1 else 0)
    reward.calls += 1
    return torch.tensor([float(len(sample)) for sample in samples])

reward.calls = 0
with raise_on_sigterm():
    sys.exit(train(compose("train", sys.argv[1:]), reward))
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_at_once_and_the_old_state_is_whole(
    sent: signal.Signals, code: int, tmp_path: Path
) -> None:
    """The reward of the second round takes ten minutes; nobody waits for it after the second signal."""
    arguments = ["algo=ddpo", f"run={tmp_path / 'run'}", *QUICK_RUN]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        rounds = 0
        while rounds < 2:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            rounds += line == "round\n"
        process.send_signal(sent)
        while "once more stops at once" not in process.stderr.readline():
            pass
        assert process.poll() is None
        process.send_signal(sent)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == code
    assert "interrupted: 1 of 2 iterations are kept" in out
    assert Series(tmp_path / "run" / CHECKPOINTS).steps() == [1]


# the table


def the_table() -> Any:
    spec = importlib.util.spec_from_file_location("faults", ROOT / "benchmarks/faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = module
    spec.loader.exec_module(module)
    return module


def defined(path: Path) -> set[str]:
    """Return the names of the test functions of a file."""
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_the_table_of_faults_names_tests_that_exist() -> None:
    cases = the_table().CASES
    assert [case.number for case in cases] == list(range(1, 21))
    files = {path.stem: path for path in (ROOT / "tests").rglob("test_*.py")}
    for case in cases:
        assert case.tests
        for name in case.tests:
            file, _, function = name.partition("::")
            assert function in defined(files[file]), name
