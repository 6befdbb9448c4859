"""Small tasks whose best policies are known: numbers and points under exact denoisers with something to train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context, Euclidean
from molrl.noise import Key
from molrl.oracle.chain import Chain, Parabola
from molrl.oracle.tilt import Mixture, mixture_noise
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import Cosine
from molrl.task import Task

BASE_MEAN, BASE_VARIANCE = 0.5, 0.49
MIXTURE = Mixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.5, 0.0], [1.0, 0.5]], dtype=torch.float64),
    torch.tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.4, -0.1], [-0.1, 0.3]]], dtype=torch.float64),
)


def sampler(num_steps: int, eta: float = 1.0) -> DDIM:
    """A short chain on the cosine schedule."""
    return DDIM(schedule=Cosine(), num_steps=num_steps, space=Euclidean(), eta=eta)


class AffineDenoiser(nn.Module):
    """The exact noise of N(0.5, 0.49), plus an affine move at every grid point that is trained.

    Args:
        chain: whose grid points are told apart.
        in_stds: a move counts in stds of the step, mean_k(x) = base mean_k(x) + std_k (slope_k x + shift_k): that gives
            the methods on reverse steps gradients of one scale; else in units of the noise, eps(x) = base eps(x) +
            slope_k x + shift_k: that does it for those on the forward process.
    """

    def __init__(self, chain: DDIM, in_stds: bool, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        points, exact = chain.num_steps + 1, Chain.exact(chain, BASE_MEAN, BASE_VARIANCE).noise(chain)
        self.base: Tensor
        self.unit: Tensor
        self.register_buffer("base", torch.stack(exact).to(dtype), persistent=False)
        unit = torch.ones(points, dtype=torch.float64)
        if in_stds:
            unit[:-1] = chain.std / chain.eps_coef
        self.register_buffer("unit", unit.to(dtype), persistent=False)
        self.slope = nn.Parameter(torch.zeros(points, dtype=dtype))
        self.shift = nn.Parameter(torch.zeros(points, dtype=dtype))

    def forward(self, x: Float[Tensor, "b d"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, "b d"]:
        """t must be on the even grid of the chain."""
        point = ((1 - t) * (len(self.slope) - 1)).round().long()
        slope = self.base[0] + self.unit * self.slope
        shift = self.base[1] + self.unit * self.shift
        return slope[point].unsqueeze(1) * x + shift[point].unsqueeze(1)


class MixtureDenoiser(nn.Module):
    """The exact noise of the 2-D mixture, plus a small network that starts at zero."""

    def __init__(self, chain: DDIM) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.chain = chain
        self.layers = nn.Sequential(nn.Linear(6, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))
        nn.init.zeros_(self.layers[4].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[4].bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "b 2"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, "b 2"]:
        """The network sees x, t and two waves of t."""
        waves = torch.stack([t, (3 * t).sin(), (3 * t).cos(), (9 * t).sin()], 1)
        exact = mixture_noise(x, self.chain.schedule.log_snr(t), *MIXTURE)
        moved: Tensor = self.layers(torch.cat([x, waves], 1))
        return exact + moved


class Values(nn.Module):
    """V(x_t, t): a small network."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(dims + 2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, x: Float[Tensor, "b d"], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, " b"]:
        """t: share of the chain still to go."""
        values: Tensor = self.layers(torch.cat([x, t[:, None], (6 * t[:, None]).sin()], 1))
        return values.squeeze(1)


@dataclass(frozen=True)
class Points:
    """Samples are points of `dims` numbers; nothing is asked for."""

    dims: int

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """Nothing but their number."""
        return {"sample": torch.tensor(list(samples))}

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """[dims]."""
        return (self.dims,)

    def decode(self, x0: Float[Tensor, "b d"], context: Context) -> Sequence[Tensor]:
        """The points themselves, as one tensor: a gradient passes."""
        return cast(Sequence[Tensor], x0)

    def measure(self, samples: Sequence[Tensor]) -> dict[str, float]:
        """Nothing."""
        return {}

    def groups(self, context: Context) -> list[int]:
        """All were asked for the same."""
        return [0] * len(context["sample"])


@dataclass(frozen=True)
class Smooth:
    """A reward with a gradient: a parabola in each coordinate of the points, summed up.

    Attributes:
        parabola: r(x).
        lift: added to it, for the methods that need rewards above zero.
    """

    parabola: Parabola
    lift: float = 0.0
    differentiable = True

    def __call__(self, samples: Sequence[Tensor]) -> Float[Tensor, " b"]:
        points = samples if isinstance(samples, Tensor) else torch.stack(list(samples))
        return self.parabola(points).sum(1) + self.lift


def numbers(reward: Smooth, num_steps: int = 10, in_stds: bool = True, dtype: torch.dtype = torch.float32) -> Task:
    """The linear-Gaussian chain."""
    chain = sampler(num_steps)
    policy = Policy(AffineDenoiser(chain, in_stds, dtype), chain)
    return Task("numbers", policy, Points(1), reward, value_network=lambda: Values(1))


def points(reward: Smooth) -> Task:
    """The 2-D mixture."""
    chain = sampler(10)
    return Task("points", Policy(MixtureDenoiser(chain), chain), Points(2), reward, value_network=lambda: Values(2))
