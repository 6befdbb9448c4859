"""Scalar reverse chains with affine means, whose states are all normal, with known mean and variance."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.gaussian import Context
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import alpha, sigma

AFFINE_TOLERANCE = 1e-3
NO_CONTEXT: Context = MappingProxyType({})


class Moments(NamedTuple):
    """Mean and variance of a normal variable."""

    mean: float
    variance: float


@dataclass(frozen=True)
class Parabola:
    """A parabola r(x) = -curvature x^2 / 2 + slope x + constant: a reward, or the value of a state."""

    curvature: float
    slope: float
    constant: float = 0.0

    def __call__(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        return (-self.curvature / 2 * x + self.slope) * x + self.constant

    def expected(self, moments: Moments) -> float:
        """Compute E[r(x)] = r(mean) - curvature variance / 2."""
        at_mean = (-self.curvature / 2 * moments.mean + self.slope) * moments.mean + self.constant
        return at_mean - self.curvature * moments.variance / 2

    def variance(self, moments: Moments) -> float:
        """Compute Var r(x) = variance r'(mean)^2 + curvature^2 variance^2 / 2."""
        return (
            moments.variance * (self.slope - self.curvature * moments.mean) ** 2
            + (self.curvature * moments.variance) ** 2 / 2
        )

    def pull_back(self, slope: float, offset: float, std: float = 0.0) -> "Parabola":
        """Return the parabola x -> E[r(slope x + offset + std z)], z ~ N(0, 1)."""
        return Parabola(
            self.curvature * slope**2,
            (self.slope - self.curvature * offset) * slope,
            self.expected(Moments(offset, std**2)),
        )

    def __truediv__(self, scale: float) -> "Parabola":
        return Parabola(self.curvature / scale, self.slope / scale, self.constant / scale)


def quadratic(strength: float, target: float) -> Parabola:
    """Return r(x) = -strength (x - target)^2 / 2."""
    return Parabola(strength, strength * target, -strength * target**2 / 2)


def linear(gradient: float) -> Parabola:
    """Return the linear reward r(x) = gradient x."""
    return Parabola(0.0, gradient)


@dataclass(frozen=True)
class Chain:
    """A chain x_{k+1} = slope_k x_k + offset_k + std_k z from x_0 ~ N(0, 1).

    Its sample, decode_slope x_K + decode_offset, is the clean estimate at the last grid point, where a little noise is
    left; no policy gradient and no KL depends on the decode. A problem of d independent coordinates is d such chains.
    """

    slope: tuple[float, ...]
    offset: tuple[float, ...]
    std: tuple[float, ...]
    decode_slope: float
    decode_offset: float

    def __post_init__(self) -> None:
        if not len(self.slope) == len(self.offset) == len(self.std) >= 1:
            got = f"{len(self.slope)}, {len(self.offset)}, {len(self.std)}"
            raise ValueError(f"slope, offset, std: got {got} steps; need equal numbers, at least 1")

    @property
    def steps(self) -> list[tuple[float, float, float]]:
        """Return (slope, offset, std) of each step."""
        return list(zip(self.slope, self.offset, self.std, strict=True))

    def states(self) -> list[Moments]:
        """Return the moments of x_0 .. x_K."""
        moments = [Moments(0.0, 1.0)]
        for slope, offset, std in self.steps:
            moments.append(Moments(slope * moments[-1].mean + offset, slope**2 * moments[-1].variance + std**2))
        return moments

    def marginal(self) -> Moments:
        """Return the moments of the decoded sample."""
        last = self.states()[-1]
        return Moments(self.decode_slope * last.mean + self.decode_offset, self.decode_slope**2 * last.variance)

    @classmethod
    def exact(cls, sampler: DDIM, mean: float, variance: float) -> Self:
        """Return the chain of the best linear denoiser of data with these moments, the exact one if they are normal.

        eps(x_t) = s_t (x_t - a_t mean) / (a_t^2 variance + s_t^2) at every grid point: Cov(eps, x_t) / Var(x_t).
        """
        a, s = alpha(sampler.log_snr), sigma(sampler.log_snr)
        slope = s / (a**2 * variance + s**2)
        return cls.from_noise(sampler, slope, -slope * a * mean)

    @classmethod
    def from_noise(cls, sampler: DDIM, slope: Float[Tensor, " points"], offset: Float[Tensor, " points"]) -> Self:
        """Return the chain of eps(x) = slope x + offset at each of the K + 1 grid points, float64."""
        a, s = alpha(sampler.log_snr), sigma(sampler.log_snr)
        return cls(
            tuple((sampler.x_coef + sampler.prediction_coef * slope[:-1]).tolist()),
            tuple((sampler.prediction_coef * offset[:-1]).tolist()),
            tuple(sampler.std.tolist()),
            ((1 - s * slope) / a)[-1].item(),
            (-s * offset / a)[-1].item(),
        )

    def predicted_noise(self, sampler: DDIM) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
        """Return slope and offset of the predicted noise at each grid point: the inverse of `from_noise`."""
        a, s = alpha(sampler.log_snr), sigma(sampler.log_snr)
        slope = (torch.tensor(self.slope, dtype=torch.float64) - sampler.x_coef) / sampler.prediction_coef
        offset = torch.tensor(self.offset, dtype=torch.float64) / sampler.prediction_coef
        last = torch.stack([(1 - a[-1] * self.decode_slope) / s[-1], -a[-1] * self.decode_offset / s[-1]])
        return torch.cat([slope, last[:1]]), torch.cat([offset, last[1:]])

    @classmethod
    @torch.no_grad()
    def from_policy(cls, policy: Policy, dtype: torch.dtype = torch.float64, context: Context = NO_CONTEXT) -> Self:
        """Return the chain of a policy of one coordinate with an affine denoiser, from its values at x = 0, 1 and 3.

        Args:
            policy: the policy.
            dtype: of the numbers that it computes with.
            context: of three samples.

        Raises:
            ValueError: the values do not lie on a line.
        """
        sampler, x = policy.sampler, torch.tensor([[0.0], [1.0], [3.0]], dtype=dtype)
        kernels = [sampler.transition(policy.denoiser, x, policy.at(k, x), context) for k in range(sampler.num_steps)]
        decoded = sampler.predict_x0(policy.denoiser, x, policy.at(sampler.num_steps, x), context)
        values = torch.cat([*(kernel.mean for kernel in kernels), decoded], 1).double().T  # [points, 3]
        bend = (2 * values[:, 0] - 3 * values[:, 1] + values[:, 2]).abs() / (1 + values.abs().amax(1))
        if bend.max() > AFFINE_TOLERANCE:
            raise ValueError(f"policy: got a mean at grid point {int(bend.argmax())} that is not affine in x")
        slope, offset = (values[:, 1] - values[:, 0]).tolist(), values[:, 0].tolist()
        std = tuple(float(kernel.std[0]) for kernel in kernels)
        return cls(tuple(slope[:-1]), tuple(offset[:-1]), std, slope[-1], offset[-1])
