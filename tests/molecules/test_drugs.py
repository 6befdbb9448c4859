"""The shipped drug-size policy can be trained: by its own settings, and with densities of some 270 dimensions."""

import json
import math
from pathlib import Path

import torch
from command import molrl

from molrl.algos import Learner
from molrl.composition import compose
from molrl.diagnostics import pre_update_metrics
from molrl.finetune import freeze_copy
from molrl.noise import Key, Stream
from molrl.run import prepare
from molrl.trainable_parameters import trainable_module

SHORT = ("rollouts=4", "policy.num_steps=3", "threads=1", "reward.workers=0", "task.atoms=25", "precision=float32")


def test_the_shipped_drug_size_policy_is_trained_by_the_shortest_command(tmp_path: Path) -> None:
    """One round moves it, and rollout and training agree in its prediction to float32's rounding."""
    run = tmp_path / "run"
    done = molrl(
        "train", "policy=drugs", "reward=valence", *SHORT, "iterations=1", "evaluate=2", "minibatch=16", f"run={run}"
    )
    assert done.code == 0, done
    assert "task qed, reward valence, nft" in done.out
    row = json.loads((run / "metrics.jsonl").read_text())
    assert row["max_prediction_error_first"] < math.sqrt(torch.finfo(torch.float32).eps)
    assert row["reward_queries"] == 4
    assert (run / "model/weights.safetensors").exists()


def test_ratios_of_270_dimensions_are_one_before_an_update() -> None:
    """Rows of rollout and training are grouped in other ways; a ratio is of a sum over 11 n - 3 numbers."""
    run = prepare(compose("train", ["task=qed", "policy=drugs", "algo=ddpo", *SHORT]))
    learner = Learner(run.task, freeze_copy(run.task.policy), run.algorithm.modules(run.task))
    collected = run.algorithm.collect(learner, list(range(4)), Key(0, Stream.ROUND.at(0)))
    steps = collected.rollouts.trajectory
    dof = run.task.policy.sampler.space.dof(steps.states[-1], steps.context)
    assert set(dof.tolist()) == {272}
    metrics = pre_update_metrics(learner, collected)
    assert 0 <= metrics["max_abs_log_ratio_first"] < run.finetuning.ratio_tolerance
    with torch.no_grad():  # the check can fail: another policy than the one that drew them
        next(trainable_module(run.task.policy).parameters()).mul_(1.01)
    assert pre_update_metrics(learner, collected)["max_abs_log_ratio_first"] > run.finetuning.ratio_tolerance
