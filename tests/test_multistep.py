"""Steps of second order are the paper's, converge as such, and are refused where a density is needed."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from command import molrl
from test_finetune import ALGORITHMS, finetuning
from torch import Tensor
from torch.testing import assert_close
from toy import ExactDenoiser, number_task

from molrl.finetune import check_setup
from molrl.gaussian import Euclidean, Gaussian, MaskedPoints
from molrl.multistep import Multistep
from molrl.policy import Policy
from molrl.samplers import DDIM, PowerGrid
from molrl.schedule import Cosine, LogLinear, alpha, sigma

F64 = torch.float64
SCHEDULE = LogLinear(0.02, 15.0)
MEAN, VARIANCE = 0.5, 0.49
MIXTURE = ExactDenoiser(SCHEDULE, (0.3, 0.7), (-2.0, 1.0), (0.25, 0.64))


def chain(num_steps: int, eta: float, order: int, denoiser: Any = None) -> Policy:
    """Return the exact policy of N(0.5, 0.49), or another."""
    grid = PowerGrid(1.4)
    sampler = DDIM(schedule=SCHEDULE, num_steps=num_steps, space=Euclidean(), eta=eta, grid=grid)
    return Policy(denoiser or ExactDenoiser(SCHEDULE), sampler, order=order)


def last(policy: Policy, noise: Tensor) -> Tensor:
    """Return the last states [b] of chains with the noise [draws, b]."""
    return policy.rollout({}, lambda draw: noise[draw].unsqueeze(1)).states[-1].squeeze(1)


def moments(policy: Policy) -> tuple[float, float]:
    """Return mean and variance of the last state, exactly: it is an affine function of the noise of the draws."""
    draws = policy.sampler.num_steps + 1
    answers = last(policy, torch.cat([torch.zeros(draws, 1, dtype=F64), torch.eye(draws, dtype=F64)], 1))
    return answers[0].item(), (answers[1:] - answers[0]).square().sum().item()


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_steps_are_those_of_the_paper(eta: float) -> None:
    """Lu et al. 2022, arXiv:2211.01095, Algorithm 2 (eta = 0) and Eq. 18 (eta = 1), as printed, in lambda."""
    policy = chain(6, eta, 2, MIXTURE)
    noise = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    log_snr = policy.sampler.log_snr  # type: ignore[attr-defined]
    lam, a, s = log_snr / 2, alpha(log_snr), sigma(log_snr)
    x, before, times = noise[0].unsqueeze(1), None, PowerGrid(1.4)(6)
    for k in range(6):
        h = lam[k + 1] - lam[k]
        clean = (x - s[k] * MIXTURE(x, times[k].expand(5), {})) / a[k]
        wanted = clean
        if before is not None:
            r = (lam[k] - lam[k - 1]) / h
            wanted = (1 + 1 / (2 * r)) * clean - before / (2 * r)
        if eta == 0:
            x = s[k + 1] / s[k] * x - a[k + 1] * (math.exp(-h) - 1) * wanted
        else:
            drop = 1 - math.exp(-2 * h)
            x = s[k + 1] / s[k] * math.exp(-h) * x + a[k + 1] * drop * wanted
            x = x + s[k + 1] * math.sqrt(drop) * noise[k + 1].unsqueeze(1)
        before = clean
    assert_close(last(policy, noise), x.squeeze(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("order", "low", "high"), [(1, 1.8, 2.3), (2, 3.3, 5.0)])
def test_twice_as_many_deterministic_steps_divide_the_error_by_two_or_by_four(
    order: int, low: float, high: float
) -> None:
    """The flow of N(m, v) keeps x in standard deviations from the mean."""
    ends = chain(1, 0.0, 1).sampler.log_snr  # type: ignore[attr-defined]
    a, s = alpha(ends), sigma(ends)
    std = (a**2 * VARIANCE + s**2).sqrt()
    start = torch.linspace(-2, 2, 5, dtype=F64)
    exact = a[1] * MEAN + std[1] * (start - a[0] * MEAN) / std[0]
    noise = {k: torch.cat([start.unsqueeze(0), torch.zeros(k, 5, dtype=F64)]) for k in (40, 80)}
    error = {k: (last(chain(k, 0.0, order), noise[k]) - exact).abs().max().item() for k in noise}
    assert low < error[40] / error[80] < high


@pytest.mark.parametrize(("order", "low", "high"), [(1, 1.7, 2.4), (2, 3.0, 6.0)])
def test_the_variance_that_few_random_steps_lose_falls_likewise(order: int, low: float, high: float) -> None:
    end = chain(1, 1.0, 1).sampler.log_snr[-1]  # type: ignore[attr-defined]
    variance = (alpha(end) ** 2 * VARIANCE + sigma(end) ** 2).item()
    lost = {k: abs(moments(chain(k, 1.0, order))[1] - variance) for k in (40, 80)}
    assert low < lost[40] / lost[80] < high
    assert abs(moments(chain(12, 1.0, 2))[1] - variance) < abs(moments(chain(25, 1.0, 1))[1] - variance)


def test_where_the_clean_estimate_stays_the_order_makes_no_difference() -> None:
    """A data set of one point: every clean estimate is that point."""
    point = ExactDenoiser(SCHEDULE, means=(0.7,), variances=(0.0,))
    noise = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    assert_close(last(chain(8, 1.0, 2, point), noise), last(chain(8, 1.0, 1, point), noise), rtol=1e-9, atol=1e-9)


def test_a_rollout_remembers_nothing_of_another() -> None:
    policy = chain(5, 1.0, 2, MIXTURE)
    noise = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    first = last(policy, noise)
    last(policy, noise + 1)
    assert_close(last(policy, noise), first, rtol=0, atol=0)


def test_rows_that_change_places_take_their_history_along() -> None:
    """Reversed after step 2, by choice or by the noise from the start, a batch comes to the same end."""
    policy = chain(5, 1.0, 2, MIXTURE)
    noise = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    back = torch.arange(3, -1, -1)

    def choose(kernel: Gaussian, step: int, drawn: Tensor) -> tuple[Tensor, Tensor | None]:
        states = kernel.sample(drawn)
        return (states[back], back) if step == 2 else (states, None)

    draws = torch.cat([noise[:4], noise[4:, back]]).unsqueeze(2)
    turned = policy.rollout({}, lambda draw: draws[draw], choose).states[-1].squeeze(1)
    assert_close(turned, last(policy, noise)[back], rtol=0, atol=0)


def test_states_stay_in_the_space() -> None:
    mask = torch.arange(5) < torch.tensor([[4], [2]])
    sampler = DDIM(schedule=Cosine(), num_steps=4, space=MaskedPoints())
    policy = Policy(lambda x, *_: x.tanh() + 1, sampler, order=2)
    noise = torch.randn(5, 2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    states = policy.rollout({"mask": mask}, lambda draw: noise[draw]).states
    assert (states[:, ~mask] == 0).all()
    assert_close(states[..., :3].sum(2), torch.zeros(5, 2, 3, dtype=F64), rtol=0, atol=1e-12)


def test_nothing_is_trained_on_steps_without_a_density() -> None:
    task = number_task()
    second = replace(task, policy=replace(task.policy, order=2))
    with pytest.raises(ValueError, match="order: got 2; DDPO learns from single steps and needs those of order 1"):
        check_setup(finetuning(), second, ALGORITHMS["DDPO"])
    refused = molrl("train", "policy.order=2", "threads=1")
    assert refused.code == 2
    assert "order: got 2; RGDM learns" in refused.err


def test_there_are_two_orders_and_the_second_needs_a_grid() -> None:
    policy = chain(3, 1.0, 1)
    with pytest.raises(ValueError, match="order: got 3, allowed 1 and 2"):
        replace(policy, order=3)
    with pytest.raises(ValueError, match="order: got 2 for a object"):
        Multistep(object(), policy.denoiser)  # type: ignore[arg-type]
