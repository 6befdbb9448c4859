"""`molrl doctor` says what is there, and each thing that is wrong is one line and a code that is not 0."""

import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Outcome, complaint, molrl

from molrl import doctor, requirements
from molrl.doctor import CHECKS, check_extras, check_installation, check_models, uses_of_extras
from molrl.machine.inspection import (
    Finding,
    container_memory,
    inspect_environment,
    inspect_folder,
    inspect_memory,
    system_memory,
)
from molrl.models import digests
from molrl.models.shipped import SHIPPED

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"].keys() - set(requirements.NOT_FOR_USERS)


def with_checks(monkeypatch: pytest.MonkeyPatch, **checks: Callable[[], list[Finding]]) -> Outcome:
    monkeypatch.setattr(doctor, "CHECKS", checks)
    return molrl("doctor")


def test_this_machine_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests run in an environment that has everything; nothing reaches another machine (conftest.py)."""
    monkeypatch.chdir(tmp_path)
    done = molrl("doctor")
    assert (done.code, done.err) == (0, ""), done
    topics = {line[2:16].strip() for line in done.out.splitlines()}
    assert {"molrl", "python", "torch", "memory", "bfloat16", "cuda", "mps", "compile", "models", "runs"} <= topics
    assert {f"[{extra}]" for extra in EXTRAS} <= topics
    assert "of them readable" in done.out
    assert done.out.splitlines()[-1] == "all is well"
    assert not list(tmp_path.iterdir())


def test_each_problem_is_one_line_and_the_other_checks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[Finding]:
        raise OSError("no such\nthing")

    def bad() -> list[Finding]:
        return [Finding("disk", "full", "the disk is full"), Finding("clock", "ticks")]

    done = with_checks(monkeypatch, first=broken, second=bad)
    assert done.code == 6
    assert done.err == "molrl: first: OSError: no such thing\nmolrl: disk: the disk is full\n"
    assert [line[0] for line in done.out.splitlines()[:3]] == ["!", "!", " "]
    assert done.out.splitlines()[-1] == "2 problems"


def test_it_takes_no_settings() -> None:
    assert "takes no settings, got now" in complaint(["doctor", "now"], 2)


def test_every_extra_is_explained_once() -> None:
    """By the comments of what needs it, or by the table of those that no choice needs."""
    assert uses_of_extras().keys() == EXTRAS
    assert not doctor.USES.keys() & {
        extra for extra, text in uses_of_extras().items() if text != doctor.USES.get(extra)
    }


def test_the_requirements_are_those_of_the_project() -> None:
    found = requirements.requirements()
    assert found.keys() == {"", *EXTRAS}
    assert {one.name for one in found["image"]} == {"diffusers", "peft", "transformers"}
    assert {one.name for one in found[""]} >= {"torch", "rdkit"}


def test_an_extra_that_is_missing_is_no_problem_and_one_that_is_too_old_is(monkeypatch: pytest.MonkeyPatch) -> None:
    have = {"tblite": None, "pyarrow": "16.1", "vina": None}
    known = requirements.installed
    monkeypatch.setattr(requirements, "installed", lambda one: have.get(one.name, known(one)))
    found = {finding.topic: finding for finding in check_extras()}
    assert found["[xtb]"].text.startswith("not installed: pip install 'molrl[xtb]'")
    assert not found["[xtb]"].problem
    assert found["[parquet]"].problem == "pyarrow 16.1, needs >=17: pip install 'molrl[parquet]' --upgrade"
    assert "the rest: pip install 'molrl[docking]'" in found["[docking]"].text
    assert not found["[docking]"].problem


def test_a_core_dependency_that_is_too_old_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    known = requirements.installed
    monkeypatch.setattr(requirements, "installed", lambda one: "2024.3.1" if one.name == "rdkit" else known(one))
    (problem,) = [finding.problem for finding in check_installation() if finding.problem]
    assert problem == "rdkit>=2025.9.1 is required, got 2024.3.1"


def test_a_checkout_without_links_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").write_text("../models")
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "doctor.py"))
    assert [finding.problem for finding in check_installation() if finding.topic == "links"] == [""]  # installed
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    (problem,) = [finding.problem for finding in check_installation() if finding.topic == "links"]
    assert "core.symlinks" in problem
    assert str(tmp_path / "models") in problem


def test_the_models_that_ship_are_recorded_as_they_are() -> None:
    """Record new ones: python -c "from molrl.models.digests import write_digests; write_digests()"."""
    assert digests.damaged_files() == []
    assert json.loads(digests.DIGESTS.read_text()).keys() == digests.shipped_files().keys()
    names = {str(path.relative_to(SHIPPED)) for path in SHIPPED.rglob("*.safetensors")}
    assert names
    assert names <= digests.shipped_files().keys()


def test_a_model_that_was_cut_short_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/weights.safetensors").write_bytes(b"12345")
    (tmp_path / "a/b/gone.json").write_text("{}")
    monkeypatch.setattr(digests, "SHIPPED", tmp_path)
    monkeypatch.setattr(digests, "DIGESTS", tmp_path / "digests.json")
    digests.write_digests()
    assert digests.damaged_files() == []
    (tmp_path / "a/b/weights.safetensors").write_bytes(b"1234")
    (tmp_path / "a/b/gone.json").unlink()
    assert digests.damaged_files() == ["a/b/gone.json", "a/b/weights.safetensors"]
    assert "a/b/gone.json, a/b/weights.safetensors: not as recorded" in check_models()[0].problem


@pytest.mark.parametrize(
    ("environment", "problems"),
    [
        ({}, []),
        ({"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}, ["", "", ""]),
        ({"OMP_NUM_THREADS": "5"}, ["OMP_NUM_THREADS=5: more threads than the 4 usable cores wait for one another"]),
        ({"MKL_NUM_THREADS": "many"}, ["MKL_NUM_THREADS=many: expected a number of threads"]),
        (
            {"OMP_WAIT_POLICY": "ACTIVE"},
            ["OMP_WAIT_POLICY=ACTIVE: idle threads spin, which starves the reward workers"],
        ),
        ({"KMP_BLOCKTIME": "infinite"}, ["KMP_BLOCKTIME=infinite: idle threads spin, which starves"]),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, ["ACCELERATE_MIXED_PRECISION=fp16: molrl knows no and bf16"]),
        ({"HF_HUB_OFFLINE": "1", "HOME": "/root"}, [""]),
    ],
)
def test_variables_that_hurt_are_problems(environment: dict[str, str], problems: list[str]) -> None:
    found = [finding.problem for finding in inspect_environment(environment, 4)]
    assert len(found) == len(problems)
    assert all(
        got.startswith(expected) and bool(got) == bool(expected) for got, expected in zip(found, problems, strict=True)
    )


def test_too_little_memory_is_a_problem() -> None:
    assert inspect_memory(2**29).problem.startswith("0.5 GiB available, a small run needs 1")
    assert inspect_memory(2**31) == Finding("memory", "2.0 GiB available")
    assert not inspect_memory(None).problem


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the files of Linux")
def test_memory_is_what_the_system_and_the_container_leave(tmp_path: Path) -> None:
    total = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]) * 1024
    assert 0 < (system_memory() or 0) < total
    (tmp_path / "memory.current").write_text("300\n")
    for limit, left in (("1000\n", 700), ("200\n", 0), ("max\n", None), (f"{2**63}\n", None)):
        (tmp_path / "memory.max").write_text(limit)
        assert container_memory(tmp_path) == left


def test_a_folder_below_a_file_cannot_hold_runs(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    assert "cannot be written" in inspect_folder(tmp_path / "runs" / "mine").problem
    assert not inspect_folder(tmp_path / "new" / "mine").problem
    assert not (tmp_path / "new").exists()


def test_every_check_is_part_of_the_command() -> None:
    functions = {name for name in vars(doctor) if name.startswith("check_")}
    assert {check.__name__ for check in CHECKS.values()} == functions
