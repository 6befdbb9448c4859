"""Torch's threads: a number holds for a call, and they sleep while they wait where that can still be arranged."""

import os
import subprocess
import sys

import pytest
import torch

import molrl
from molrl.config import ConfigError
from molrl.machine.threads import torch_threads, warn_of_spinning_threads


def python(program: str, **environment: str) -> str:
    """Return what a program prints in an interpreter of its own, where no variable is about threads."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    command = [sys.executable, "-c", program]
    return subprocess.check_output(command, env={**inherited, **environment}, text=True).strip()


def test_a_number_holds_within_the_block_and_not_after_it() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        with torch_threads(None):
            assert torch.get_num_threads() == before + 1
    with pytest.raises(RuntimeError, match="of the block"), torch_threads(before + 2):
        raise RuntimeError("of the block")
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("bad", [0, -1, 1025, True, 1.5, "2"])
def test_a_number_that_torch_cannot_take_is_one_clear_error(bad: object) -> None:
    with pytest.raises(ConfigError, match="expected 1 to 1024, or null"), torch_threads(bad):
        raise AssertionError


def test_a_reward_computes_with_the_number_that_its_call_was_given() -> None:
    before = torch.get_num_threads()
    values = molrl.score([0, 0], lambda samples: [torch.get_num_threads() for _ in samples], threads=before + 1)
    assert (values.tolist(), torch.get_num_threads()) == ([before + 1, before + 1], before)


def test_waiting_threads_sleep_if_molrl_comes_first_and_nobody_said_otherwise() -> None:
    policy = "import os; print(os.environ.get('OMP_WAIT_POLICY'))"
    assert python(f"import molrl; {policy}") == "passive"
    assert python(f"import molrl; {policy}", OMP_WAIT_POLICY="active") == "active"
    assert python(f"import torch, molrl; {policy}") == "None"  # it would come too late and hide that they spin


def test_numbers_of_threads_that_the_user_set_stay() -> None:
    number = "molrl.score; print(torch.get_num_threads())"
    assert python(f"import molrl, torch; torch.set_num_threads(3); {number}") == "3"
    assert python(f"import molrl; molrl.score; import torch; {number}", OMP_NUM_THREADS="1") == "1"


def test_torch_threads_that_would_spin_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: (os.cpu_count() or 1) + 1)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    with pytest.warns(RuntimeWarning, match="import molrl before torch"):
        warn_of_spinning_threads(2)


def test_workers_beside_molrl_threads_are_warned_of_by_nobody() -> None:
    program = "import molrl, molrl.api, torch; torch.set_num_threads(4)\n"
    program += "from molrl.machine.threads import warn_of_spinning_threads as warn; warn(4); print('quiet')"
    assert python(f"import warnings; warnings.simplefilter('error'); {program}") == "quiet"
