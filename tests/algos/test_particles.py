"""Weighted particles: systematic resampling, effective size, and weights whose product is the final potential's."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from molrl.guidance.particles import ParticleWeights, effective_size, normalised, systematic

LISTS = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def doubles(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_systematic_resampling_by_hand() -> None:
    """Levels 0.5, 0.75, 1; positions 0.1, 0.35, 0.6, 0.85."""
    assert systematic(doubles([0.5, 0.25, 0.25]), doubles(0.4), 4).tolist() == [[0, 0, 1, 2]]


@settings(max_examples=50, deadline=None)
@given(LISTS.filter(any), st.floats(0, 1, exclude_max=True), st.integers(1, 9))
def test_copies_are_the_weights_rounded_down_or_up(raw: list[float], uniform: float, count: int) -> None:
    weights = doubles(raw) / sum(raw)
    copies = torch.bincount(systematic(weights, doubles(uniform), count)[0], minlength=len(raw))
    assert int(copies.sum()) == count
    assert ((copies - count * weights[0]).abs() < 1 + 1e-9).all()
    assert not copies[weights[0] == 0].any()


def test_copies_are_the_weights_on_average() -> None:
    weights = doubles([0.07, 0.0, 0.41, 0.52])
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn = systematic(weights.expand(1000, -1), uniform, 3)
    copies = torch.bincount(drawn.flatten(), minlength=4).double() / 1000
    assert_close(copies, 3 * weights[0], atol=2e-3, rtol=0)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2.0**-53])
def test_particles_without_weight_are_not_drawn_at_the_ends(uniform: float) -> None:
    assert systematic(doubles([0.0, 0.5, 0.5, 0.0]), doubles(uniform), 2).tolist() == [[1, 2]]


def test_the_effective_size_by_hand() -> None:
    """Weights 1/4 each; 1/2, 1/2; one alone; and none at all, which counts as equal weights."""
    zero = -math.inf
    log_weights = doubles([3.0, 3.0, 3.0, 3.0], [0.0, zero, zero, 0.0], [900.0, 0.0, 0.0, 0.0], [zero] * 4)
    assert_close(effective_size(log_weights), doubles(4.0, 2.0, 1.0, 4.0))
    assert_close(normalised(log_weights)[3], doubles(0.25, 0.25, 0.25, 0.25))


def test_the_weights_of_a_chain_multiply_to_the_final_potential() -> None:
    weights = ParticleWeights(1, 2)
    for potentials in ([5.0, -3.0], [1.0, 100.0], [0.2, 0.7]):
        weights.reweight(doubles(potentials))
    assert_close(weights.log_weights, doubles([0.2, 0.7]))


def test_an_estimate_without_a_reward_changes_no_weight() -> None:
    weights = ParticleWeights(1, 2)
    weights.reweight(doubles([2.0, 1.0]))
    weights.reweight(doubles([math.nan, 3.0]))
    assert_close(weights.log_weights, doubles([2.0, 3.0]))
    weights.reweight(doubles([0.5, 0.0]))
    assert_close(weights.log_weights, doubles([0.5, 0.0]))


def test_a_finished_particle_without_a_reward_has_no_weight() -> None:
    weights = ParticleWeights(2, 2)
    weights.reweight(doubles([2.0, 1.0], [2.0, 1.0]))
    weights.finish(doubles([math.nan, 1.0], [math.nan, math.nan]))
    assert_close(normalised(weights.log_weights), doubles([0.0, 1.0], [0.5, 0.5]))
    assert_close(weights.evidence(), doubles(1 - math.log(2), -math.inf))


def test_a_resampling_by_hand() -> None:
    """Weights 9 to 1: an effective size of 100/82; the heavy particle takes both places, and the mean 5 is kept."""
    weights = ParticleWeights(2, 2)
    weights.reweight(doubles([math.log(9), 0.0], [0.1, 0.1]))
    ancestors = weights.resample(0.7, doubles(0.5, 0.5))
    assert ancestors.tolist() == [[0, 0], [0, 1]]
    assert_close(weights.log_weights, doubles([0.0, 0.0], [0.1, 0.1]))
    assert_close(weights.log_evidence, doubles(math.log(5), 0.0))
    weights.finish(doubles([0.0, 0.0], [0.3, 0.3]))
    assert_close(weights.log_weights[0], doubles(-math.log(9), -math.log(9)))
    assert_close(weights.evidence(), doubles(math.log(5 / 9), 0.3))
    assert weights.resamplings == 1


def test_systems_above_the_threshold_are_left_alone() -> None:
    weights = ParticleWeights(1, 2)
    weights.reweight(doubles([math.log(9), 0.0]))
    assert weights.resample(0.5, doubles(0.5)).tolist() == [[0, 1]]
    assert weights.resamplings == 0
