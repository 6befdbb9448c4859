"""Processes that share the frozen weights of a network make the run that one process makes with all of them."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from safetensors.torch import load_file
from sharding import CASES, FLOW, FLOW_CASES, call, cases_of, outcome
from sharing import Result
from test_processes import (
    ROUNDING,
    close,
    distance,
    environment,
    free_port,
    half_of_the_rows_are_lost,
    launch,
    one_row_is_lost,
    same_run,
)
from tiny_flows import BUILDERS, write_flow
from tiny_images import tiny_task
from torch import Tensor
from torch.testing import assert_close

from molrl.machine.processes import Processes

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline: Path) -> Path:
    """Run all cases in two processes and return the folder of their outcomes."""
    folder = tmp_path_factory.mktemp("sharded")
    tiny_task(tiny_pipeline)  # writes the prompts, which both will read
    done = launch(2, HERE / "sharding.py", str(folder), str(tiny_pipeline))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flow("stable_diffusion_3", tmp_path_factory.mktemp("flow") / "tiny")


@pytest.fixture(scope="module")
def two_of_flow(tmp_path_factory: pytest.TempPathFactory, flow: Path) -> Path:
    """Run the cases of a flow in two processes and return the folder of their outcomes."""
    folder = tmp_path_factory.mktemp("sharded_flow")
    tiny_task(flow, **FLOW)
    done = launch(2, HERE / "sharding.py", str(folder), str(flow))
    assert done.returncode == 0, done.stderr
    return folder


@cache
def alone(name: str, pipeline: Path) -> Result:
    """Return the outcome of a case in one process."""
    return outcome(cases_of(pipeline)[name], pipeline)


def check_same_run(name: str, folder: Path, pipeline: Path) -> None:
    """Check that two processes end alike, and as one process; the first one's saved LoRA is that of one."""
    first, second = (load_file(folder / f"{name}.{rank}.safetensors") for rank in range(2))
    assert_close({key: first[key] for key in second}, second, rtol=0, atol=0, equal_nan=True)
    got = Result(first, json.loads((folder / f"{name}.0.json").read_text()))
    assert any(key.startswith("saved") and value.any() for key, value in first.items())
    assert same_run(got, alone(name, pipeline))


@pytest.mark.parametrize("name", CASES)
def test_a_shared_network_makes_the_same_run_as_a_whole_one(name: str, two: Path, tiny_pipeline: Path) -> None:
    check_same_run(name, two, tiny_pipeline)


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOW_CASES)
def test_a_shared_transformer_makes_the_same_run_as_a_whole_one(name: str, two_of_flow: Path, flow: Path) -> None:
    """Also with trained text encoders, which every process keeps whole, and where a process has no rows."""
    check_same_run(name, two_of_flow, flow)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a pipeline of every family, and of what two processes that share each one make of it."""
    root = tmp_path_factory.mktemp("calls") / "flows"
    for name in BUILDERS:
        tiny_task(write_flow(name, root / name), guidance_scale=1.0)
    done = launch(2, HERE / "sharding.py", "calls", str(root))
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_a_shared_transformer_of_every_family_predicts_and_learns_the_same(name: str, calls: Path) -> None:
    expected = call(calls / name, shard=False)
    for rank in range(2):
        got = load_file(calls / f"{name}.{rank}.safetensors")
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(got[key], value, rtol=0, atol=2e-5 * value.abs().max().item())


@pytest.mark.parametrize("error", [half_of_the_rows_are_lost, one_row_is_lost])
@pytest.mark.parametrize("name", ["DDPO", "RGDM"])
def test_a_contribution_that_is_missing_is_no_rounding(
    name: str, error: Callable[..., Sequence[Tensor]], tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = alone(name, tiny_pipeline)
    monkeypatch.setattr("molrl.finetune.microbatches", error)
    wrong = outcome(CASES[name], tiny_pipeline)
    assert distance(wrong, right) > 1000 * ROUNDING
    assert not close(wrong.metrics, right.metrics)


def test_a_process_that_dies_ends_the_others_in_order(tiny_pipeline: Path) -> None:
    tiny_task(tiny_pipeline)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    command = [sys.executable, str(HERE / "sharding.py"), "leave", str(tiny_pipeline)]
    first, second = (
        subprocess.Popen(command, env=environment(**place, RANK=str(rank)), stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    )
    said = first.communicate(timeout=500)[1]
    second.communicate(timeout=100)
    assert first.returncode == 6
    assert said.splitlines()[-1] == "molrl: process 1 of 2 does not answer"


def test_one_process_has_nobody_to_share_with(tiny_pipeline: Path) -> None:
    with pytest.raises(ValueError, match="shard: got true, but there is one process alone"):
        tiny_task(tiny_pipeline, shard=True)


def test_all_must_draw_as_many(tiny_pipeline: Path) -> None:
    task = replace(tiny_task(tiny_pipeline), processes=Processes(0, 2, lockstep=True))
    assert task.processes.share(8, 2) == slice(0, 4)
    with pytest.raises(
        ValueError, match="10 samples in groups of 2: 2 processes that share a network need equal shares"
    ):
        task.processes.share(10, 2)


def test_passes_are_counted_only_where_they_must_be_equal() -> None:
    assert Processes().missing_passes(3) == 0
    assert Processes(lockstep=True).missing_passes(3) == 0
