"""The forward-process family on the linear-Gaussian chain: anchored fixed points, and rounds of complete fits.

With a linear prediction eps(x_t) = theta.f, f = (x_t, 1), at each grid point, every loss of the family is a weighted
regression, whose moments need only the law of the samples x_0: x_t = a x_0 + s eps. That law is the chain's own, so
that a fixed point holds where samples and regression agree. All moments are by quadrature.

The prior's grid point is left out. Nothing is to be learned there, as x_t is the noise, and the adaptive weight of EPG
has no bound.
"""

import math
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
from molrl.algos.nft import NFT
from molrl.algos.ram import RAM
from molrl.algos.tilt import Tilt
from molrl.oracle.chain import Chain, Parabola
from molrl.oracle.linear_gaussian import LINEAR, QUADRATIC
from molrl.oracle.trial import UNCLIPPED, ChainCase
from molrl.samplers import DDIM
from molrl.schedule import alpha, sigma

MAX_ROUNDS, SETTLED, DAMPING = 2000, 1e-8, 0.3
TRAINED = range(1, 11)  # grid points of the chain of ten steps: all but that of the prior
NODES, NODE_STDS = 1001, 9.0  # of a normal law; the integrands are smooth

Score = Callable[["Samples", Tensor], Tensor]
"""(samples, theta [points, 2]) -> E[A f g(eps - theta.f)] [points, 2], the gradient that the advantages give."""


@dataclass(frozen=True)
class Samples:
    """The samples of a chain with their centred rewards, as quadrature nodes.

    Attributes:
        sampler: with the noise of each grid point.
        x0: nodes [n].
        mass: their probabilities [n].
        advantage: r - E[r] at the nodes [n].
    """

    sampler: DDIM
    x0: Float[Tensor, " n"]
    mass: Float[Tensor, " n"]
    advantage: Float[Tensor, " n"]

    @classmethod
    def of(cls, sampler: DDIM, chain: Chain, reward: Parabola, nodes: int = NODES) -> "Samples":
        """Return the samples of a chain."""
        mean, variance = chain.marginal()
        z = torch.linspace(-NODE_STDS, NODE_STDS, nodes, dtype=torch.float64)
        x0, mass = mean + math.sqrt(variance) * z, torch.softmax(-(z**2) / 2, 0)
        return cls(sampler, x0, mass, reward(x0) - mass @ reward(x0))

    @property
    def coefficients(self) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
        """Return alpha and sigma of each grid point."""
        return alpha(self.sampler.log_snr), sigma(self.sampler.log_snr)

    def features(self, weight: Float[Tensor, " n"]) -> Float[Tensor, "points 2 2"]:
        """Compute E[w f f^T] at each grid point."""
        a, s = self.coefficients
        zeroth, first, second = ((self.mass * weight) @ self.x0**k for k in range(3))
        rows = [a**2 * second + s**2 * zeroth, a * first, a * first, zeroth.expand_as(a)]
        return torch.stack(rows, -1).view(-1, 2, 2)

    def targets(self, weight: Float[Tensor, " n"]) -> Float[Tensor, "points 2"]:
        """Compute E[w f eps] = (s E[w], 0) at each grid point."""
        _, s = self.coefficients
        return torch.stack([s * (self.mass @ weight), torch.zeros_like(s)], -1)


def squared_score(samples: Samples, theta: Float[Tensor, "points 2"]) -> Float[Tensor, "points 2"]:
    """Compute E[A f (eps - theta.f)]: of NFT, AWM and RAM."""
    advantage = samples.advantage
    return samples.targets(advantage) - apply(samples.features(advantage), theta)


def adaptive_score(samples: Samples, theta: Float[Tensor, "points 2"]) -> Float[Tensor, "points 2"]:
    """Compute E[A f sign(eps - theta.f)]: of EPG and PEPG, whose adaptive weight in one dimension is 1 / |error|.

    Given x_0 the sign changes where eps = c, so that E[sign | x_0] = 1 - 2 Phi(c) and E[eps sign | x_0] = 2 phi(c).
    """
    a, s = (value.unsqueeze(1) for value in samples.coefficients)
    slope, offset = theta[:, :1], theta[:, 1:]
    change = (slope * a * samples.x0 + offset) / (1 - slope * s)  # [points, n]
    sign = (1 - 2 * torch.special.ndtr(change)) * (1 - slope * s).sign()
    noise = 2 * (-(change**2) / 2).exp() / math.sqrt(2 * math.pi) * (1 - slope * s).sign()
    weight = samples.mass * samples.advantage
    return torch.stack([(a * samples.x0 * sign + s * noise) @ weight, sign @ weight], -1)


def anchored(
    sampler: DDIM,
    reference: Chain,
    reward: Parabola,
    anchor: float,
    score: Score = squared_score,
    window: range = TRAINED,
) -> Chain:
    """Return the chain at which one update per round is at rest: anchor E[f f^T] (theta - theta_ref) = score(theta).

    The samples are the chain's own. For RAM the anchor is its temperature. Outside of the window theta is theta_ref.

    Raises:
        ValueError: the iteration does not settle.
    """
    start = theta = parameters(sampler, reference)
    for _ in range(MAX_ROUNDS):
        samples = Samples.of(sampler, chain_of(sampler, theta), reward)
        moved = solve(samples.features(torch.ones_like(samples.mass)), score(samples, theta) / anchor)
        step = DAMPING * trained(start + moved - theta, window)
        theta = theta + step
        if step.abs().max() < SETTLED:
            return chain_of(sampler, theta)
    raise ValueError(f"anchor: got {anchor}, for which no fixed point is found")


def nft_rounds(sampler: DDIM, reference: Chain, reward: Parabola, strength: float, rounds: int) -> Chain:
    """Return the chain after complete fits: each moves theta by E[f f^T]^-1 E[A f (eps - theta.f)] / strength, b m."""
    theta = parameters(sampler, reference)
    for _ in range(rounds):
        samples = Samples.of(sampler, chain_of(sampler, theta), reward)
        moved = solve(samples.features(torch.ones_like(samples.mass)), squared_score(samples, theta)) / strength
        theta = theta + trained(moved)
    return chain_of(sampler, theta)


def tilt_rounds(sampler: DDIM, reference: Chain, reward: Parabola, step: float, rounds: int) -> Chain:
    """Return the chain after complete fits of the implicit form, each from samples of the chain before.

    With w = exp(step A), E[w f f^T] theta = E[(w - 1) f eps] + E[f f^T] theta_old.
    """
    theta = parameters(sampler, reference)
    for _ in range(rounds):
        samples = Samples.of(sampler, chain_of(sampler, theta), reward)
        weight, one = (step * samples.advantage).exp(), torch.ones_like(samples.mass)
        fit = solve(samples.features(weight), samples.targets(weight - 1) + apply(samples.features(one), theta))
        theta = theta + trained(fit - theta)
    return chain_of(sampler, theta)


def trained(move: Float[Tensor, "points 2"], window: range = TRAINED) -> Float[Tensor, "points 2"]:
    """Return the move of the grid points that are trained, and zero at the others."""
    points = torch.arange(len(move)).unsqueeze(1)
    return move * ((points >= window.start) & (points < window.stop))


def parameters(sampler: DDIM, chain: Chain) -> Float[Tensor, "points 2"]:
    """Return slope and offset of the predicted noise at each grid point."""
    return torch.stack(chain.predicted_noise(sampler), -1)


def chain_of(sampler: DDIM, theta: Float[Tensor, "points 2"]) -> Chain:
    """Return the chain with this predicted noise."""
    return Chain.from_noise(sampler, theta[:, 0], theta[:, 1])


def apply(matrix: Float[Tensor, "points 2 2"], vector: Float[Tensor, "points 2"]) -> Float[Tensor, "points 2"]:
    """Multiply matrix and vector at each grid point."""
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def solve(matrix: Float[Tensor, "points 2 2"], vector: Float[Tensor, "points 2"]) -> Float[Tensor, "points 2"]:
    """Solve for the vector at each grid point."""
    solution: Tensor = torch.linalg.solve(matrix, vector)
    return solution


def cases() -> list[ChainCase]:
    """Return the family: single updates with an anchor, and rounds of complete fits."""
    common: dict[str, Any] = {"advantage": Centred(), "advantage_clip": UNCLIPPED, "noisings": 10, "first": 0.1}
    common |= {"last": 1.0, "held": 0, "decay": 0.0, "old_weight": 0.0, "reference_weight": 2.0, "data_weight": 0.0}
    free = {**common, "reference_weight": 0.0}
    single: dict[str, Any] = {"optimizer": partial(torch.optim.SGD, lr=1.0), "iterations": 50, "rollouts": 1024}
    fits: dict[str, Any] = {"optimizer": partial(torch.optim.SGD, lr=3.0), "rollouts": 8192, "epochs": 30}

    def at_rest(score: Score, window: range) -> Callable[[DDIM, Chain], Chain]:
        return lambda sampler, reference: anchored(sampler, reference, QUADRATIC, 2.0, score, window)

    def case(name: str, algorithm: Any, score: Score = squared_score, window: range = TRAINED) -> ChainCase:
        at = at_rest(score, window)
        return ChainCase(name=name, algorithm=algorithm, reward=QUADRATIC, in_stds=False, fixed_point=at, loop=single)

    part = {**common, "advantage_clip": 100.0, "first": 0.4, "last": 0.8, "held": 5}

    return [
        case("nft, anchored", NFT(mixing=1.0, **{**common, "advantage_clip": 100.0})),
        case("nft, rest held", NFT(mixing=1.0, **part), window=range(4, 8)),
        case("awm, anchored", AWM(clip=UNCLIPPED, **common)),
        case("epg, anchored", EPG(**common), adaptive_score),
        case("pepg, anchored", PEPG(**common), adaptive_score),
        case("ram", RAM(temperature=2.0, **free)),
        ChainCase(
            name="nft, three rounds",
            algorithm=NFT(mixing=0.5, **{**free, "advantage_clip": 8.0}),
            reward=LINEAR,
            in_stds=False,
            fixed_point=lambda sampler, reference: nft_rounds(sampler, reference, LINEAR, 4.0, 3),
            loop={**fits, "iterations": 3, "optimizer": partial(torch.optim.SGD, lr=0.75)},
        ),
        ChainCase(
            name="tilt, four rounds",
            algorithm=Tilt(tilt_step=0.25, implicit=True, **free),
            reward=LINEAR,
            in_stds=False,
            fixed_point=lambda sampler, reference: tilt_rounds(sampler, reference, LINEAR, 0.25, 4),
            loop={**fits, "iterations": 4},
        ),
    ]
