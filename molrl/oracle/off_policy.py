"""AWM, EPG and PEPG on the linear-Gaussian chain, fitted completely to samples of the policy before.

At the fixed points of single updates (`forward`) nothing has moved within a round, and the log-ratio l is zero. Here a
round ends away from the old policy, so that exp(l), the clip and the proximal A - l decide where:
E[w(A, l) f phi(u)] = anchor E[f f^T] (theta - theta_old) with u = eps - theta.f and f = (x_t, 1). The squared error has
phi(u) = u and l = u_old^2 - u^2; the adaptive weight makes that sign(u) and |u_old| - |u| in one dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.advantages import Centred
from molrl.algos.awm import AWM
from molrl.algos.epg import EPG, PEPG
from molrl.algos.matching import AdvantageMatching
from molrl.oracle.chain import Chain, Parabola
from molrl.oracle.forward import Samples, apply, chain_of, parameters, solve
from molrl.oracle.linear_gaussian import LINEAR
from molrl.oracle.trial import UNCLIPPED, ChainCase
from molrl.samplers import DDIM

X0_NODES, NOISE_NODES, NOISE_STDS = 61, 201, 8.0
CLIP = 0.2
FIRST_TRAINED = 3  # grid point of EPG and PEPG; near the prior errors are small, and what divides by them has jumps
MAX_STEPS, LONGEST, SETTLED = 30, 0.2, 1e-3
DIFFERENCE, UNITS = 0.02, torch.eye(2, dtype=torch.float64)  # of theta; the weights have jumps, at the clip

Weigh = Callable[[Tensor, Tensor], Tensor]
"""(A, l) -> the weight of a row in the gradient."""


def importance_weighted(advantage: Tensor, log_ratio: Tensor) -> Tensor:
    """Return exp(l) A, of EPG."""
    return log_ratio.exp() * advantage


def proximal(advantage: Tensor, log_ratio: Tensor) -> Tensor:
    """Return exp(l) (A - l), of PEPG."""
    return log_ratio.exp() * (advantage - log_ratio)


def clipped(clip: float, advantage: Tensor, log_ratio: Tensor) -> Tensor:
    """Return exp(l) A, or zero where the ratio is beyond the clip on the side that A pushes to: of AWM."""
    beyond = (log_ratio.exp() - 1) * advantage.sign() > clip
    return importance_weighted(advantage, log_ratio).masked_fill(beyond, 0.0)


@dataclass(frozen=True)
class Rows:
    """The noised samples of a chain, as quadrature nodes: each x_0 with each noise, at each grid point.

    Attributes:
        samples: x_0, their probabilities and advantages.
        x: noisy states [points, n, e].
        noise: eps [e].
        mass: probabilities [n, e].
    """

    samples: Samples
    x: Float[Tensor, "points n e"]
    noise: Float[Tensor, " e"]
    mass: Float[Tensor, "n e"]

    @classmethod
    def of(cls, samples: Samples) -> "Rows":
        """Return the samples of a chain with the noise of each node."""
        a, s = (value.view(-1, 1, 1) for value in samples.coefficients)
        noise = torch.linspace(-NOISE_STDS, NOISE_STDS, NOISE_NODES, dtype=torch.float64)
        mass = torch.outer(samples.mass, torch.softmax(-(noise**2) / 2, 0))
        return cls(samples, a * samples.x0.view(1, -1, 1) + s * noise, noise, mass)

    def errors(self, theta: Float[Tensor, "points 2"]) -> Float[Tensor, "points n e"]:
        """Compute u = eps - theta.f."""
        slope, offset = theta.unsqueeze(-1).unsqueeze(-1).unbind(1)
        return self.noise - slope * self.x - offset

    def pull(self, theta: Tensor, old: Tensor, weigh: Weigh, *, adaptive: bool) -> Float[Tensor, "points 2"]:
        """Compute E[w(A, l) f phi(u)] at each grid point."""
        u, before = self.errors(theta), self.errors(old)
        log_ratio = before.abs() - u.abs() if adaptive else before.square() - u.square()
        weight = weigh(self.samples.advantage.view(-1, 1).expand_as(self.mass), log_ratio)
        force = self.mass * weight * (self.mean_sign(u, theta) if adaptive else u)
        return torch.stack([(force * self.x).sum((1, 2)), force.sum((1, 2))], -1)

    def mean_sign(self, u: Tensor, theta: Float[Tensor, "points 2"]) -> Float[Tensor, "points n e"]:
        """Compute the mean of sign(u) over the interval of noise that each node stands for."""
        _, s = self.samples.coefficients
        half = (1 - theta[:, 0] * s).abs() * (self.noise[1] - self.noise[0]) / 2
        return (u / half.view(-1, 1, 1)).clamp(-1, 1)


@dataclass(frozen=True)
class Fit:
    """A complete fit to samples of the old policy.

    Attributes:
        anchor: weight of |eps_theta - eps_old|^2.
        weigh: of a row.
        first_trained: grid point; those before it, from the prior on, stay as they are.
        adaptive: whether the errors have the adaptive weight.
    """

    anchor: float
    weigh: Weigh
    first_trained: int
    adaptive: bool

    def chain(self, sampler: DDIM, old: Chain, reward: Parabola) -> Chain:
        """Return the chain after the fit, by Newton's method at each grid point.

        Raises:
            ValueError: the iteration does not settle.
        """
        start = theta = parameters(sampler, old)
        rows = Rows.of(Samples.of(sampler, old, reward, nodes=X0_NODES))
        moments = rows.samples.features(torch.ones_like(rows.samples.mass))

        def residual(at: Tensor) -> Tensor:
            pull = rows.pull(at, start, self.weigh, adaptive=self.adaptive)
            return pull - self.anchor * apply(moments, at - start)

        for _ in range(MAX_STEPS):
            here = residual(theta)
            slopes = torch.stack([(residual(theta + DIFFERENCE * unit) - here) / DIFFERENCE for unit in UNITS], -1)
            step = -solve(slopes, here)
            step[: self.first_trained] = 0
            theta = theta + step.clamp(-LONGEST, LONGEST)
            if step.abs().max() < SETTLED:
                return chain_of(sampler, theta)
        raise ValueError(f"anchor: got {self.anchor}, for which the fit does not settle")


def cases() -> list[ChainCase]:
    """Return one round of each, with an anchor to the old policy alone."""
    common: dict[str, Any] = {"advantage": Centred(), "advantage_clip": UNCLIPPED, "noisings": 10, "first": 0.1}
    common |= {"last": 1.0, "held": 0, "decay": 0.0, "reference_weight": 0.0, "data_weight": 0.0}
    late = {**common, "noisings": 8, "first": FIRST_TRAINED / 10}
    round_of: dict[str, Any] = {"rollouts": 8192, "iterations": 1, "optimizer": partial(torch.optim.SGD, lr=1.5)}

    def case(name: str, algorithm: AdvantageMatching, weigh: Weigh, first_trained: int, *, adaptive: bool) -> ChainCase:
        fit = Fit(algorithm.old_weight, weigh, first_trained, adaptive)
        return ChainCase(
            name=f"{name}, one round",
            algorithm=algorithm,
            reward=LINEAR,
            in_stds=False,
            fixed_point=lambda sampler, reference: fit.chain(sampler, reference, LINEAR),
            loop={**round_of, "epochs": 60},
        )

    return [
        case("awm", AWM(clip=CLIP, old_weight=1.0, **common), partial(clipped, CLIP), 1, adaptive=False),
        case("epg", EPG(old_weight=1.0, **late), importance_weighted, FIRST_TRAINED, adaptive=True),
        case("pepg", PEPG(old_weight=0.5, **late), proximal, FIRST_TRAINED, adaptive=True),
    ]
