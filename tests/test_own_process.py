"""Tests in a process of their own end as they ended there, and see nothing of the process that asked."""

from pathlib import Path

import pytest
from own_process import run_pytest

CASES = """
import os, sys
import pytest

sys.changed = getattr(sys, "changed", 0) + 1

def test_before():
    sys.changed = 5

@pytest.mark.own_process
@pytest.mark.parametrize("value", [1, 2])
def test_value(value):
    assert sys.changed == value

@pytest.mark.own_process
def test_skip():
    pytest.skip("for a reason")
"""
DEATH = """
@pytest.mark.own_process
def test_death():
    os._exit(3)
"""


def outcome(folder: Path, monkeypatch: pytest.MonkeyPatch, *, cases: str) -> str:
    """Return what pytest prints of a file of tests."""
    (folder / "test_cases.py").write_text(cases)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    return run_pytest("-p", "own_process", "-rA", "-W", "ignore", f"--rootdir={folder}", cwd=folder).stdout


def test_each_test_ends_as_in_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = outcome(tmp_path, monkeypatch, cases=CASES)
    assert "PASSED test_cases.py::test_value[1]" in printed
    assert "FAILED test_cases.py::test_value[2]" in printed
    assert "assert 1 == 2" in printed
    assert "for a reason" in printed
    assert "1 failed, 2 passed, 1 skipped" in printed


def test_a_process_that_dies_fails_all_its_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = outcome(tmp_path, monkeypatch, cases=CASES + DEATH)
    assert "did not run" in printed
    assert "4 failed, 1 passed" in printed
