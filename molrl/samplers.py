"""Reverse processes: the Gaussian kernel p(x_s | x_t) that a predicted noise defines on a grid of times."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from molrl.gaussian import Context, Gaussian, Space
from molrl.schedule import Schedule, alpha, sigma


class Denoiser(Protocol):
    """A callable that predicts the noise in x_t, or what else its sampler reads: a module, or a lambda in a test."""

    def __call__(
        self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"], context: Context, /
    ) -> Float[Tensor, "b ..."]:
        """Predict the noise in x_t, for a flow the velocity; t is in [0, 1], and 1 is the prior."""
        ...


class Sampler(Protocol):
    """A chain of `num_steps` Gaussian steps from the prior, and one deterministic estimate of x_0 at its end."""

    @property
    def num_steps(self) -> int:
        """Return K, the number of Gaussian steps."""
        ...

    @property
    def space(self) -> Space:
        """Return the subspace of the states."""
        ...

    def prior(self, noise: Float[Tensor, "b ..."], context: Context) -> Float[Tensor, "b ..."]:
        """Make the state that the chain starts from."""
        ...

    def transition(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context
    ) -> Gaussian:
        """Return p(x_{step+1} | x_step); each row of the batch may be at a different step."""
        ...

    def add_noise(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], step: Int[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """Compute alpha_t x_0 + sigma_t noise at grid point `step`."""
        ...

    def target(self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Return what the denoiser is to predict where x_0 and the noise are known: the noise, or a flow's velocity."""
        ...

    def predict_target(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b ..."]:
        """Return the denoiser's prediction in states at grid point `step`, which estimates `target`."""
        ...

    def predict_x0(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b ..."]:
        """Compute the clean estimate (x_t - sigma_t eps) / alpha_t at grid point `step`."""
        ...

    def lookahead_x0(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], num_jumps: int, context: Context
    ) -> Float[Tensor, "b ..."]:
        """Compute the clean estimate after `num_jumps` deterministic steps toward the data."""
        ...


@dataclass(frozen=True)
class PowerGrid:
    """The times (1 - k / K)^power from 1 to 0: even for power 1, finer toward the data for a larger one.

    Karras et al. 2022, arXiv:2206.00364, Eq. 5, warp the noise level in the same way.
    """

    power: float = 1.0

    def __call__(self, num_steps: int) -> Float[Tensor, " points"]:
        """Compute the K + 1 times, float64."""
        return torch.linspace(1, 0, num_steps + 1, dtype=torch.float64) ** self.power


class AffineChain(ABC):
    """The part of a sampler that all chains share whose steps are Gaussian with means affine in state and prediction.

    Attributes:
        space: the subspace of the states.
    """

    space: Space

    @cached_property
    @abstractmethod
    def times(self) -> Float[Tensor, " points"]:
        """Return the K + 1 times of the grid, float64, decreasing."""

    @cached_property
    @abstractmethod
    def x_coef(self) -> Float[Tensor, " steps"]:
        """Return d mean / d x of each step, float64."""

    @cached_property
    @abstractmethod
    def prediction_coef(self) -> Float[Tensor, " steps"]:
        """Return d mean / d prediction of each step, float64 and negative."""

    @cached_property
    @abstractmethod
    def std(self) -> Float[Tensor, " steps"]:
        """Return the std of each step, float64."""

    def prior(self, noise: Float[Tensor, "b ..."], context: Context) -> Float[Tensor, "b ..."]:
        """Project the noise: the prior is N(0, I) on the space."""
        return self.space.project(noise, context)

    def transition(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context
    ) -> Gaussian:
        """Return p(x_s | x_t) from grid point `step` to the next."""
        return self.kernel(x, self.predict_target(denoiser, x, step, context), step, context)

    def kernel(
        self, x: Float[Tensor, "b ..."], prediction: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context
    ) -> Gaussian:
        """Return p(x_s | x_t) for what the denoiser predicts in x_t."""
        mean = per_row(self.x_coef, step, x) * x + per_row(self.prediction_coef, step, x) * prediction
        return Gaussian(self.space.project(mean, context), gather(self.std, step, x), self.space, context)

    def predict_target(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b ..."]:
        """Return the denoiser's prediction in states at grid point `step`."""
        return denoiser(x, gather(self.times, step, x), context)


@dataclass(frozen=True, kw_only=True)
class DDIM(AffineChain):
    """DDIM(eta) on a grid of times (Song et al. 2021, arXiv:2010.02502, Eq. 12 and 16); eta = 1 is ancestral sampling.

    One step t -> s has std = eta (sigma_s / sigma_t) sqrt(1 - alpha_t^2 / alpha_s^2) and
    mean = alpha_s x_0hat + sqrt(sigma_s^2 - std^2) eps. The mean is affine in (x_t, eps); both coefficients are
    computed once in float64, so that nothing is divided by a small alpha at run time. The grid ends at t = 0, where
    sigma is small but not zero: every step of the chain has a density, and the estimate of x_0 from the last state is a
    deterministic decoding outside the policy.

    Attributes:
        schedule: log SNR of x_t as a function of t.
        num_steps: K, the number of Gaussian steps; a sample costs K + 1 network calls.
        space: the subspace of the states.
        eta: 0 (deterministic: no density, no policy gradient) to 1.
        grid: num_steps -> K + 1 decreasing times in [0, 1].
        finish: the finished sample: "clean", the estimate of x_0 from the last state; or "state", that state itself,
            for models whose chain stops at the noise level of the last grid point.
    """

    schedule: Schedule
    num_steps: int
    space: Space
    eta: float = 1.0
    grid: Callable[[int], Tensor] = PowerGrid()
    finish: Literal["clean", "state"] = "clean"

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps: got {self.num_steps}, need at least 1")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: got {self.eta}, allowed 0 (deterministic) to 1 (ancestral)")
        if self.times.shape != (self.num_steps + 1,) or not 0 <= self.times[-1] < self.times[0] <= 1:
            raise ValueError(
                f"grid: got times {self.times.tolist()}, need {self.num_steps + 1} that fall within [0, 1]"
            )
        if not (self.log_snr.diff() > 0).all():
            raise ValueError(
                f"num_steps: got {self.num_steps}, but {self.schedule} has the same noise at neighbouring times of the "
                "grid, and a step between them has no density"
            )

    @property
    def with_densities(self) -> "DDIM":
        """Return this chain; for a deterministic one, the ancestral chain on its grid, whose steps have densities."""
        return self if self.eta else replace(self, eta=1.0)

    @cached_property
    def times(self) -> Float[Tensor, " points"]:
        """Return the K + 1 times of the grid, float64, decreasing."""
        return self.grid(self.num_steps)

    @cached_property
    def log_snr(self) -> Float[Tensor, " points"]:
        """Return the log SNR at the times of the grid, float64."""
        return self.schedule.log_snr(self.times)

    @cached_property
    def std(self) -> Float[Tensor, " steps"]:
        """Return the std of each step, float64, with sqrt(1 - alpha_t^2 / alpha_s^2) free of cancellation."""
        gamma_t, gamma_s = -self.log_snr[:-1], -self.log_snr[1:]
        drop = -torch.expm1(softplus(gamma_s) - softplus(gamma_t))  # 1 - alpha_t^2 / alpha_s^2
        return self.eta * sigma(-gamma_s) / sigma(-gamma_t) * drop.sqrt()

    @cached_property
    def x_coef(self) -> Float[Tensor, " steps"]:
        """Return d mean / d x_t = alpha_s / alpha_t, float64."""
        return alpha(self.log_snr[1:]) / alpha(self.log_snr[:-1])

    @cached_property
    def prediction_coef(self) -> Float[Tensor, " steps"]:
        """Return d mean / d eps = sqrt(sigma_s^2 - std^2) - alpha_s sigma_t / alpha_t, float64 and negative."""
        remaining = (sigma(self.log_snr[1:]) ** 2 - self.std**2).clamp(min=0).sqrt()
        return remaining - self.x_coef * sigma(self.log_snr[:-1])

    def add_noise(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], step: Int[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """Compute alpha_t x_0 + sigma_t noise at grid point `step`; the noise must lie in the space."""
        a, s = alpha(self.log_snr), sigma(self.log_snr)
        return per_row(a, step, x0) * x0 + per_row(s, step, x0) * noise

    def target(self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Return what the network is to predict: the noise."""
        return noise

    def predict_x0(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b ..."]:
        """Compute (x_t - sigma_t eps) / alpha_t at grid point `step`; with finish="state", x_t at the last one."""
        finished = (step == self.num_steps) & (self.finish == "state")
        if finished.all():
            return x
        eps = self.predict_target(denoiser, x, step, context)
        a, s = alpha(self.log_snr), sigma(self.log_snr)
        estimate = self.space.project(per_row(1 / a, step, x) * x - per_row(s / a, step, x) * eps, context)
        return torch.where(finished.view(-1, *[1] * (x.dim() - 1)), x, estimate)

    def lookahead_x0(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], num_jumps: int, context: Context
    ) -> Float[Tensor, "b ..."]:
        """Estimate the finished sample: cross the rest of the grid but for the last of `num_jumps` + 1 equal parts by
        deterministic steps (eta = 0), and compute the clean estimate there.
        """
        a, s = alpha(self.log_snr), sigma(self.log_snr)
        for left in range(num_jumps, 0, -1):
            nearer = step + (self.num_steps - step) // (left + 1)
            x0 = self.predict_x0(denoiser, x, step, context)
            eps = (x - per_row(a, step, x) * x0) / per_row(s, step, x)
            x, step = per_row(a, nearer, x) * x0 + per_row(s, nearer, x) * eps, nearer
        return self.predict_x0(denoiser, x, step, context)


def gather(table: Float[Tensor, " k"], step: Int[Tensor, " b"], like: Tensor) -> Float[Tensor, " b"]:
    """Look up a float64 table in the dtype and on the device of `like`."""
    return table.to(like.dtype).to(like.device)[step]  # in this order: not every accelerator has float64


def per_row(table: Float[Tensor, " k"], step: Int[Tensor, " b"], like: Float[Tensor, "b ..."]) -> Tensor:
    """Look up a float64 table as `gather` does, shaped to multiply `like`."""
    return gather(table, step, like).view(-1, *[1] * (like.dim() - 1))
