"""The linear-Gaussian problem: normal numbers under their exact denoiser, with an affine move of each step to train."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context, Euclidean
from molrl.noise import Draw, Key
from molrl.oracle.chain import Chain, Parabola, linear, quadratic
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import Cosine
from molrl.task import Reward, Task

BASE_MEAN, BASE_VARIANCE = 0.5, 0.49
QUADRATIC, LINEAR = quadratic(1.0, 2.0), linear(1.0)


def make_sampler(num_steps: int = 10, eta: float = 1.0) -> DDIM:
    """Return a short chain on the cosine schedule."""
    return DDIM(schedule=Cosine(), num_steps=num_steps, space=Euclidean(), eta=eta)


class AffineDenoiser(nn.Module):
    """The exact noise of normal data, plus a trained affine move at every grid point.

    Args:
        sampler: the chain whose grid points have a move each; t must be on its (even) grid.
        dtype: of the parameters.
        mean: of the data whose exact noise it starts from.
        variance: of these data.
        in_stds: True: a move counts in stds of the step, mean_k(x) = base mean_k(x) + std_k (slope_k x + shift_k), so
            that methods on reverse steps have gradients of one scale; the estimate at the end of the chain stays the
            base's. False: it counts in units of the noise, eps(x) = base eps(x) + slope_k x + shift_k, which does the
            same for methods on the forward process.
    """

    def __init__(
        self,
        sampler: DDIM,
        dtype: torch.dtype = torch.float32,
        *,
        mean: float = BASE_MEAN,
        variance: float = BASE_VARIANCE,
        in_stds: bool = True,
    ) -> None:
        super().__init__()
        points, exact = sampler.num_steps + 1, Chain.exact(sampler, mean, variance).predicted_noise(sampler)
        self.base: Tensor
        self.unit: Tensor
        self.register_buffer("base", torch.stack(exact).to(dtype), persistent=False)
        unit = torch.ones(points, dtype=torch.float64)
        if in_stds:
            unit[:-1] = sampler.std / sampler.prediction_coef
        self.register_buffer("unit", unit.to(dtype), persistent=False)
        trained = sampler.num_steps if in_stds else points
        self.slope = nn.Parameter(torch.zeros(trained, dtype=dtype))
        self.shift = nn.Parameter(torch.zeros(trained, dtype=dtype))

    def forward(self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, "b ..."]:
        """Predict the noise in x, in each coordinate by itself."""
        rows, points = (-1, *[1] * (x.dim() - 1)), len(self.unit)
        point, fixed = ((1 - t) * (points - 1)).round().long(), self.slope.new_zeros(points - len(self.slope))
        slope = self.base[0] + self.unit * torch.cat([self.slope, fixed])
        shift = self.base[1] + self.unit * torch.cat([self.shift, fixed])
        return slope[point].view(rows) * x + shift[point].view(rows)


class Values(nn.Module):
    """A small value network V(x_t, t)."""

    def __init__(self, dims: int = 1) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(dims + 2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, x: Float[Tensor, "b d"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, " b"]:
        """Estimate the return from x; t is the fraction of the chain that is left."""
        values: Tensor = self.layers(torch.cat([x, t[:, None], (6 * t[:, None]).sin()], 1))
        return values.squeeze(1)


@dataclass(frozen=True)
class Points:
    """A decoder whose samples are points of `dims` numbers, with no condition."""

    dims: int = 1

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """Return the indices of the samples, their only context."""
        return {"sample": torch.tensor(list(samples))}

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """Return the shape (dims,) of a state."""
        return (self.dims,)

    def decode(self, x0: Float[Tensor, "b d"], context: Context) -> Sequence[Tensor]:
        """Return the points themselves, as one tensor that a gradient passes through."""
        return cast(Sequence[Tensor], x0)

    def measure(self, samples: Sequence[Tensor]) -> dict[str, float]:
        """Return no metrics, as samples are numbers."""
        return {}

    def groups(self, context: Context) -> Sequence[int]:
        """Return one group for all samples."""
        return [0] * len(context["sample"])


@dataclass(frozen=True)
class ParabolaReward:
    """A differentiable reward: a parabola in each coordinate of the points, summed up.

    Attributes:
        parabola: r(x) of one coordinate.
        lift: added to the sum, for the methods that need rewards above zero.
    """

    parabola: Parabola
    lift: float = 0.0
    differentiable = True

    def __call__(self, samples: Sequence[Tensor]) -> Float[Tensor, " b"]:
        """Compute the rewards of points [b, d]."""
        points = samples if isinstance(samples, Tensor) else torch.stack(list(samples))
        return self.parabola(points).sum(1) + self.lift


def linear_gaussian_task(
    reward: Reward,
    *,
    num_steps: int = 10,
    eta: float = 1.0,
    dims: int = 1,
    mean: float = BASE_MEAN,
    variance: float = BASE_VARIANCE,
    in_stds: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Task:
    """Return the problem as a task, with an untrained denoiser of its own and its data, N(mean, variance)."""
    sampler = make_sampler(num_steps, eta)
    policy = Policy(AffineDenoiser(sampler, dtype, mean=mean, variance=variance, in_stds=in_stds), sampler)
    decoder = Points(dims)

    def data(samples: Sequence[int], key: Key) -> tuple[Tensor, Context]:
        x0 = mean + math.sqrt(variance) * key.normal(samples, Draw.PRIOR, (dims,))
        return x0, decoder.draw_context(samples, key)

    return Task("numbers", policy, decoder, reward, value_network=lambda: Values(dims), data=data)
