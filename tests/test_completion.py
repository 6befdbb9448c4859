"""Completion offers what `molrl` would accept at this place of the command line, and nothing else."""

import shutil
import subprocess

import pytest
from command import complaint, molrl

from molrl.completion import SCRIPTS, candidates


def test_commands_choices_and_settings() -> None:
    assert candidates("sc", []) == ["score"]
    assert {"reward=qed", "reward=qed_sa"} <= set(candidates("reward=q", ["train"]))
    assert candidates("rollo", ["train"]) == ["rollouts="]
    assert "algo=rgdm" in candidates("algo=", ["train", "task=qed"])
    assert candidates("--mul", ["train"]) == ["--multirun"]


def test_settings_below_depend_on_what_was_chosen() -> None:
    assert "algo.candidates=" in candidates("algo.", ["train", "algo=rgdm"])
    assert "algo.candidates=" not in candidates("algo.", ["train", "algo=ddpo"])


@pytest.mark.parametrize("before", [["trains"], ["train", "algo=nothing"]])
def test_a_line_that_is_no_command_offers_nothing(before: list[str]) -> None:
    assert candidates("algo.", before) == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_valid_in_its_shell(shell: str) -> None:
    script = molrl("completion", shell).out
    assert "molrl completion words" in script
    if (found := shutil.which(shell)) is not None:
        assert subprocess.run([found, "-n"], input=script, text=True, check=False).returncode == 0


def test_another_shell_is_one_line() -> None:
    assert "bash, zsh, fish" in complaint(["completion", "tcsh"], 2)
