"""Noise schedules: the coefficients of signal and noise in x_t = alpha_t x_0 + sigma_t eps at time t.

All schedules are variance preserving, alpha_t^2 + sigma_t^2 = 1, and are given by their log signal-to-noise ratio
log(alpha_t^2 / sigma_t^2) as a decreasing function of t in [0, 1]; t = 1 is the prior (Kingma et al. 2021,
arXiv:2107.00630, Sec. 3.2).
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Schedule(Protocol):
    """A decreasing log signal-to-noise ratio over t in [0, 1]."""

    def log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Compute log(alpha_t^2 / sigma_t^2) in the dtype of t."""
        ...


def alpha(log_snr: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Compute the coefficient of the signal, alpha = sqrt(sigmoid(log SNR))."""
    return log_snr.sigmoid().sqrt()


def sigma(log_snr: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Compute the coefficient of the noise, sigma = sqrt(sigmoid(-log SNR))."""
    return (-log_snr).sigmoid().sqrt()


@dataclass(frozen=True)
class LogLinear:
    """A schedule of sigma_t / alpha_t geometric in t, from noise_min at t = 0 to noise_max at t = 1.

    Every reverse step of an even grid then multiplies the SNR by the same number, so that each contributes the same
    weight (SNR_s / SNR_t - 1) / 2 |eps - eps_ref|^2 to the KL of a chain. noise_min and noise_max are in the units
    of the data.
    """

    noise_min: float
    noise_max: float

    def __post_init__(self) -> None:
        if not 0 < self.noise_min < self.noise_max < math.inf:
            raise ValueError(f"noise_min, noise_max: got {self.noise_min}, {self.noise_max}; need 0 < min < max")

    def log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Compute -2 log(sigma_t / alpha_t), which is linear in t."""
        low, high = math.log(self.noise_min), math.log(self.noise_max)
        return -2 * (low + (high - low) * t)


@dataclass(frozen=True)
class Polynomial:
    """EDM's schedule `polynomial_2` (Hoogeboom et al. 2022, arXiv:2203.17003, App. B) as a table over 0..steps.

    alpha_i^2 = (1 - 2 s) a_i + s with a_i = (1 - (i / steps)^2)^2, the ratios a_i / a_(i-1) clipped below at 0.001.
    Times between table entries are rounded to the nearest one, as the published model expects.
    """

    steps: int = 1000
    precision: float = 1e-5

    @cached_property
    def table(self) -> Float[Tensor, " steps_plus_one"]:
        """Return the log SNR at t = i / steps, float64."""
        u = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        a = (1 - u**2) ** 2
        ratio = torch.cat([a[:1], a[1:] / a[:-1]]).clamp(1e-3, 1.0)
        alpha_squared = (1 - 2 * self.precision) * ratio.cumprod(0) + self.precision
        return alpha_squared.log() - (1 - alpha_squared).log()

    def log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Look up the table entry nearest to t."""
        return self.table.to(t.dtype).to(t.device)[(t * self.steps).round().long()]


@dataclass(frozen=True, eq=False)
class Tabulated:
    """The schedule of a model that was trained on T discrete noise levels, level i at t = i / T.

    Attributes:
        alpha_squared: alpha_i^2 of the levels [T], float64, decreasing.
    """

    alpha_squared: Tensor = field(repr=False)

    @cached_property
    def table(self) -> Float[Tensor, " levels"]:
        """Return the log SNR of each level, float64."""
        return self.alpha_squared.log() - (-self.alpha_squared).log1p()

    def level(self, t: Float[Tensor, "*b"]) -> Int[Tensor, "*b"]:
        """Return the number of the level nearest to t."""
        return (t * len(self.alpha_squared)).round().long().clamp(max=len(self.alpha_squared) - 1)

    def log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Compute log(alpha_i^2 / (1 - alpha_i^2)) of the nearest level."""
        return self.table.to(t.dtype).to(t.device)[self.level(t)]


@dataclass(frozen=True)
class Cosine:
    """The cosine schedule alpha_t = cos(pi t / 2) (Nichol and Dhariwal 2021, arXiv:2102.09672, Eq. 17 with s = 0).

    alpha_t^2 is clamped to [signal_min, 1 - noise_min]. The exact oracles use it: both of its ends are known.
    """

    signal_min: float = 1e-4
    noise_min: float = 1e-5

    def log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Compute log(alpha_t^2 / (1 - alpha_t^2)) with the ends clamped."""
        alpha_squared = (t * torch.pi / 2).cos().square().clamp(self.signal_min, 1 - self.noise_min)
        return alpha_squared.log() - (1 - alpha_squared).log()
