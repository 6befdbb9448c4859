"""Rounds of complete fits on a one-dimensional mixture, with exact conditional expectations on a grid.

Each round fits the prediction at every noisy state to the current samples by the algorithm's own loss, and the
deterministic flow of the fitted prediction gives the samples of the next round. The numbers are of an independent
computation in float64 (flow path x_t = (1 - t) x_0 + t eps, base 0.3 N(-2, 0.25) + 0.7 N(1, 0.64)): mean and variance.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from test_matching import LOSSES
from torch import Tensor

from molrl.algos.matching import AdvantageMatching, Errors
from molrl.gaussian import Euclidean
from molrl.trajectory import Noised

F64 = torch.float64
TIMES = torch.linspace(0.9995, 0.02, 50, dtype=F64)
GRID = torch.linspace(-6.5, 6.5, 131, dtype=F64)
NORMAL = torch.linspace(-4.2, 4.2, 501, dtype=F64)  # the flow moves these nodes of a normal law, with their masses
MASS = torch.softmax(-(NORMAL**2) / 2, 0)


def linear(x: Tensor) -> Tensor:
    return 0.8 * x


def quadratic(x: Tensor) -> Tensor:
    return -((x - 2) ** 2) / 2


def base() -> Tensor:
    """Return the base's nodes, by inverting its distribution function."""
    x = torch.linspace(-6, 6, 60_001, dtype=F64)
    below = 0.3 * torch.special.ndtr((x + 2) / 0.5) + 0.7 * torch.special.ndtr((x - 1) / 0.8)
    return torch.from_numpy(np.interp(torch.special.ndtr(NORMAL).numpy(), below.numpy(), x.numpy()))


def posterior(x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the noise [grid, nodes] of each node in each noisy state, and its posterior probability."""
    noise = (GRID.unsqueeze(1) - (1 - t) * x0) / t
    return noise, torch.softmax(MASS.log() - noise.square() / 2, 1)


def mixture_prediction() -> Tensor:
    """Return E[eps | x_t] of the base itself."""
    rows = []
    for t in TIMES:
        parts = []
        for weight, mean, variance in ((0.3, -2.0, 0.25), (0.7, 1.0, 0.64)):
            spread = (1 - t) ** 2 * variance + t**2
            miss = GRID - (1 - t) * mean
            parts.append((np.log(weight) - miss**2 / (2 * spread) - spread.log() / 2, t * miss / spread))
        share = torch.stack([log for log, _ in parts]).softmax(0)
        rows.append(share[0] * parts[0][1] + share[1] * parts[1][1])
    return torch.stack(rows)


def flow(eps: Tensor) -> Tensor:
    """Return where Heun's method takes the nodes, with the velocity (eps - x) / (1 - t)."""
    x = TIMES[0] * NORMAL + (1 - TIMES[0]) * 0.1

    def velocity(k: int, x: Tensor) -> Tensor:
        predicted = torch.from_numpy(np.interp(x.numpy(), GRID.numpy(), eps[k].numpy()))
        return (predicted - x) / (1 - TIMES[k])

    for k in range(len(TIMES) - 1):
        step, first = TIMES[k + 1] - TIMES[k], velocity(k, x)
        x = x + step / 2 * (first + velocity(k + 1, x + step * first))
    return (x - TIMES[-1] * torch.from_numpy(np.interp(x.numpy(), GRID.numpy(), eps[-1].numpy()))) / (1 - TIMES[-1])


def fitted(algorithm: AdvantageMatching, x0: Tensor, advantage: Tensor, old: Tensor, reference: Tensor) -> Tensor:
    """Return the prediction at which the posterior mean of the loss has no gradient; the gradient is affine in it."""
    fits = []
    for t, old_row, reference_row in zip(TIMES, old, reference, strict=True):
        noise, mass = posterior(x0, t)
        rows = noise.reshape(-1, 1)

        def spread(values: Tensor, shape: torch.Size = noise.shape) -> Tensor:
            return values.unsqueeze(1).expand(shape).reshape(-1, 1)

        batch = Noised(
            x=rows,
            target=rows,
            step=torch.zeros(len(rows)).long(),
            sample=torch.zeros(len(rows)).long(),
            weight=advantage.expand_as(noise).reshape(-1),
            contexts={},
            old=spread(old_row),
            reference=spread(reference_row),
        )

        def gradient(value: Tensor, batch: Any = batch, mass: Tensor = mass, spread: Any = spread) -> Tensor:
            value = value.clone().requires_grad_()
            error, predicted = Errors(Euclidean(), {}), spread(value)
            loss = algorithm.rows(predicted, batch, error)[0]
            loss = loss + algorithm.reference_weight * error(predicted, batch.reference)
            (slope,) = torch.autograd.grad((loss * mass.reshape(-1)).sum(), value)
            return slope

        first, second = gradient(old_row), gradient(old_row + 1)
        fits.append(old_row - first / (second - first))
    return torch.stack(fits)


def rounds(algorithm: AdvantageMatching, reward: Callable[[Tensor], Tensor], count: int) -> tuple[float, float]:
    """Return mean and variance of the samples after so many rounds."""
    reference = eps = mixture_prediction()
    x0 = base()
    for _ in range(count):
        advantage = (reward(x0) - MASS @ reward(x0)).clamp(-algorithm.advantage_clip, algorithm.advantage_clip)
        eps = fitted(algorithm, x0, advantage, eps, reference)
        x0 = flow(eps).clamp(-4.5, 4.5)  # nodes in the far tails, with hardly any mass, may leave the grid
    return moments(x0)


def moments(x0: Tensor) -> tuple[float, float]:
    """Return mean and variance of the nodes."""
    mean = MASS @ x0
    return mean.item(), (MASS @ (x0 - mean) ** 2).item()


def test_the_flow_of_the_exact_prediction_returns_the_base() -> None:
    x0 = flow(mixture_prediction())
    assert moments(x0) == pytest.approx((0.1, 0.523 + 0.21 * 9), abs=0.02)
    assert (x0 - base()).abs().max() < 0.05


@pytest.mark.parametrize(
    ("reward", "count", "mean", "variance"),
    [(linear, 1, 1.63, 0.93), (linear, 5, 1.44, 0.94), (quadratic, 2, 1.73, 0.25), (quadratic, 5, 1.49, 0.34)],
)
def test_rounds_of_nft_follow_the_tilt_path(
    reward: Callable[[Tensor], Tensor], count: int, mean: float, variance: float
) -> None:
    """With b m = K, K rounds: few rounds overshoot, many come to the tilt, 1.40 / 0.98 and 1.39 / 0.40."""
    algorithm = LOSSES["nft"](mixing=count / 1e3, advantage_clip=1e3)
    assert rounds(algorithm, reward, count) == pytest.approx((mean, variance), abs=0.03)


@pytest.mark.parametrize(("reward", "mean", "variance"), [(linear, 1.40, 0.98), (quadratic, 1.39, 0.40)])
def test_one_round_of_tilt_matching_is_the_whole_tilt(
    reward: Callable[[Tensor], Tensor], mean: float, variance: float
) -> None:
    """The implicit form needs no small steps."""
    algorithm = LOSSES["tilt"](tilt_step=1.0, advantage_clip=1e3)
    assert rounds(algorithm, reward, 1) == pytest.approx((mean, variance), abs=0.03)
