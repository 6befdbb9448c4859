"""Sequential Monte Carlo: the exact tilt, an unbiased evidence, and the plain chain where nothing is resampled."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import ExactDenoiser, cloud_task, number_task, quadratic

from molrl.gaussian import Euclidean
from molrl.guidance.smc import SMC
from molrl.noise import Key
from molrl.oracle.chain import Chain, linear
from molrl.oracle.linear_gaussian import ParabolaReward, Points
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import Cosine
from molrl.task import Task

KEY = Key(5, 1)
GRADIENT = 0.8


def smc(**changes: float) -> SMC:
    settings = {"particles": 4, "kept": 2, "temperature": 1.0, "threshold": 0.5}
    settings |= {"first": 0.2, "last": 0.9, "scored": 4, "lookahead": 0}
    return SMC(**{**settings, **changes})  # type: ignore[arg-type]


def moments(samples: Sequence[Tensor], weights: Tensor) -> tuple[float, float]:
    """Return the weighted mean and variance of numbers."""
    values = torch.stack(list(samples)).flatten().double()
    mean = (weights.flatten() * values).sum()
    return mean.item(), (weights.flatten() * (values - mean).square()).sum().item()


def test_particles_of_a_gaussian_chain_follow_its_tilt() -> None:
    """N(m, v) tilted by exp(g x): N(m + g v, v), and log Z = g m + g^2 v / 2."""
    task = number_task(ParabolaReward(linear(1.0)))
    mean, variance = Chain.from_policy(task.policy, torch.float32).marginal()
    population = smc(particles=8000, temperature=1 / GRADIENT, threshold=1.0).run(task, [0], KEY)
    got_mean, got_variance = moments(population.samples, population.weights)
    assert population.resamplings == 4
    assert got_mean == pytest.approx(mean + GRADIENT * variance, abs=4 * math.sqrt(variance / 4000))
    assert got_variance == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / 4000))
    log_evidence = GRADIENT * mean + GRADIENT**2 * variance / 2
    assert population.log_evidence.item() == pytest.approx(log_evidence, abs=0.03)


def test_particles_of_a_mixture_follow_its_tilt() -> None:
    """0.3 N(-2, 0.25) + 0.7 N(1, 0.64) by exp(0.8 x): mean 1.402, variance 0.979, log Z 0.682, in closed form.

    200 steps of the exact denoiser lose some two per cent of the variance, whatever the reward.
    """
    sampler = DDIM(schedule=Cosine(signal_min=1e-5, noise_min=1e-6), num_steps=200, space=Euclidean())
    denoiser = ExactDenoiser(sampler.schedule, (0.3, 0.7), (-2.0, 1.0), (0.25, 0.64))
    task = Task("mixture", Policy(denoiser, sampler), Points(), ParabolaReward(linear(1.0)))
    population = smc(particles=6000, temperature=1 / 0.8).run(task, [0], KEY)
    mean, variance = moments(population.samples, population.weights)
    assert mean == pytest.approx(1.402, abs=0.08)
    assert variance == pytest.approx(0.979, abs=0.1)
    assert population.log_evidence.item() == pytest.approx(0.682, abs=0.06)


@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.0])
def test_the_evidence_of_few_particles_is_unbiased(threshold: float) -> None:
    """The mean over systems of Z-hat is E exp(r / T), whether and when they are resampled."""
    task = number_task(ParabolaReward(linear(1.0)))
    mean, variance = Chain.from_policy(task.policy, torch.float32).marginal()
    evidence = smc(threshold=threshold).run(task, range(6000), KEY).log_evidence.exp()
    error = evidence.std() / math.sqrt(len(evidence))
    assert abs(evidence.mean() - math.exp(mean + variance / 2)) < 4 * error


def test_without_resampling_it_is_importance_sampling_of_plain_samples() -> None:
    task = number_task()
    population = smc(threshold=0.0, temperature=0.5).run(task, [3, 1], KEY)
    plain = task.rollout([12, 13, 14, 15, 4, 5, 6, 7], KEY)
    assert_close(torch.stack(list(population.samples)), torch.stack(list(plain.samples)))
    assert_close(population.weights, (plain.rewards.double() / 0.5).view(2, 4).softmax(1))
    assert_close(population.log_evidence, (plain.rewards.double() / 0.5).exp().view(2, 4).mean(1).log())
    assert population.resamplings == 0


def test_estimates_without_a_reward_leave_the_law() -> None:
    """On the way half of the estimates have no reward; finished samples do, and the tilt stays exact."""
    calls = []

    def forgetful(samples: Sequence[Any]) -> Tensor:
        calls.append(len(samples))
        rewards = torch.stack(list(samples)).sum(1)
        lost = (torch.arange(len(rewards)) % 2 == 0) & (len(calls) <= 4)
        return torch.where(lost, torch.nan, rewards)

    task = number_task(forgetful)
    mean, variance = Chain.from_policy(task.policy, torch.float32).marginal()
    population = smc(particles=8000, threshold=1.0).run(task, [0], KEY)
    assert len(calls) == 5
    assert moments(population.samples, population.weights)[0] == pytest.approx(mean + variance, abs=0.04)


def test_finished_samples_without_a_reward_are_not_kept() -> None:
    def half(samples: Sequence[Any]) -> Tensor:
        values = torch.stack(list(samples)).sum(1)
        return torch.where(values > 0.5, values, torch.nan)

    drawn = smc(threshold=0.0, particles=8).draw(number_task(half), range(20), KEY)
    assert (torch.stack(drawn.samples) > 0.5).all()


def test_more_samples_are_drawn_from_particles_of_more_reward() -> None:
    task = number_task()
    drawn = smc(temperature=0.2).draw(task, range(200), KEY)
    assert quadratic(drawn.samples).mean() > task.rollout(range(200), KEY).rewards.mean() + 0.3
    assert drawn.reward_queries == 100 * 4 * (4 + 1)
    assert 1 <= drawn.facts["effective particles of 4"] <= 4
    assert 0 < drawn.facts["resamplings of a system"] <= 4


def test_a_system_is_the_same_in_any_batch() -> None:
    task = cloud_task(lambda samples: torch.stack([sample.square().mean() for sample in samples]), sizes=(4, 3))
    guidance = smc(temperature=0.1)
    together = guidance.draw(task, range(6), KEY).samples
    for index in (5, 2):
        assert_close(guidance.draw(task, [index], KEY).samples[0], together[index])


def test_the_particles_of_a_system_share_its_condition() -> None:
    """Sizes are 4, 2 and 3 in turn, by the system."""
    task = cloud_task(lambda samples: torch.stack([sample.square().mean() for sample in samples]))
    drawn = smc(particles=3, kept=3, temperature=0.01, threshold=1.0).draw(task, range(9), KEY)
    assert [len(sample) for sample in drawn.samples] == [4, 4, 4, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"particles": 0}, "particles: got 0"),
        ({"kept": 5}, "kept: got 5, allowed 1 to the number of particles, 4"),
        ({"temperature": math.nan}, "temperature: got nan"),
        ({"threshold": 1.5}, "threshold: got 1.5, allowed 0"),
        ({"threshold": math.nan}, "threshold: got nan"),
        ({"scored": 0}, "scored: got 0"),
        ({"first": 0.9}, "first, last"),
        ({"lookahead": -1}, "lookahead"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(smc(), **wrong)
