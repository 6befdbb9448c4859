"""Code of other people is used where the user names it or has installed it, and never because a file says so."""

import json
from pathlib import Path

import pytest
import yaml
from command import QUICK_RUN, complaint, molrl

from molrl.config import ConfigError
from molrl.plugins import is_code, load_object, user_reward

REWARDS = '''"""Rewards of a user, in one file."""

from pathlib import Path

import torch

Path({mark!r}).touch()


def carbons(samples):
    """Return the number of carbon atoms of each molecule."""
    return [float((sample.numbers == 6).sum()) for sample in samples]


class Weighted:
    """A reward with a setting."""

    kind = "molecules"

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, samples):
        return torch.tensor([self.weight * value for value in carbons(samples)])


NOTHING = 3
'''
ALGORITHM = '''from molrl.algos.rwr import RWR


class Mine(RWR):
    """RWR under another name."""
'''


@pytest.fixture(autouse=True)
def rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a file of rewards, which leaves a mark when it is run, into a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rewards.py").write_text(REWARDS.format(mark=str(tmp_path / "mark")))
    (tmp_path / "my_algorithm.py").write_text(ALGORITHM)
    (tmp_path / "in.smi").write_text("CCO ethanol\nc1ccccc1 benzene\n")
    return tmp_path


def test_code_is_told_from_names() -> None:
    assert all(map(is_code, ("my.py:f", "a/b c/my.py:f", "package.module:object", "package:object")))
    assert not any(map(is_code, ("qed", "hub:owner/name", "my.py", "my.py:", ":f", "a b:c")))


def test_a_function_in_a_file_is_a_reward_that_trains(rewards: Path) -> None:
    settings = [item for item in QUICK_RUN if not item.startswith("reward.")]
    done = molrl("train", "reward=my_rewards.py:carbons", "algo=ddpo", f"run={rewards / 'run'}", *settings)
    assert done.code == 0, done
    summary = json.loads((rewards / "run/summary.json").read_text())
    assert summary["reward"] == "my_rewards.py:carbons"
    assert summary["before"]["reward_mean"] > 1


def test_a_function_in_a_file_scores(rewards: Path) -> None:
    assert molrl("score", "in.smi", "reward=my_rewards.py:carbons").code == 0
    rows = (rewards / "in.smi.carbons.csv").read_text().splitlines()
    assert [row.split(",")[4] for row in rows] == ["carbons", "2", "6"]


@pytest.mark.parametrize("names", ["my_rewards.py:carbons,logp", "logp,my_rewards.py:carbons"])
def test_a_function_is_scored_beside_another_reward(names: str, rewards: Path) -> None:
    done = molrl("score", "in.smi", f"reward={names}", "out=both.csv")
    assert done.code == 0, done
    rows = [line.split(",") for line in (rewards / "both.csv").read_text().splitlines()]
    assert [row[rows[0].index("carbons")] for row in rows] == ["carbons", "2", "6"]


def test_a_class_in_a_module_takes_settings(rewards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(rewards))
    assert molrl("score", "in.smi", "reward=my_rewards:Weighted", "+reward.weight=2.0", "out=w.csv").code == 0
    assert (rewards / "w.csv").read_text().splitlines()[1].split(",")[4] == "4"
    assert "weights" in complaint(["score", "in.smi", "reward=my_rewards:Weighted", "+reward.weights=2.0"], 2)
    assert "missing weight" in complaint(["score", "in.smi", "reward=my_rewards:Weighted"], 2)


def test_an_algorithm_in_a_file_trains(rewards: Path) -> None:
    settings = ["+algo.temperature=0.5", "+algo.noisings=2", f"run={rewards / 'run'}"]
    assert molrl("train", "algo=my_algorithm.py:Mine", *settings, *QUICK_RUN).code == 0
    assert json.loads((rewards / "run/summary.json").read_text())["algo"] == "my_algorithm.py:Mine"


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ("gone.py:f", "gone.py no such file"),
        ("my_rewards.py:rings", "rings carbons"),
        ("my_rewards.py:NOTHING", "NOTHING int called"),
        ("no.such.module:f", "no.such.module imported"),
        ("broken.py:f", "broken.py SyntaxError"),
    ],
)
def test_code_that_cannot_be_had_is_one_line(reward: str, words: str, rewards: Path) -> None:
    (rewards / "broken.py").write_text("def f(:\n")
    said = complaint(["train", f"reward={reward}", "run=run"], 2)
    assert not [word for word in words.split() if word not in said], said
    assert not (rewards / "run").exists()


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (
            "return [sample.no for sample in samples]",
            6,
            "bad.py:f: AttributeError: 'Molecule' no 'no' (bad.py, line 2)",
        ),
        ("return {}['key']", 6, "bad.py:f: KeyError: 'key' (bad.py, line 2)"),
        ("return None", 5, "bad.py:f: returned a NoneType, expected one number for each sample"),
        ("return [1.0]", 5, "f: got values of shape (1,), one number for each sample"),
    ],
)
def test_a_reward_that_fails_is_one_line_about_it(body: str, code: int, words: str, rewards: Path) -> None:
    (rewards / "bad.py").write_text(f"def f(samples):\n    {body}\n")
    said = complaint(["score", "in.smi", "reward=bad.py:f"], code)
    assert not [word for word in words.split() if word not in said], said


def test_a_received_run_names_no_code_to_run(rewards: Path) -> None:
    """Code that a config.yaml names is run only if the user names it as well."""
    settings = [item for item in QUICK_RUN if not item.startswith("reward.")]
    run = rewards / "run"
    assert molrl("train", "reward=my_rewards.py:carbons", "algo=ddpo", f"run={run}", *settings).code == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    (rewards / "evil.py").write_text(f"open({str(rewards / 'owned')!r}, 'w')\ndef f(samples): return [0.0]\n")
    config["chosen"]["reward"] = config["reward"]["source"] = f"{rewards / 'evil.py'}:f"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    said = complaint(["train", f"resume={run}"], 2)
    assert "is code of yours; name it again" in said
    config["chosen"]["reward"] = "qed"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert molrl("train", f"resume={run}").code == 2
    assert not (rewards / "owned").exists()


def test_code_of_a_run_is_named_once_more_to_go_on(rewards: Path) -> None:
    settings = [item for item in QUICK_RUN if not item.startswith("reward.")]
    run = rewards / "run"
    assert molrl("train", "reward=my_rewards.py:carbons", "algo=ddpo", f"run={run}", *settings).code == 0
    (run / "summary.json").unlink()
    done = molrl("train", f"resume={run}", "reward=my_rewards.py:carbons")
    assert done.code == 0, done


def test_yaml_of_a_user_builds_what_the_user_allows(rewards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(rewards))
    folder = rewards / "conf/reward"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: my_rewards.Weighted\nweight: 3.0\n")
    arguments = ["score", "in.smi", "reward=mine", "out=m.csv", "--config-dir", str(rewards / "conf")]
    assert "refused, only molrl.*" in complaint(arguments, 2)
    assert molrl(*arguments, "--plugin", "my_rewards").code == 0
    assert (rewards / "m.csv").read_text().splitlines()[2].split(",")[4] == "18"


def test_values_of_any_kind_become_a_tensor() -> None:
    reward = user_reward(source="math:fsum")
    assert reward.__name__ == "fsum"
    with pytest.raises(ConfigError, match="takes no settings, got n"):
        user_reward(source="math:fsum", n=3)
    with pytest.raises(ConfigError, match="no 'nothing' there"):
        load_object("math:nothing")
