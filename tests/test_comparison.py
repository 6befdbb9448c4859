"""The comparison of algorithms: its jobs, the KL of chains, best-of-n's curve, and the figures of a table."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from test_benchmarks import FOLDER, benchmark
from toy import number_task

from molrl.composition import compose
from molrl.data.molecules.qm9 import in_half
from molrl.data.molecules.unembedded import Graphs
from molrl.finetune import freeze_copy
from molrl.noise import Key
from molrl.oracle.chain import Chain
from molrl.oracle.trial import path_kl
from molrl.task import sample_chains
from molrl.trainable_parameters import trainable_module


@pytest.fixture(scope="module")
def compare() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    yield benchmark("compare")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def judge(compare: ModuleType) -> ModuleType:
    return sys.modules["comparison_judge"]


@pytest.fixture(scope="module")
def runs(compare: ModuleType) -> ModuleType:
    return sys.modules["comparison_runs"]


@pytest.fixture(scope="module")
def table(compare: ModuleType) -> ModuleType:
    return sys.modules["comparison_table"]


def test_the_jobs_of_a_seed_come_before_the_next_and_tuned_rows_after_the_trials(
    compare: ModuleType, tmp_path: Path
) -> None:
    """The held-out reward is largest at half of the default rate for ddpo and at the default for nft."""
    comparison = compare.Comparison(tmp_path, (), ("ddpo", "nft"), (0, 1), None)
    comparison.__dict__["base"] = number_task()  # in place of the loaded model, which no job here needs
    (tmp_path / "jobs").mkdir()
    for (name, best), factor in product({"ddpo": 0.5, "nft": 1.0}.items(), compare.FACTORS):
        rewards = [0.9, 0.7] if factor == best else [0.2, 0.9]
        comparison.file(compare.trial(name, factor), compare.TRIAL_SEED).write_text(json.dumps({"rewards": rewards}))
    jobs = [(name, seed) for name, seed, _ in comparison.jobs()]
    methods = ["pretrained", "ddpo", "nft", "best of 4", "best of 12", "svdd", "smc"]
    methods += ["placebo ddpo", "zero ddpo", "placebo nft", "zero nft"]
    assert jobs[:22] == [(name, seed) for seed in (0, 1) for name in methods]
    assert [seed for _, seed in jobs[22:30]] == [compare.TRIAL_SEED] * 8
    assert jobs[30:] == [("ddpo tuned, lr x 0.5", 0), ("ddpo tuned, lr x 0.5", 1)]


@pytest.mark.parametrize("policy", ["qm9_half", "drugs"])
def test_no_algorithm_gets_more_queries_than_another(runs: ModuleType, policy: str) -> None:
    """One query for a sample; for RGDM, `states` of each rollout have `candidates` more."""
    for name in runs.RUNS:
        config = compose("train", ["task=qed", f"algo={name}", *runs.run_settings(name, [f"policy={policy}"])])
        each = 1 + config["algo"]["states"] * config["algo"]["candidates"] if name == "rgdm" else 1
        queries = config["iterations"] * config["rollouts"] * each
        assert 0.98 * runs.MAX_QUERIES <= queries <= runs.MAX_QUERIES


def test_a_tilt_goes_as_far_in_all_whatever_its_rounds(runs: ModuleType) -> None:
    """Rounds times the step of each are those of the algorithm's own defaults."""
    for policy in (["policy=qm9_half"], ["policy=drugs"]):
        default, own = (
            compose("train", ["algo=tilt", *rest]) for rest in (("seed=0",), runs.run_settings("tilt", policy))
        )
        total = [config["iterations"] * config["algo"]["tilt_step"] for config in (default, own)]
        assert total[1] == pytest.approx(total[0], rel=1e-3)


def test_drug_size_molecules_are_drawn_as_their_policy_does_where_no_step_has_a_density(runs: ModuleType) -> None:
    """The family of the forward process has what is tuned for its first member; DDPO keeps its first-order steps."""
    tuned = compose("train", ["policy=drugs", "algo=nft"])
    for name in ("nft", "awm", "epg", "pepg", "ram", "tilt"):
        config = compose("train", [f"algo={name}", *runs.run_settings(name, ["policy=drugs"])])
        shared = ("policy", "precision", "rollouts", "epochs", "minibatch", "optimizer")
        assert {key: config[key] for key in shared} == {key: tuned[key] for key in shared}
        assert config["algo"]["noisings"] == tuned["algo"]["noisings"]
    for name, order in {"ddpo": 1, "grpo": 1, "rwr": 2, "sft_kl_o": 2}.items():
        assert (
            compose("train", [f"algo={name}", *runs.run_settings(name, ["policy=drugs"])])["policy"]["order"] == order
        )


def test_a_trial_multiplies_the_learning_rate_that_the_run_would_have(runs: ModuleType) -> None:
    assert runs.run_settings("epg", ["policy=drugs"], 0.5)[-1] == "optimizer.lr=5e-05"
    assert runs.run_settings("epg", ["policy=qm9_half"], 0.5)[-1] == "optimizer.lr=0.0002"


def test_the_plan_counts_the_jobs_that_are_missing(
    compare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A round of 3 s and chains of 0.1 s: 640 chains judge, 2,304 sample, and ddpo has 12 rounds."""
    plan = sys.modules["comparison_plan"]
    monkeypatch.setattr(plan, "run_rounds", lambda *_: {"round": 3.0})
    monkeypatch.setattr(plan, "seconds_of_chain", lambda _: 0.1)
    comparison = compare.Comparison(tmp_path, ("policy=drugs",), ("ddpo",), (0, 1), None)
    comparison.__dict__["base"] = number_task()
    (tmp_path / "jobs").mkdir()
    comparison.file("ddpo", 0).write_text("{}")
    plan.print_plan(comparison)
    lines = capsys.readouterr().out.splitlines()
    assert "| pretrained | 2 | 1.1 | 2 |" in lines
    assert "| ddpo | 9 | 1.7 | 15 |" in lines  # one seed, two controls of two seeds, four trials
    assert "| smc | 2 | 4.9 | 10 |" in lines
    assert "| all | 19 | | 56 |" in lines


def test_molecules_are_known_or_not_only_for_a_model_of_one_half(compare: ModuleType, tmp_path: Path) -> None:
    done = [sys.executable, str(FOLDER / "compare.py"), str(tmp_path), "--data", "qm9.npz", "policy=drugs"]
    result = subprocess.run(done, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "--data: got qm9.npz with the policy drugs; allowed with qm9_half" in result.stderr


def test_the_kl_of_chains_is_the_exact_one_of_the_oracle(judge: ModuleType) -> None:
    task = number_task()
    reference = freeze_copy(task.policy)
    with torch.no_grad():
        for parameter in trainable_module(task.policy).parameters():
            parameter.add_(0.05)
    chains = sample_chains(task.policy, task.decoder, range(4000), Key(0), task.device)
    kl = judge.kl_of_chains(task.policy, reference, chains)
    exact = path_kl(*(Chain.from_policy(policy, torch.float32) for policy in (task.policy, reference)))
    assert exact > 0.01
    assert np.mean(kl) == pytest.approx(exact, abs=5 * np.std(kl) / len(kl) ** 0.5)
    assert judge.kl_of_chains(reference, reference, chains) == [0.0] * 4000


def test_a_round_that_is_repeated_after_a_kill_counts_once(compare: ModuleType, tmp_path: Path) -> None:
    first = compare.Rounds(tmp_path / "run")
    for iteration in (0, 1, 2):
        first.log({"iteration": iteration, "reward_queries": 10.0})
    again = compare.Rounds(tmp_path / "run")
    again.log({"iteration": 2, "reward_queries": 10.0})
    again.log({"iteration": 3, "reward_queries": 10.0})
    assert again.number == 4
    assert again.total("reward_queries") == 40.0


def test_a_folder_keeps_to_the_settings_that_it_was_begun_with(compare: ModuleType, tmp_path: Path) -> None:
    compare.refuse_other_settings(tmp_path / "new", ["policy=drugs", "iterations=2"])
    compare.refuse_other_settings(tmp_path / "new", ["iterations=2", "policy=drugs"])
    with pytest.raises(SystemExit, match=r"got the settings \['iterations=3'\], but its jobs were begun with \['iter"):
        compare.refuse_other_settings(tmp_path / "new", ["iterations=3"])


def test_labelled_molecules_are_of_the_first_half_alone(compare: ModuleType, tmp_path: Path) -> None:
    """6,000 molecules of one and two atoms; each atom has the number of its molecule as a coordinate."""
    index = np.arange(1, 6001)
    sizes = 1 + index % 2
    owner = np.repeat(index, sizes)
    positions = np.stack([owner, owner, owner], 1).astype(np.float32)
    carbon = np.full(len(owner), 6)
    np.savez(tmp_path / "all.npz", index=index, num_atoms=sizes, atomic_numbers=carbon, positions=positions)
    for seed in (0, 1):
        compare.write_labelled(tmp_path / "all.npz", tmp_path / f"{seed}.npz", seed)
    one, two = (np.load(tmp_path / f"{seed}.npz") for seed in (0, 1))
    assert len(set(one["index"].tolist())) == compare.MAX_QUERIES
    assert all(in_half(number, "first") for number in one["index"].tolist())
    assert np.array_equal(np.repeat(one["index"], one["num_atoms"]), one["positions"][:, 1])
    assert set(one["index"].tolist()) != set(two["index"].tolist())


def test_the_best_of_n_uniform_numbers_is_worth_n_over_n_plus_one(table: ModuleType) -> None:
    """And KL(best of 2 || uniform) is log 2 - 1/2."""
    kl, means = table.best_of_curve((np.arange(20_000) + 0.5) / 20_000, 9)
    assert means == pytest.approx([n / (n + 1) for n in range(1, 10)], abs=1e-4)
    assert kl[:2] == pytest.approx([0.0, 0.6931472 - 0.5])


def test_figures_count_valid_molecules_alone_and_sort_them_by_where_they_are_known(table: ModuleType) -> None:
    """Four samples: one is not valid, two are the same molecule of the training set, one is of the other half."""
    pretrained = {"rewards": [0.2, 0.4, 0.0, 0.0], "smiles": ["CCO", "C1CC1", "", ""]}
    job = {
        "rewards": [0.6, 0.6, 0.9, 0.0],
        "smiles": ["C1CC1", "C1CC1", "c1ccncc1", ""],
        "kl": [1.0, 3.0],
        "queries": 8,
        "seconds": 2.0,
    }
    judgement = table.Judgement(Graphs.parse(["CCO", "C1CC1"]), {"CCO", "C1CC1"}, {"CCO", "C1CC1", "c1ccncc1"})
    figures = judgement.figures(job, pretrained)
    expected = {
        "gain": 2.1 / 4 - 0.6 / 4,
        "gain_valid": 2.1 / 3 - 0.3,
        "validity": 3 / 4,
        "elements": 1 / 6,  # of twelve atoms one is N and none O; of six one is O
        "seen": 1 / 2,
        "unseen": 1 / 2,
        "outside": 0.0,
        "unique": 2 / 3,
        "scaffolds": 2 / 3,
        "circles": 2,
        "kl": 2.0,
        "kl_sem": 1.0,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_a_cell_has_the_mean_and_its_standard_error(table: ModuleType) -> None:
    assert table.cell([1.0, 2.0, 3.0], 3) == "2.000 ± 0.577"
    assert table.cell([1.0], 1) == "1.0"
    assert table.cell([1.0, float("nan")], 1) == "-"


def test_the_table_has_all_methods_the_best_first_and_the_trials_below(
    table: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobs").mkdir()
    rewards = {"pretrained": 0.4, "placebo ddpo": 0.3, "ddpo": 0.5, "best of 4": 0.6, "trial ddpo lr x 0.5": 0.7}
    for (name, value), seed in product(rewards.items(), (0, 1)):
        job = {"name": name, "seed": seed, "rewards": [value] * 4, "smiles": ["CCO", "CCC", "C1CC1", ""]}
        job |= {"kl": [1.0 + seed], "queries": 8, "seconds": 1.0, "stopped": 0 if (name, seed) == ("ddpo", 1) else None}
        (tmp_path / "jobs" / f"{name}_{seed}.json").write_text(json.dumps(job))
    known = tmp_path / "known.smi"
    known.write_text("CCO\nCCC\n")
    table.write_table(tmp_path, str(known), str(known))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines if "---" not in line] == [
        *("", "best of 4", "ddpo (stopped: seed 1 after 0 rounds)", "pretrained", "placebo ddpo"),
        *("held-out reward, lr x", "ddpo"),
    ]
    assert lines[3].split("|")[3].strip() == "0.100 ± 0.000"
    assert (tmp_path / "comparison.csv").read_text().count("\n") == 1 + 8
    assert (tmp_path / "frontier.png").stat().st_size > 5000
    headings = lines[0].split(" | ")
    assert ("not known" in headings, "novel" in headings) == (True, False)
    table.write_table(tmp_path, str(known), None)
    headings = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("|")).split(" | ")
    assert ("not known" in headings, "known, not seen" in headings, "novel" in headings) == (False, False, True)
