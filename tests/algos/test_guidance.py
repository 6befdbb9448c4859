"""Guided sampling: more reward, the same chain where the reward says nothing, and the same sample in any batch."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command import complaint, molrl
from torch.testing import assert_close
from toy import cloud_task, number_task, quadratic

from molrl.data.molecules.files import read
from molrl.guidance import BestOf, RewardGuided
from molrl.guidance.best_of import best_of_kl
from molrl.guidance.estimates import choose_by_reward
from molrl.models.sample import draw_guided
from molrl.noise import Key
from molrl.oracle.chain import Chain, linear
from molrl.oracle.linear_gaussian import ParabolaReward

KEY = Key(3, 1)


def guided(**changes: float) -> RewardGuided:
    settings = {"candidates": 4, "radius": 1.0, "temperature": 0.1, "first": 0.2, "last": 0.8, "lookahead": 0}
    return RewardGuided(**{**settings, **changes})  # type: ignore[arg-type]


def test_the_best_of_more_samples_is_better() -> None:
    task = number_task()
    means = [quadratic(BestOf(of=n).draw(task, range(200), KEY).samples).mean() for n in (1, 2, 8)]
    assert means[0] < means[1] < means[2]


def test_the_best_of_one_is_the_plain_sample() -> None:
    task = number_task()
    drawn = BestOf(of=1).draw(task, range(5), KEY)
    assert_close(torch.stack(drawn.samples), torch.stack(list(task.rollout(range(5), KEY).samples)))
    assert drawn.reward_queries == 5


@pytest.mark.parametrize(("n", "expected"), [(2, 0.5642), (4, 1.0294), (8, 1.4236)])
def test_the_best_of_n_normal_samples_is_their_largest_order_statistic(n: int, expected: float) -> None:
    """The means of the largest of n standard normal numbers (Harter 1961, Biometrika 48, Table 1)."""
    task = number_task(ParabolaReward(linear(1.0)))
    mean, variance = Chain.from_policy(task.policy, torch.float32).marginal()
    best = torch.stack(BestOf(of=n).draw(task, range(4000), KEY).samples)
    error = best.std().item() / math.sqrt(4000)
    assert best.mean().item() == pytest.approx(mean + expected * math.sqrt(variance), abs=4 * error)


@pytest.mark.parametrize("n", [1, 2, 12])
def test_the_divergence_of_the_best_of_n(n: int) -> None:
    """The quantile u of the best sample has the density f = n u^(n-1): KL = integral of f log f."""
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    density = n * u ** (n - 1)
    assert best_of_kl(n) == pytest.approx((density * density.log()).mean().item(), abs=1e-6)


def test_a_sample_without_a_reward_is_never_the_best() -> None:
    task = number_task(lambda samples: torch.tensor([float("nan"), 1.0] * (len(samples) // 2)))
    drawn = BestOf(of=2).draw(task, range(3), KEY)
    plain = task.rollout(range(6), KEY).samples
    assert_close(torch.stack(drawn.samples), torch.stack([plain[i] for i in (1, 3, 5)]))


@pytest.mark.parametrize("batch", [2, 3, 100])
def test_batches_add_up_their_queries_and_average_their_facts(batch: int) -> None:
    drawn = draw_guided(number_task(), BestOf(of=4), 7, seed=3, batch=batch)
    whole = BestOf(of=4).draw(number_task(), range(7), Key(3))
    assert_close(torch.stack(drawn.samples), torch.stack(whole.samples))
    assert drawn.reward_queries == 28
    assert drawn.facts == {"KL to the model in nats at most": pytest.approx(best_of_kl(4))}


def test_guidance_raises_the_reward_and_counts_its_questions() -> None:
    task = number_task()
    drawn = guided().draw(task, range(200), KEY)
    assert quadratic(drawn.samples).mean() > task.rollout(range(200), KEY).rewards.mean() + 0.2
    assert drawn.reward_queries == 200 * 6 * 4


def test_a_flat_reward_leaves_the_law_of_the_chain() -> None:
    """Every coordinate keeps the step's variance: mean and variance of the exact chain of ten steps."""
    task = number_task(lambda samples: torch.zeros(len(samples)))
    for radius in (0.5, 1.0):
        x = torch.stack(guided(radius=radius, first=0.0, last=1.0).draw(task, range(8000), KEY).samples)
        assert x.mean().item() == pytest.approx(0.5, abs=0.03)
        assert x.var().item() == pytest.approx(0.318, abs=0.02)


def test_a_guided_sample_is_the_same_in_any_batch() -> None:
    task = cloud_task(lambda samples: torch.stack([sample.square().mean() for sample in samples]), sizes=(4,))
    together = guided().draw(task, range(4), KEY).samples
    assert_close(guided().draw(task, [2], KEY).samples[0], together[2])


def test_candidates_that_cannot_be_scored_are_not_chosen() -> None:
    """The second half of the candidates, the mirror images, has no reward: every step takes one of the first half."""

    def half(samples: object) -> torch.Tensor:
        count = len(samples)  # type: ignore[arg-type]
        return torch.cat([torch.zeros(count // 2), torch.full((count - count // 2,), float("nan"))])

    rewards = half(range(8)).view(2, 4)
    assert (choose_by_reward(rewards, 0.1, range(4), KEY, 0) == 0).all()


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"candidates": 3}, "candidates"),
        ({"radius": 1.5}, "radius"),
        ({"temperature": -1.0}, "temperature"),
        ({"first": 0.9}, "first, last"),
        ({"lookahead": -1}, "lookahead"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(guided(), **wrong)


@pytest.mark.parametrize("guidance", ["best_of", "rgdm", "smc", "svdd"])
def test_guided_molecules_come_as_sdf(guidance: str, tmp_path: Path) -> None:
    out = tmp_path / "new.sdf"
    quick = ("n=2", "policy.num_steps=5", "threads=1", "reward.workers=0", f"out={out}")
    done = molrl("sample", f"guidance={guidance}", *quick)
    assert done.code in (0, 3), done.err
    assert "reward queries" in done.out
    told = {"best_of": "KL to the model in nats at most 0.636", "smc": "effective particles of 12"}
    assert told.get(guidance, "") in done.out
    assert len(read(out)[0]) == 2


@pytest.mark.parametrize("guidance", ["rgdm", "smc", "svdd"])
def test_a_chain_without_noise_leaves_nothing_to_choose_from(guidance: str, tmp_path: Path) -> None:
    out = tmp_path / "new.sdf"
    settings = (f"guidance={guidance}", "policy.eta=0", "policy.num_steps=5", "reward.workers=0", f"out={out}")
    assert "eta: got 0, a deterministic chain" in complaint(["sample", "n=2", *settings], code=2)
    assert not out.exists()


def test_an_unknown_guidance_is_refused_with_those_there_are() -> None:
    assert "known are best_of, none, rgdm, smc, svdd" in molrl("sample", "guidance=rgd").err
