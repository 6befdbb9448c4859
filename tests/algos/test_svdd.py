"""SVDD: the law of a choice among independent candidates, by numbers, and the plain chain where there is one."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import cloud_task, number_task, quadratic

from molrl.algos.steps import spread_steps
from molrl.guidance.svdd import SVDD
from molrl.noise import Key
from molrl.oracle.chain import Chain, linear
from molrl.oracle.linear_gaussian import ParabolaReward, linear_gaussian_task

KEY = Key(6, 1)
SAMPLES = 20_000


def svdd(**changes: float) -> SVDD:
    settings = {"candidates": 3, "temperature": 0.5, "first": 0.2, "last": 0.8, "guided": 4, "lookahead": 0}
    return SVDD(**{**settings, **changes})  # type: ignore[arg-type]


def chosen_moments(chain: Chain, temperature: float) -> tuple[float, float]:
    """Integrate mean and square of one of two candidates of a one-step chain, chosen by softmax(r / T), r(x) = x.

    x is the prior, and the two candidates are a x + b + s z_1 and a x + b + s z_2 before the decode.
    """
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(40)
    node_weights = node_weights / node_weights.sum()
    x, one, two = np.meshgrid(nodes, nodes, nodes, indexing="ij")
    weight = node_weights[:, None, None] * node_weights[None, :, None] * node_weights[None, None, :]
    (slope, offset, std), *_ = chain.steps
    values = [chain.decode_slope * (slope * x + offset + std * z) + chain.decode_offset for z in (one, two)]
    first = 1 / (1 + np.exp((values[1] - values[0]) / temperature))
    powers = [(weight * (first * values[0] ** n + (1 - first) * values[1] ** n)).sum() for n in (1, 2)]
    return float(powers[0]), float(powers[1])


@pytest.mark.parametrize("temperature", [0.001, 0.004])  # the two candidates differ by some 0.004
def test_the_choice_between_two_candidates_of_one_step_has_the_law_that_numbers_give(temperature: float) -> None:
    task = linear_gaussian_task(ParabolaReward(linear(1.0)), num_steps=1)
    chain = Chain.from_policy(task.policy, torch.float32)
    guidance = svdd(candidates=2, temperature=temperature, first=0.0, last=1.0, guided=1)
    values = torch.stack(guidance.draw(task, range(SAMPLES), KEY).samples).flatten().double()
    mean, square = chosen_moments(chain, temperature)
    assert values.mean().item() == pytest.approx(mean, abs=4 * values.std().item() / math.sqrt(SAMPLES))
    error = values.square().std().item() / math.sqrt(SAMPLES)
    assert values.square().mean().item() == pytest.approx(square, abs=4 * error)
    assert abs(mean - chain.marginal().mean) > 8 * values.std().item() / math.sqrt(SAMPLES)


def test_one_candidate_makes_plain_samples() -> None:
    task = number_task()
    drawn = svdd(candidates=1).draw(task, range(5), KEY)
    assert_close(torch.stack(drawn.samples), torch.stack(list(task.rollout(range(5), KEY).samples)))


def test_the_first_candidate_is_the_step_of_a_plain_chain() -> None:
    """Where no estimate has a reward, sample i is the plain sample 3 i."""
    task = number_task(lambda samples: torch.full((len(samples),), torch.nan))
    drawn = svdd().draw(task, range(4), KEY)
    assert_close(torch.stack(drawn.samples), torch.stack(list(task.rollout([0, 3, 6, 9], KEY).samples)))


def test_a_flat_reward_leaves_the_law_of_the_chain() -> None:
    task = number_task(lambda samples: torch.zeros(len(samples)))
    mean, variance = Chain.from_policy(task.policy, torch.float32).marginal()
    values = torch.stack(svdd(guided=100).draw(task, range(8000), KEY).samples)
    assert values.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / 8000))
    assert values.var().item() == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / 8000))


def test_it_raises_the_reward_and_counts_its_queries() -> None:
    task = number_task()
    drawn = svdd().draw(task, range(200), KEY)
    assert quadratic(drawn.samples).mean() > task.rollout(range(200), KEY).rewards.mean() + 0.2
    assert drawn.reward_queries == 200 * 4 * 3


def test_a_sample_is_the_same_in_any_batch() -> None:
    task = cloud_task(lambda samples: torch.stack([sample.square().mean() for sample in samples]), sizes=(4,))
    together = svdd().draw(task, range(4), KEY).samples
    assert_close(svdd().draw(task, [2], KEY).samples[0], together[2])


def test_candidates_without_a_reward_are_not_chosen() -> None:
    """Only the last of three candidates has a reward in each step, so the chain has its noise."""

    def last_third(samples: Sequence[Any]) -> Tensor:
        rewards = torch.full((len(samples),), torch.nan)
        rewards[2 * len(samples) // 3 :] = 0.0
        return rewards

    task = number_task(last_third)
    guidance = svdd(first=0.0, last=1.0, guided=100)
    drawn, plain = guidance.draw(task, range(2), KEY), task.rollout([2, 5], KEY).trajectory
    start = task.rollout([0, 3], KEY).trajectory.states[0]
    expected = torch.stack(drawn.samples)
    chain = Chain.from_policy(task.policy, torch.float32)
    gain = math.prod(chain.slope) * chain.decode_slope
    assert_close(expected - plain.final, gain * (start - plain.states[0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("steps", "first", "last", "count", "expected"),
    [
        (10, 0.2, 0.8, 3, [3, 5, 7]),
        (10, 0.2, 0.8, 1, [5]),
        (10, 0.2, 0.8, 6, [2, 3, 4, 5, 6, 7]),
        (10, 0.2, 0.8, 60, [2, 3, 4, 5, 6, 7]),
        (50, 0.4, 0.64, 4, [21, 24, 27, 30]),
    ],
)
def test_steps_are_spread_evenly_over_the_window(
    steps: int, first: float, last: float, count: int, expected: list[int]
) -> None:
    assert spread_steps(steps, first, last, count) == expected


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"candidates": 0}, "candidates"),
        ({"temperature": 0.0}, "temperature"),
        ({"guided": 0}, "guided"),
        ({"first": 0.9}, "first, last"),
        ({"lookahead": -1}, "lookahead"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(svdd(), **wrong)
