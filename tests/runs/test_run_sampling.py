"""A policy that is opened by a run samples as the run did."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from molrl.composition import compose
from molrl.models.shipped import SHIPPED
from molrl.runs.sampling import run_sampling


def run_folder(folder: Path, policy: Any) -> Path:
    """Write what a run leaves: its settings, and a model beside them."""
    shutil.copytree(SHIPPED / "molecules/qm9_heavy", folder / "model")
    (folder / "config.yaml").write_text(yaml.safe_dump({"policy": policy, "seed": 0}))
    return folder


def test_the_chain_of_a_run_is_kept_and_the_command_line_has_the_last_word(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", {"num_steps": 7, "grid_power": 1.1, "eta": 0.5, "guidance_scale": 3.0})
    taken = compose("sample", [f"policy={run}", "n=1"])["policy"]
    assert {name: taken[name] for name in ("num_steps", "grid_power", "eta")} == {
        "num_steps": 7,
        "grid_power": 1.1,
        "eta": 0.5,
    }
    assert "guidance_scale" not in taken
    assert compose("train", ["task=qed", f"policy={run / 'model'}"])["policy"]["num_steps"] == 7
    assert compose("sample", [f"policy={run}", "n=1", "policy.num_steps=9"])["policy"]["num_steps"] == 9


def test_a_model_without_a_run_has_the_defaults(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", {"num_steps": 7})
    (run / "config.yaml").unlink()
    assert compose("sample", [f"policy={run}", "n=1"])["policy"]["num_steps"] == 50
    assert run_sampling("qm9_heavy") == {}


@pytest.mark.parametrize("steps", [10**9, -1, True, "7", [7], None, float("nan")])
def test_what_is_no_plausible_number_is_not_taken_from_a_run(tmp_path: Path, steps: Any) -> None:
    assert run_sampling(str(run_folder(tmp_path / "run", {"num_steps": steps, "eta": 1.0}))) == {"eta": 1.0}


@pytest.mark.parametrize("text", ["", "[1, 2", "policy: 3", "a: &a [*a]", "policy: !!python/object:os.system {}"])
def test_settings_that_cannot_be_read_are_no_settings_of_a_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert run_sampling(str(tmp_path)) == {}
