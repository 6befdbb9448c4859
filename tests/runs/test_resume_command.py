"""`molrl train resume=RUN` goes on with a run's own settings, and takes no code from its folder."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import QUICK_PRETRAINING, QUICK_RUN, complaint, molrl

from molrl.runs.checkpoints import CHECKPOINTS, COMPLETE, Series
from molrl.runs.tracking import read_metrics

DOMAINS: dict[str, tuple[str, ...]] = {
    "molecules": ("algo=ddpo", *QUICK_RUN, "reward=logp", "optimizer.lr=1e-3", "iterations=5"),
    "shapes": (
        *("task=symmetry", "algo=dpok", "iterations=5", "rollouts=4", "minibatch=8", "evaluate=4", "threads=1"),
        *("policy.num_steps=5", "policy.points=32"),
    ),
}


def rows(run: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run without the times."""
    found = read_metrics(run / "metrics.jsonl")
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in found]


def kept(run: Path) -> dict[str, bytes]:
    """Return the results of a run that depend on its seed alone: all but the unused global generators."""
    series = Series(run / CHECKPOINTS)
    places = [run / "model", run / "best", run / "samples", *map(series.path, series.steps())]
    files = [path for place in places for path in sorted(place.iterdir()) if path.stem not in ("random", "manifest")]
    return {str(path.relative_to(run)): path.read_bytes() for path in files if path.name != COMPLETE}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("domain", DOMAINS)
def test_killed_without_warning_and_resumed_it_is_the_uninterrupted_run(domain: str, tmp_path: Path) -> None:
    """SIGKILL to the process of a real run, as soon as it has got so far; then the same by the run's own settings."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert molrl("train", *DOMAINS[domain], f"run={whole}").code == 0
    command = [sys.executable, "-m", "molrl.cli", "train", *DOMAINS[domain], f"run={broken}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (broken / "metrics.jsonl").exists() or len(rows(broken)) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert len(rows(broken)) < 5
    done = molrl("train", f"resume={broken}")
    assert done.code == 0, done
    assert "going on after" in done.out
    assert rows(broken) == rows(whole)
    assert kept(broken) == kept(whole)
    summaries = [json.loads((run / "summary.json").read_text()) for run in (whole, broken)]
    for summary in summaries:
        assert summary.pop("wall_seconds") > 0
    assert summaries[0] == summaries[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run with unusual settings."""
    run = tmp_path_factory.mktemp("runs") / "it's mine"
    assert molrl("train", f"run={run}", "algo=ddpo", *QUICK_RUN, "optimizer.lr=1e-3").code == 0
    return run


def test_the_settings_are_those_of_the_run(run: Path) -> None:
    shown = molrl("train", f"resume={run}", "--cfg")
    assert yaml.safe_load(shown.out) == yaml.safe_load((run / "config.yaml").read_text())
    assert molrl("train", f"resume={run}").out.startswith(f"{run} is complete")


def test_where_it_is_computed_may_change_and_nothing_else(run: Path) -> None:
    free = molrl("train", f"resume={run}", "threads=2", "device=cpu", "--cfg")
    assert (yaml.safe_load(free.out)["threads"], yaml.safe_load(free.out)["device"]) == (2, "cpu")
    for other in ("seed=1", "rollouts=3", "run=elsewhere", "algo=rgdm", "+new=3"):
        assert "only device, threads, wait, minutes, tracker, iterations may change" in complaint(
            ["train", f"resume={run}", other], 2
        )


def test_a_run_from_before_variety_could_be_kept_goes_on_without(run: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(run, older)
    saved = yaml.safe_load((older / "config.yaml").read_text())
    assert saved["chosen"].pop("diversity") == "none"
    assert saved.pop("diversity") is None
    (older / "config.yaml").write_text(yaml.safe_dump(saved))
    shown = yaml.safe_load(molrl("train", f"resume={older}", "iterations=+1", "--cfg").out)
    assert shown["diversity"] is None


def test_a_run_from_before_a_setting_of_its_algorithm_goes_on_with_the_default(run: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(run, older)
    saved = yaml.safe_load((older / "config.yaml").read_text())
    default = saved["algo"].pop("kl_weight")
    (older / "config.yaml").write_text(yaml.safe_dump(saved))
    shown = yaml.safe_load(molrl("train", f"resume={older}", "--cfg").out)
    assert shown["algo"]["kl_weight"] == default
    with pytest.warns(UserWarning, match=f"has no algo.kl_weight, .* goes on with {default}"):
        assert molrl("train", f"resume={older}").code == 0


def test_the_best_model_can_be_drawn_from(run: Path, tmp_path: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert summary["best"].keys() == {"iteration", "metric", "value"}
    if summary["best"]["iteration"] == summary["iterations"]:
        assert summary["best"]["value"] == summary["after"]["reward_mean"]
    drawn = molrl(
        "sample", f"policy={run / 'best'}", "n=3", "policy.num_steps=5", f"out={tmp_path / 'x.sdf'}", "threads=1"
    )
    assert "3 molecules in" in drawn.out


def change(path: tuple[str, ...], value: Any) -> Callable[[dict[str, Any]], None]:
    def made(config: dict[str, Any]) -> None:
        for name in path[:-1]:
            config = config[name]
        config[path[-1]] = value

    return made


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change(("task", "_target_"), "molrl.models.sample.sample_file"), "its task._target_"),
        (change(("task", "_target_"), "os.system"), "its task._target_"),
        (change(("reward", "scorer", "_partial_"), True), "its reward.scorer._partial_"),
        (change(("optimizer", "_partial_"), False), "its optimizer._partial_"),
        (change(("task", "name"), {"_target_": "os.system", "command": "true"}), "its task.name"),
        (change(("task", "name"), [{"_target_": "os.system"}]), "its task.name"),
        (change(("algo",), {"clip": 1}), "its algo"),
        (change(("algo",), None), "its algo"),
        (change(("chosen", "algo"), "../../evil"), "no such algo"),
        (change(("chosen", "algo"), 3), "does not say what was chosen"),
        (change(("chosen", "task.weights"), "${oc.env:HOME}"), "no run of molrl train"),
        (change(("chosen",), {"model": "heavy"}), "no run of molrl train"),
        (change(("reward",), {"function": "rings"}), "a Python function"),
        (change(("iterations",), "many"), "'many'"),
        (change(("unknown",), 1), "unknown"),
    ],
)
def test_what_a_folder_says_is_compared_and_never_built(
    damage: Callable[[dict[str, Any]], None], words: str, run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (other / "summary.json").unlink()
    config = yaml.safe_load((other / "config.yaml").read_text())
    damage(config)
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    assert words in complaint(["train", f"resume={other}"], 2)


BOMB = "a: &a [1,1]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)}]\n" for i in range(24))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{[", "cannot be read"),
        (b"", "no table of settings"),
        (b"- 1\n", "no table of settings"),
        (b"a: !!python/object/apply:os.system ['touch marker']\n", "cannot be read"),
        (BOMB.encode(), "it has aliases"),
        (b"[" * 5000, "more than 32 levels"),
        (b"\xff\xfe", "cannot be read"),
        (b"#" * (1 << 18) + b"\n", "more than the 262144 allowed"),
        (b"run: 3\n", "does not say what was chosen"),
    ],
)
def test_settings_that_are_no_plain_data_are_refused(text: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(text)
    assert words in complaint(["train", f"resume={tmp_path}"], 2)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"resume={tmp_path / 'none'}: no run is there" in complaint(["train", f"resume={tmp_path / 'none'}"], 2)
    assert "one at a time" in complaint(["train", "resume=a", "resume=b"], 2)
    assert "resume" in complaint(["score", "resume=a"], 2)


def test_pretraining_is_resumed_too(tmp_path: Path) -> None:
    assert molrl("pretrain", f"run={tmp_path / 'run'}", *QUICK_PRETRAINING).code == 0
    done = molrl("pretrain", f"resume={tmp_path / 'run'}")
    assert (done.code, "4 steps" in done.out) == (0, True)
    assert "no run of molrl train" in complaint(["train", f"resume={tmp_path / 'run'}"], 2)
