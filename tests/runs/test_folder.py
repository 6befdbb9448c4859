"""A run's folder belongs to one run and one process, and holds its settings."""

import os
from pathlib import Path

import pytest
import yaml
from command import QUICK_PRETRAINING, complaint, molrl

from molrl.config import ConfigError
from molrl.runs.checkpoints import Series
from molrl.runs.folder import claim, describe_finished, differences, headline, refuse_another


def test_what_could_not_be_measured_is_said_to_be_unknown() -> None:
    summary = {"before": {"reward_mean": 0.5}, "after": {"reward_mean": None}, "reward_queries": 7, "wall_seconds": 90}
    assert headline(summary) == "reward 0.5000 -> unknown with 7 reward queries in 1.5 minutes"


def test_differences_are_named_by_their_dotted_name() -> None:
    old = {"run": "a", "device": "cpu", "x": {"y": 1, "gone": 2}, "same": [1]}
    new = {"run": "b", "device": "cuda", "x": {"y": 3, "new": None}, "same": [1]}
    assert differences(old, new) == ["x.y: 1 -> 3", "x.gone: 2 -> None"]
    assert differences(old, new, free=("x.y",)) == ["x.gone: 2 -> None"]


def test_a_run_may_go_on_with_other_settings_where_they_are_free_and_its_folder_has_the_last(tmp_path: Path) -> None:
    config = {"run": str(tmp_path / "run"), "threads": 1, "training": {"steps": 3, "lr": 0.1}}
    longer = {**config, "threads": 2, "training": {"steps": 4, "lr": 0.1}}
    with claim(config, free=("training.steps",)) as folder:
        pass
    with pytest.raises(ConfigError, match=r"holds another run \(training\.steps: 3 -> 4\)"), claim(longer):
        pass
    assert yaml.safe_load((folder / "config.yaml").read_text()) == config
    with claim(longer, free=("training.steps",)):
        pass
    assert yaml.safe_load((folder / "config.yaml").read_text()) == longer
    faster = {**longer, "training": {"steps": 4, "lr": 0.2}}
    with pytest.raises(ConfigError, match=r"training\.lr: 0\.1 -> 0\.2"), claim(faster, free=("training.steps",)):
        pass


def test_a_run_goes_on_without_the_settings_that_came_after_it_and_says_so(tmp_path: Path) -> None:
    algo = {"_target_": "molrl.algos.nft.NFT", "decay": 0.5}
    config = {"run": str(tmp_path / "run"), "algo": algo, "names": {"a": 1}}
    with claim(config) as folder:
        pass
    later = {**config, "algo": {**algo, "held": 0}}
    with pytest.warns(UserWarning, match=r"config\.yaml has no algo\.held, .* goes on with 0$"):
        refuse_another(later)
    assert differences(config, {**later, "kl_total": None}) == []
    other = {**config, "names": {"a": 1, "b": 2}}  # no setting of an object: the run's own names
    with pytest.raises(ConfigError, match=r"names\.b: None -> 2"):
        refuse_another(other)
    assert yaml.safe_load((folder / "config.yaml").read_text()) == config


def test_a_folder_is_not_claimed_twice_at_a_time_and_keeps_its_settings(tmp_path: Path) -> None:
    config = {"run": str(tmp_path / "run"), "threads": 1}
    with claim(config) as folder:
        with pytest.raises(ConfigError, match="is in use by process"), claim({**config, "threads": 2}):
            pass
        assert yaml.safe_load((folder / "config.yaml").read_text()) == config


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain") / "run"
    assert molrl("pretrain", f"run={folder}", *QUICK_PRETRAINING).code == 0
    return folder


def test_pretraining_leaves_its_settings_in_its_folder(pretrained: Path) -> None:
    config = yaml.safe_load((pretrained / "config.yaml").read_text())
    assert config == yaml.safe_load(molrl("pretrain", f"run={pretrained}", *QUICK_PRETRAINING, "--cfg").out)
    assert (config["chosen"]["data"], config["data"]["n"], config["training"]["steps"]) == ("enumerated", 40, 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("training.lr=1e-4", "training.lr: 0.0015 -> 0.0001"),
        ("training.batch=9", "training.batch: 8 -> 9"),
        ("training.seed=1", "training.seed: 0 -> 1"),
        ("data.seed=1", "data.seed: 0 -> 1"),
        ("init=qm9_heavy", "init: None -> 'qm9_heavy'"),
        ("model.reader._target_=molrl.data.molecules.bonds.edm_table", "-> 'molrl.data.molecules.bonds.edm_table'"),
        ("data=file data.path=x.smi", "(data: 'enumerated' -> 'file')"),
    ],
)
def test_pretraining_does_not_go_on_with_another_setting_than_it_started_with(
    change: str, words: str, pretrained: Path
) -> None:
    files = {path: path.read_bytes() for path in pretrained.rglob("*") if path.is_file()}
    kept = [item for item in QUICK_PRETRAINING if "data=" not in change or not item.startswith("data.")]
    assert words in complaint(["pretrain", f"run={pretrained}", *kept, *change.split()], 2)
    assert {path: path.read_bytes() for path in pretrained.rglob("*") if path.is_file()} == files


def test_pretraining_may_go_on_longer_and_look_elsewhere(tmp_path: Path) -> None:
    arguments = ["pretrain", f"run={tmp_path / 'run'}", *QUICK_PRETRAINING]
    assert molrl(*arguments).code == 0
    free = ("training.steps=5", "training.cooldown=2", "training.save_every=1", "evaluate=2", "device=cpu")
    assert molrl(*arguments, *free).code == 0
    assert Series(tmp_path / "run/checkpoint").steps()[-1] == 5
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["training"]["steps"] == 5


@pytest.mark.parametrize(
    "name", [".lock", "report.html", "metrics.jsonl", "config.yaml", "tensorboard/events", "samples"]
)
@pytest.mark.parametrize("hard", [False, True])
def test_a_received_run_whose_files_lead_elsewhere_is_refused_and_writes_nothing(
    name: str, hard: bool, tmp_path: Path
) -> None:
    config = {"run": str(tmp_path / "run"), "threads": 1}
    with claim(config) as folder:
        pass
    victim = tmp_path / "thesis.txt"
    victim.write_text(yaml.safe_dump(config, sort_keys=False))  # so that it would pass for the settings, too
    written = victim.read_bytes()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    if hard:
        (folder / name).hardlink_to(victim)
    else:
        (folder / name).symlink_to(victim)
    with pytest.raises(ConfigError, match=f"{name}: a (hard )?link"), claim(config):
        pass
    assert victim.read_bytes() == written


@pytest.mark.timeout(60)
def test_a_summary_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    config = {"run": str(tmp_path / "run"), "threads": 1}
    with claim(config) as folder:
        os.mkfifo(folder / "summary.json")
    with pytest.raises(ConfigError, match=r"summary\.json: damaged .*a pipe"):
        describe_finished(config)
