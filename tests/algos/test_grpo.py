"""GRPO: advantages within groups by hand, one window for a group, and nothing learned from steps without noise."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import learner, number_task, quadratic

from molrl.algos.ddpo import score_function
from molrl.algos.grpo import GRPO, group_advantages
from molrl.algos.steps import window_of
from molrl.algos.windows import WINDOW, windowed
from molrl.building import build
from molrl.composition import compose
from molrl.diagnostics import pre_update_metrics
from molrl.finetune import freeze_copy
from molrl.noise import Key, Stream
from molrl.oracle.linear_gaussian import AffineDenoiser
from molrl.task import Task

KEY = Key(2, Stream.ROUND.at(0))
SAMPLES = list(range(24))
NAN = math.nan


def grpo(**changes: object) -> GRPO:
    settings: dict[str, Any] = {
        **{"group_size": 4, "scale": "global", "advantage_clip": 5.0, "clip": 0.2, "kl_weight": 0.1, "window": 3},
        **{"first": 0.2, "last": 0.9, "schedule": "random", "stride": 1, "every": 1, "shared_start": False},
    }
    return GRPO(**{**settings, **changes})


def moved(task: Task, by: float = 0.3) -> Task:
    """Move the mean of every step of a task's policy by some of its std."""
    denoiser = task.policy.denoiser
    assert isinstance(denoiser, AffineDenoiser)
    with torch.no_grad():
        denoiser.shift.add_(by)
    return task


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("none", [-1.0, 1.0, -3.0, 3.0]),
        ("group", [-1 / 1.0001, 1 / 1.0001, -3 / 3.0001, 3 / 3.0001]),
        ("global", [v / (math.sqrt(6.0) + 1e-4) for v in (-1.0, 1.0, -3.0, 3.0)]),
    ],
)
def test_advantages_of_two_groups_by_hand(scale: Any, expected: list[float]) -> None:
    """Rewards 1, 3 and 1, 7: group means 2 and 4, stds 1 and 3; all have mean 3 and variance (4 + 0 + 4 + 16) / 4."""
    advantage, metrics = group_advantages(torch.tensor([1.0, 3.0, 1.0, 7.0]), 2, scale)
    assert_close(advantage, torch.tensor(expected))
    assert metrics == {"groups_flat": 0.0}


@pytest.mark.parametrize("scale", ["group", "global", "none"])
def test_a_group_without_spread_is_dropped(scale: Any) -> None:
    advantage, metrics = group_advantages(torch.tensor([0.1] * 3 + [0.0, 1.0, 2.0]), 3, scale)
    assert advantage[:3].isnan().all()
    assert advantage[3:].isfinite().all()
    assert metrics == {"groups_flat": 0.5}


def test_a_sample_without_a_reward_enters_no_mean_and_is_dropped() -> None:
    """One scored member has none to compare with; a group without any is dropped, too."""
    rewards = torch.tensor([NAN, 1.0, 5.0, NAN, NAN, 2.0, NAN, NAN, NAN])
    advantage, metrics = group_advantages(rewards, 3, "none")
    assert_close(advantage, torch.tensor([NAN, -2.0, 2.0] + [NAN] * 6), equal_nan=True)
    assert metrics == {"groups_flat": pytest.approx(2 / 3)}


def test_where_no_group_has_a_spread_all_advantages_are_zero() -> None:
    advantage, metrics = group_advantages(torch.tensor([0.3, 0.3, NAN, 0.7]), 2, "group")
    assert_close(advantage, torch.tensor([0.0, 0.0, NAN, 0.0]), equal_nan=True)
    assert metrics == {"groups_flat": 1.0}


@pytest.mark.parametrize(
    ("changes", "starts"),
    [
        ({}, [2, 3, 4, 5, 6, 2, 3]),
        ({"every": 2}, [2, 2, 3, 3, 4, 4, 5]),
        ({"stride": 3}, [2, 5, 3, 6, 4, 2, 5]),
        ({"window": 7}, [2, 2, 2, 2, 2, 2, 2]),
        ({"window": 99}, [2, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_a_moving_window_goes_along_the_allowed_steps_and_begins_again(
    changes: dict[str, int], starts: list[int]
) -> None:
    """The window moves within steps 2 to 8 of ten."""
    algorithm = grpo(schedule="moving", **changes)
    got = [algorithm.window_of_group(10, 7, Key(0, Stream.ROUND.at(iteration))) for iteration in range(7)]
    assert [window.start for window in got] == starts
    assert {len(window) for window in got} == {min(algorithm.window, 7)}


@pytest.mark.parametrize("settings", [(), ("policy=drugs",), ("task=stability",)], ids=" ".join)
def test_the_default_window_visits_most_steps_that_it_may(settings: tuple[str, ...]) -> None:
    config = compose("train", ["algo=grpo", *settings])
    algorithm, num_steps = build(config["algo"], "algo"), config["policy"]["num_steps"]
    rounds = [Key(0, Stream.ROUND.at(iteration)) for iteration in range(config["iterations"])]
    windows = [algorithm.window_of_group(num_steps, 0, key) for key in rounds]
    assert len({window.start for window in windows}) >= 8
    allowed = window_of(num_steps, algorithm.first, algorithm.last)
    assert len(set[int]().union(*windows)) > 0.9 * len(allowed)


def test_random_windows_reach_all_places_and_change_with_the_round() -> None:
    places = [[grpo().window_of_group(10, group, Key(0, stream)).start for group in range(60)] for stream in (1, 2)]
    assert set(places[0]) == set(places[1]) == {2, 3, 4, 5, 6}
    assert places[0] != places[1]


def test_the_members_of_a_group_share_a_window_and_only_its_steps_are_learned_from() -> None:
    table = grpo().collect(learner(number_task()), SAMPLES, KEY).table
    windows = table.contexts[WINDOW].view(-1, 4, 2)
    assert (windows == windows[:, :1]).all()
    assert len(windows.unique(dim=0)) > 1
    pairs = table.contexts[WINDOW].tolist()
    expected = [(k, row) for k in range(10) for row, (first, end) in enumerate(pairs) if first <= k < end]
    assert list(zip(table.step.tolist(), table.sample.tolist(), strict=True)) == expected
    assert (windowed(number_task().policy).transition(table).std > 0).all()


def test_flat_groups_have_no_rows() -> None:
    def first_group_flat(samples: Any) -> Tensor:
        values = quadratic(samples)
        return torch.cat([torch.zeros(4), values[4:]])

    collected = grpo().collect(learner(number_task(first_group_flat)), SAMPLES, KEY)
    assert set(collected.table.sample.tolist()) == set(range(4, 24))
    assert collected.metrics["groups_flat"] == pytest.approx(1 / 6)


def test_rollout_and_training_evaluate_one_kernel() -> None:
    """Also of a policy that has moved; steps without noise take no part."""
    student = learner(moved(number_task()), freeze_copy(number_task().policy))
    collected = grpo().collect(student, SAMPLES, KEY)
    assert grpo().loss(student, collected.table)[1]["log_ratio"].abs().max() < 1e-5
    assert pre_update_metrics(student, collected)["max_abs_log_ratio_first"] < 1e-5


def test_another_kernel_is_found_out() -> None:
    student = learner(number_task())
    collected = grpo().collect(student, SAMPLES, KEY)
    plain = replace(collected, behaviour=student.policy)
    assert pre_update_metrics(student, plain)["max_abs_log_ratio_first"] > 0.1


def test_the_kl_of_a_round_is_that_of_the_chain_with_noise_at_every_step() -> None:
    """All means have moved by 0.3 stds: ten steps of 0.3^2 / 2 nats; three of them are in a window."""
    student = learner(moved(number_task()), freeze_copy(number_task().policy))
    collected = grpo().collect(student, SAMPLES, KEY)
    assert pre_update_metrics(student, collected)["kl"] == pytest.approx(10 * 0.045, rel=1e-3)
    in_window = grpo().loss(student, collected.table)[1]["kl_window"]
    assert_close(in_window, torch.full_like(in_window, 3 * 0.045), rtol=1e-3, atol=0)


def test_the_first_gradient_is_the_score_function_in_the_window() -> None:
    student = learner(number_task())
    table = grpo(kl_weight=0.0).collect(student, SAMPLES, KEY).table
    parameters = list(student.policy.denoiser.parameters())  # type: ignore[attr-defined]
    got = torch.autograd.grad(grpo(kl_weight=0.0).loss(student, table)[0], parameters)
    log_prob = windowed(student.policy).log_prob(table)
    assert_close(got, torch.autograd.grad(score_function(log_prob, table.advantage), parameters), rtol=1e-4, atol=1e-6)


def test_members_with_a_shared_start_differ_by_the_window_alone() -> None:
    collected = grpo(shared_start=True, schedule="moving").collect(learner(number_task()), SAMPLES, KEY)
    states = collected.rollouts.trajectory.states.view(11, 6, 4)
    for k in range(11):
        same = (states[k] == states[k, :, :1]).all()
        assert bool(same) == (k <= 2)
    assert len(states[0, :, 0].unique()) == 6


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"group_size": 1}, "group_size: got 1, need 2 or more"),
        ({"advantage_clip": 0.0}, "advantage_clip"),
        ({"clip": NAN}, "clip: got nan"),
        ({"kl_weight": -1.0}, "kl_weight"),
        ({"window": 0}, "window: got 0"),
        ({"stride": 0}, "stride"),
        ({"every": 0}, "every"),
        ({"first": 0.9}, "first, last"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        grpo(**wrong)
