"""Rectified flows as policies: x_t = (1 - t) x_0 + t eps, a network that predicts the velocity eps - x_0, and an SDE
with the marginals of its ODE (Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2025, Flow-GRPO, arXiv:2505.05470).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molrl.gaussian import Context, Space
from molrl.samplers import AffineChain, Denoiser, per_row


@dataclass(frozen=True)
class ShiftedGrid:
    """The times s u / (1 + (s - 1) u) of u = 1, K / (K + 1), ..., 1 / (K + 1) (Esser et al. 2024, arXiv:2403.03206, Eq.
    23).

    Attributes:
        shift: s; above 1 there are more steps at high noise, as large images need.
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise ValueError(f"shift: got {self.shift}, need a number above 0")

    def __call__(self, num_steps: int) -> Float[Tensor, " points"]:
        """Compute the K + 1 times, float64; the last one is above 0."""
        u = torch.arange(num_steps + 1, 0, -1, dtype=torch.float64) / (num_steps + 1)
        return self.shift * u / (1 + (self.shift - 1) * u)


@dataclass(frozen=True, kw_only=True)
class FlowSDE(AffineChain):
    """The reverse SDE of a rectified flow on a grid of times; `eta` is how much noise it has.

    The velocity v = eps - x_0 gives the clean estimate x - t v and the noise x + (1 - t) v. For any g_t >= 0 the SDE
    dx = [v + g^2 / (2 t) (x + (1 - t) v)] dt + g dw, run from t = 1 to 0, has the marginals of the ODE dx = v dt. A
    step from t to s < t is a Gaussian whose mean is affine in (x, v):

    - "euler", Flow-GRPO's Eq. 9: Euler-Maruyama with g = eta sqrt(t / (1 - t)), where the second time of the grid
      stands for t = 1 in the denominator. Its marginals are those of the flow up to O(t - s), but for the first step,
      which multiplies the variance by 1 + eta^4 / 4 however short it is; later steps forget that.
    - "ancestral": mean = (1 - s) x_0hat + sqrt(s^2 - std^2) eps_hat, std = eta s sqrt(1 - ((1 - t) s / (t (1 - s)))^2).
      That is DDIM(eta) (Song et al. 2021, arXiv:2010.02502, Eq. 12 and 16) with alpha = 1 - t and sigma = t: the chain
      of `molrl.samplers.DDIM` in the coordinate x / sqrt((1 - t)^2 + t^2). eta = 1 forgets the state that the chain
      started from.

    For small steps "euler" with eta = sqrt(2) a is "ancestral" with eta = a. With eta = 0 both are Euler's steps of the
    ODE. The grid ends above 0; the rest of the way is the clean estimate, one deterministic step outside the policy.

    Attributes:
        num_steps: K, the number of Gaussian steps; a sample costs K + 1 network calls.
        space: the subspace of the states.
        eta: 0 is deterministic; up to 1 for "ancestral", and 0.7 in Flow-GRPO for "euler".
        discretisation: "euler" or "ancestral".
        grid: num_steps -> K + 1 decreasing times, all above 0 and at most 1.
    """

    num_steps: int
    space: Space
    eta: float
    discretisation: Literal["euler", "ancestral"] = "euler"
    grid: Callable[[int], Tensor] = ShiftedGrid()

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps: got {self.num_steps}, need at least 1")
        if self.discretisation not in ("euler", "ancestral"):
            raise ValueError(f"discretisation: got {self.discretisation!r}, allowed euler and ancestral")
        if not 0 <= self.eta <= (1 if self.discretisation == "ancestral" else 10):
            allowed = "0 to 1 for ancestral steps" if self.discretisation == "ancestral" else "0 to 10"
            raise ValueError(f"eta: got {self.eta}, allowed {allowed}; 0 is deterministic")
        times = self.times
        falling = times.shape == (self.num_steps + 1,) and (times.diff() < 0).all() and times[-1] > 0 and times[0] <= 1
        if not falling:
            raise ValueError(f"grid: got times {times.tolist()}, need {self.num_steps + 1} that fall from 1 to above 0")

    @property
    def with_densities(self) -> "FlowSDE":
        """Return this chain; for a deterministic one, the ancestral chain on its grid, whose steps have densities."""
        return self if self.eta else replace(self, eta=1.0, discretisation="ancestral")

    @cached_property
    def times(self) -> Float[Tensor, " points"]:
        """Return the K + 1 times of the grid, float64, decreasing."""
        return self.grid(self.num_steps).double()

    @cached_property
    def std(self) -> Float[Tensor, " steps"]:
        """Return the std of each step, float64."""
        t, s = self.times[:-1], self.times[1:]
        if self.discretisation == "ancestral":
            return self.eta * s * (1 - ((1 - t) * s / (t * (1 - s))).square()).sqrt()
        return self.diffusion * (t - s).sqrt()

    @cached_property
    def diffusion(self) -> Float[Tensor, " steps"]:
        """Return g = eta sqrt(t / (1 - t)) at the start of each step, float64."""
        t = self.times[:-1]
        return self.eta * (t / (1 - t.where(t < 1, self.times[1]))).sqrt()

    @cached_property
    def x_coef(self) -> Float[Tensor, " steps"]:
        """Return d mean / d x, float64."""
        t, s = self.times[:-1], self.times[1:]
        if self.discretisation == "ancestral":
            return (1 - s) + self.remaining
        return 1 - self.diffusion.square() * (t - s) / (2 * t)

    @cached_property
    def prediction_coef(self) -> Float[Tensor, " steps"]:
        """Return d mean / d v, float64 and negative."""
        t, s = self.times[:-1], self.times[1:]
        if self.discretisation == "ancestral":
            return (1 - t) * self.remaining - (1 - s) * t
        return -(1 + self.diffusion.square() * (1 - t) / (2 * t)) * (t - s)

    @property
    def remaining(self) -> Float[Tensor, " steps"]:
        """Return sqrt(s^2 - std^2), the part of an ancestral step's noise that is predicted, float64."""
        return (self.times[1:].square() - self.std.square()).clamp(min=0).sqrt()

    def add_noise(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], step: Int[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """Compute (1 - t) x_0 + t noise at grid point `step`; the noise must lie in the space."""
        t = per_row(self.times, step, x0)
        return (1 - t) * x0 + t * noise

    def target(self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Return what the network is to predict: the velocity noise - x_0."""
        return noise - x0

    def predict_x0(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], context: Context
    ) -> Float[Tensor, "b ..."]:
        """Compute the clean estimate x - t v at grid point `step`, which is Euler's step to t = 0."""
        velocity = self.predict_target(denoiser, x, step, context)
        return self.space.project(x - per_row(self.times, step, x) * velocity, context)

    def lookahead_x0(
        self, denoiser: Denoiser, x: Float[Tensor, "b ..."], step: Int[Tensor, " b"], num_jumps: int, context: Context
    ) -> Float[Tensor, "b ..."]:
        """Estimate the finished sample: cross the rest of the grid but for the last of `num_jumps` + 1 equal parts by
        Euler's steps of the ODE, and compute the clean estimate there.
        """
        for left in range(num_jumps, 0, -1):
            nearer = step + (self.num_steps - step) // (left + 1)
            width = per_row(self.times, step, x) - per_row(self.times, nearer, x)
            velocity = self.predict_target(denoiser, x, step, context)
            x, step = self.space.project(x - width * velocity, context), nearer
        return self.predict_x0(denoiser, x, step, context)
