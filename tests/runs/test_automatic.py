"""A setting that is `auto` is decided when a run begins, and the run keeps it on whatever machine it goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command import QUICK_PRETRAINING, QUICK_RUN, complaint, molrl

from molrl.algos import Algorithm
from molrl.building import build
from molrl.composition import compose
from molrl.machine.processes import SINGLE_PROCESS
from molrl.precision import decide_precision, precision
from molrl.runs.automatic import decide
from molrl.runs.folder import differences

CPU = torch.device("cpu")


def algorithm(name: str) -> Algorithm:
    built: Algorithm = build(compose("train", [f"algo={name}"])["algo"], "algo")
    return built


def decided(setting: str, name: str = "nft", run: Path | None = None) -> Any:
    """Return what a run on this machine takes for a setting of the precision."""
    config = {"run": None if run is None else str(run), "precision": setting}
    return decide_precision(config, algorithm(name), CPU, SINGLE_PROCESS)["precision"]


@pytest.fixture(params=[True, False])
def has_instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Be a processor with or without instructions for bfloat16."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": request.param}, raising=False)
    return bool(request.param)


def test_bfloat16_is_taken_where_the_processor_has_it_and_the_algorithm_no_ratios(has_instructions: bool) -> None:
    assert decided("auto", "nft") == ("bfloat16" if has_instructions else "float32")
    assert decided("auto", "ddpo") == "float32"
    assert [decided(given) for given in ("float32", "bfloat16")] == ["float32", "bfloat16"]


def test_what_accelerate_was_told_comes_before_the_processor(
    has_instructions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert decided("auto") == decided("auto", "ddpo") == "bfloat16"
    assert precision({"precision": None}) == torch.bfloat16


@pytest.mark.parametrize("kept", [None, "float32", "bfloat16"])
def test_a_run_goes_on_in_its_own_precision(kept: str | None, has_instructions: bool, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"precision": kept}))
    assert decided("auto", run=tmp_path) == kept
    assert differences({"precision": kept}, {"precision": "auto"}) == []
    assert differences({"precision": kept}, {"precision": "double"}) != []


@pytest.mark.parametrize("text", ["precision: float64", "precision: [1]", "precision: {a: b}", "- 1", "a: [", ""])
def test_of_a_folder_that_is_not_trusted_only_a_precision_is_taken(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert decided("auto", "ddpo", tmp_path) == "float32"


def test_other_settings_do_not_agree_with_what_a_run_has() -> None:
    assert differences({"compile": False}, {"compile": "auto"}) == ["compile: False -> 'auto'"]
    config = {"run": None, "training": {"bf16": "auto", "lr": 1.0}}
    assert decide(config, "training.bf16", lambda: True)["training"] == {"bf16": True, "lr": 1.0}


def test_the_same_command_and_resume_go_on_with_what_was_decided(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Begun without the instructions, it goes on in float32 where there are some."""
    command = ["train", "algo=nft", "precision=auto", *QUICK_RUN, "rollouts=4", "evaluate=2", f"run={tmp_path / 'run'}"]
    for has, more in ((False, ["iterations=1"]), (True, ["iterations=2"])):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has}, raising=False)
        assert molrl(*command, *more).code == 0
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["precision"] == "float32"
    assert molrl("train", f"resume={tmp_path / 'run'}").code == 0
    assert "precision: 'float32' -> 'bfloat16'" in complaint([*command, "iterations=2", "precision=bfloat16"], 2)


def test_pretraining_goes_on_in_its_own_precision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = ["pretrain", *QUICK_PRETRAINING, "training.bf16=auto", "training.cooldown=0", f"run={tmp_path / 'run'}"]
    for has, steps in ((False, 2), (True, 4)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has}, raising=False)
        done = molrl(*command, f"training.steps={steps}")
        assert done.code == 0, done
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["training"]["bf16"] is False
