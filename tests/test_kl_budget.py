"""A round and a run move the policy by so many nats, whatever the algorithm, the rate and the scale of the reward."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from test_finetune import ALGORITHMS, SUPERVISED, finetuning, run, untimed
from torch import Tensor
from torch.testing import assert_close
from toy import lifted, number_task

from molrl.advantages import Centred
from molrl.algos import Algorithm
from molrl.algos.ddpo import DDPOSF
from molrl.finetune import build_state, finetune, freeze_copy
from molrl.kl_budget import AIM, MAX_FACTOR, KLBudget, pull_back
from molrl.noise import Key
from molrl.oracle.chain import Chain
from molrl.oracle.control import optimal_control
from molrl.oracle.linear_gaussian import QUADRATIC, make_sampler
from molrl.oracle.trial import ALL_STEPS, UNCLIPPED, path_kl
from molrl.policy import Policy
from molrl.task import Metrics, Task
from molrl.trainable_parameters import trainable_module
from molrl.training_state import TrainingError

WRONG = (0.0, -1.0, float("nan"), float("inf"))
SCORE: dict[str, Any] = {"advantage": Centred(), "advantage_clip": UNCLIPPED, **ALL_STEPS}


def chain(policy: Policy) -> Chain:
    return Chain.from_policy(policy, torch.float32)


def rounds(task: Task, algorithm: Algorithm, **settings: Any) -> tuple[list[Metrics], list[Chain]]:
    """Return the metrics of each round, and the exact chain before the first and after each."""
    chains, seen = [chain(task.policy)], list[Metrics]()

    def log(metrics: Metrics) -> None:
        seen.append(metrics)
        chains.append(chain(task.policy))

    finetune(finetuning(**settings), task, algorithm, freeze_copy(task.policy), None, log)
    return seen, chains


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_round_and_no_run_goes_farther_than_its_budget(name: str) -> None:
    """At a rate that would go ten times as far. The estimate is kept to, and the exact KL of the chains is near it."""
    budget: dict[str, Any] = {"kl_round": 0.05, "kl_total": 0.12, "rollouts": 128, "minibatch": 256}
    seen, chains = rounds(
        number_task(lifted), ALGORITHMS[name], **budget, iterations=5, optimizer=partial(torch.optim.AdamW, lr=0.3)
    )
    for row, before, after in zip(seen, chains, chains[1:], strict=False):
        assert 0 < row["kl_round"] <= 0.05
        assert path_kl(after, before) <= 1.3 * 0.05
        assert path_kl(after, chains[0]) <= 1.3 * 0.12
    assert path_kl(chains[-1], chains[0]) > 0.03


@pytest.mark.parametrize("scale", [0.3, 10.0])
@pytest.mark.parametrize("rate", [0.3, 3.0])
def test_the_rate_is_found_whatever_it_was_and_whatever_the_reward_is_measured_in(rate: float, scale: float) -> None:
    """Plain gradient steps on raw rewards: without a budget a thousandth of the reward is a thousandth of the step."""

    def reward(samples: Sequence[Any]) -> Tensor:
        return scale * lifted(samples)

    settings: dict[str, Any] = {"rollouts": 256, "minibatch": 10**6, "clip_norm": 1e9}
    settings["optimizer"] = partial(torch.optim.SGD, lr=rate)
    seen, chains = rounds(number_task(reward), DDPOSF(**SCORE), iterations=14, kl_round=0.02, **settings)
    late = [path_kl(after, before) for before, after in pairwise(chains[4:])]
    assert max(late) < 0.026
    assert median(late) > 0.012
    assert (seen[4]["rate_factor"] > 1) == (rate * scale < 1)


def test_the_reward_is_nearly_the_best_that_its_kl_can_buy() -> None:
    """Among all chains within B nats the optimum of E[r] - beta KL with KL = B has the largest reward."""
    task = number_task(lifted)
    settings: dict[str, Any] = {"rollouts": 512, "minibatch": 10**6, "clip_norm": 1e9}
    settings["optimizer"] = partial(torch.optim.SGD, lr=2.0)
    _, chains = rounds(task, DDPOSF(**SCORE), iterations=60, kl_round=0.01, kl_total=0.1, **settings)
    base, reached = chains[0], chains[-1]
    bought = path_kl(reached, base)
    low, high = 1e-2, 1e2
    for _ in range(60):  # the KL falls with beta
        beta = (low * high) ** 0.5
        low, high = (beta, high) if path_kl(optimal_control(base, QUADRATIC, beta), base) > bought else (low, beta)
    best = optimal_control(base, QUADRATIC, low)
    assert path_kl(best, base) == pytest.approx(bought, rel=1e-3)
    gain, top = (QUADRATIC.expected(one.marginal()) - QUADRATIC.expected(base.marginal()) for one in (reached, best))
    assert 0.07 < bought < 0.13
    assert 0.9 < gain / top <= 1.0001


@pytest.mark.parametrize("name", ["DDPO", "RWR"])
def test_a_run_with_a_budget_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"kl_round": 0.02, "kl_total": 0.03, "save_every": 1}
    whole, halves, rest = number_task(lifted), number_task(lifted), number_task(lifted)
    expected = run(whole, ALGORITHMS[name], tmp_path / "whole", iterations=4, **settings)
    first = run(halves, ALGORITHMS[name], tmp_path / "halves", iterations=2, **settings)
    second = run(rest, ALGORITHMS[name], tmp_path / "halves", iterations=4, **settings)
    assert untimed([*first, *second]) == untimed(expected)
    assert expected[1]["rate_factor"] != 1
    for one, other in zip(
        trainable_module(whole.policy).parameters(), trainable_module(rest.policy).parameters(), strict=True
    ):
        assert_close(one, other, rtol=0, atol=0)


def test_without_a_limit_nothing_is_measured() -> None:
    seen = run(number_task(lifted), ALGORITHMS["DDPO"])
    assert not {"kl_round", "rate_factor"} & seen[-1].keys()


def test_a_limit_that_is_far_changes_no_update() -> None:
    one, other = number_task(lifted), number_task(lifted)
    run(one, ALGORITHMS["DDPO"])
    run(other, ALGORITHMS["DDPO"], kl_total=1e6)
    assert_close(trainable_module(one.policy).state_dict(), trainable_module(other.policy).state_dict(), rtol=0, atol=0)


def test_a_reward_that_teaches_nothing_lets_the_rate_grow_to_a_bound() -> None:
    task = number_task(lambda samples: torch.zeros(len(samples)))
    seen = run(task, ALGORITHMS["DDPO"], iterations=8, kl_round=0.1)
    assert [row["rate_factor"] for row in seen] == [4.0, 16.0, *[MAX_FACTOR] * 6]


def test_a_deterministic_chain_is_measured_as_the_ancestral_one() -> None:
    """Every mean of the ancestral chain moved by 0.3 stds: 0.045 nats a step, whatever chain draws the samples."""
    task = number_task()
    reference = freeze_copy(task.policy)
    drawn = replace(task, policy=replace(task.policy, sampler=make_sampler(eta=0.0)))
    state = build_state(finetuning(), drawn, ALGORITHMS["RWR"], replace(reference, sampler=drawn.policy.sampler))
    collected = ALGORITHMS["RWR"].collect(state.learner, list(range(64)), Key(0, 1))
    watch = KLBudget(0.5, None, state).begin(collected, 1)
    assert watch is not None
    with torch.no_grad():
        trainable_module(task.policy).get_parameter("shift").fill_(0.3)
    assert watch.kl_to(watch.before) == pytest.approx(10 * 0.045, rel=1e-3)
    assert watch.is_over(1)
    assert watch.metrics()["kl_round"] <= 0.5


def test_a_kl_that_is_not_a_number_ends_the_run() -> None:
    task = number_task()
    state = build_state(finetuning(), task, ALGORITHMS["RWR"], freeze_copy(task.policy))
    collected = ALGORITHMS["RWR"].collect(state.learner, list(range(8)), Key(0, 1))
    watch = KLBudget(0.5, None, state).begin(collected, 1)
    assert watch is not None
    with torch.no_grad():
        trainable_module(task.policy).get_parameter("shift").fill_(float("nan"))
    with pytest.raises(TrainingError, match="KL of the policy is not a number"):
        watch.is_over(1)


@pytest.mark.parametrize("power", [1, 2])
def test_parameters_are_pulled_back_to_just_below_the_limit(power: int) -> None:
    start = [torch.tensor([1.0, -2.0]), torch.tensor([0.5])]
    away = [origin + torch.tensor(3.0) for origin in start]

    def measure() -> float:
        return float(torch.cat(away).sub(torch.cat(start)).norm()) ** power

    pull_back(away, start, measure, 0.7)
    assert 0.9 * AIM * 0.7 < measure() <= 0.7
    moved = torch.cat([one - origin for one, origin in zip(away, start, strict=True)])
    assert_close(moved, moved[:1].expand(3), rtol=1e-5, atol=0)


def test_what_no_pull_brings_within_the_limit_goes_back_all_the_way() -> None:
    start, away = [torch.zeros(2)], [torch.ones(2)]
    pull_back(away, start, lambda: 9.0 if away[0].any() else 0.0, 1.0)
    assert not away[0].any()


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("name", ["kl_round", "kl_total"])
def test_a_budget_that_is_no_number_of_nats_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: got .*, need a number of nats above 0, or null for no limit"):
        finetuning(**{name: value})


def test_the_supervised_methods_have_a_budget_too() -> None:
    """Their samples are the pretrained model's, so that one learns from states of that."""
    for name in SUPERVISED:
        seen = run(number_task(lifted), ALGORITHMS[name], iterations=4, kl_total=0.01)
        assert all(row["kl"] < 0.02 for row in seen)
