"""Schedules are variance preserving, decreasing, and have their papers' values."""

import math

import pytest
import torch
from torch.testing import assert_close

from molrl.schedule import Cosine, LogLinear, Polynomial, Schedule, alpha, sigma

SCHEDULES = [LogLinear(0.01, 20.0), Polynomial(), Cosine()]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_signal_and_noise_preserve_the_variance(schedule: Schedule) -> None:
    log_snr = schedule.log_snr(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert_close(alpha(log_snr) ** 2 + sigma(log_snr) ** 2, torch.ones(101, dtype=torch.float64), rtol=0, atol=1e-15)
    assert_close(2 * (alpha(log_snr) / sigma(log_snr)).log(), log_snr, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_noise_grows_with_time(schedule: Schedule) -> None:
    assert (schedule.log_snr(torch.linspace(0, 1, 51, dtype=torch.float64)).diff() < 0).all()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_log_snr_has_the_shape_and_dtype_of_the_time(schedule: Schedule, dtype: torch.dtype) -> None:
    t = torch.full((2, 3), 0.25, dtype=dtype)
    log_snr = schedule.log_snr(t)
    assert log_snr.dtype == dtype
    assert log_snr.shape == t.shape


def test_polynomial_has_the_values_of_edm() -> None:
    """gamma = -log SNR of `polynomial_2` with T = 1000, s = 1e-5, evaluated from its formula (EDM, App. B)."""
    i = torch.tensor([0.0, 1, 500, 999, 1000], dtype=torch.float64)
    log_snr = Polynomial().log_snr(i / 1000)
    golden = torch.tensor([-11.512915, -11.330595, -0.251309, 11.176730, 11.512516], dtype=torch.float64)
    assert_close(-log_snr, golden, rtol=0, atol=1e-6)
    assert_close(
        alpha(log_snr)[[0, 2, 4]],
        torch.tensor([0.999995, 0.749999, 0.00316291], dtype=torch.float64),
        rtol=0,
        atol=6e-7,
    )
    assert sigma(log_snr)[0].item() == pytest.approx(0.00316228, abs=6e-9)


def test_polynomial_rounds_times_to_the_nearest_entry() -> None:
    schedule = Polynomial()
    t = torch.tensor([0.3004, 0.2996, 0.3], dtype=torch.float64)
    assert len(schedule.log_snr(t).unique()) == 1
    assert (schedule.log_snr(torch.arange(1001) / 1000) == schedule.table.float()).all()


def test_log_linear_ends_at_its_two_noises() -> None:
    log_snr = LogLinear(0.01, 20.0).log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert_close(sigma(log_snr) / alpha(log_snr), torch.tensor([0.01, 20.0], dtype=torch.float64), rtol=1e-12, atol=0)


def test_equal_times_multiply_the_noise_of_log_linear_by_equal_factors() -> None:
    steps = LogLinear(0.01, 20.0).log_snr(torch.linspace(0, 1, 11, dtype=torch.float64)).diff()
    assert_close(steps, torch.full_like(steps, -2 * math.log(2000) / 10), rtol=1e-12, atol=0)


def test_cosine_is_a_cosine_between_its_clamped_ends() -> None:
    t = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    inside = torch.cos(t[1:-1] * torch.pi / 2)
    expected = torch.cat([t.new_tensor([1 - 1e-5]).sqrt(), inside, t.new_tensor([1e-2])])
    assert_close(alpha(Cosine().log_snr(t)), expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (float("nan"), 1.0)])
def test_log_linear_refuses_noises_that_do_not_grow(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="noise_min, noise_max"):
        LogLinear(*ends)
