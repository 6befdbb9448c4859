"""Fixed points of the reward fine-tuning algorithms on scalar affine chains, in closed form or by quadrature.

Methods on the reverse steps (DDPO, DPOK, RGDM) keep the steps' stds and move their means. Methods on the forward
process (reward-weighted regression, supervised fine-tuning) re-fit the noise prediction to weighted samples; with a
linear prediction at each grid point only the mean and the variance of the weighted samples count.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.oracle.chain import Chain, Moments, Parabola
from molrl.samplers import DDIM
from molrl.schedule import alpha, sigma

KL = Literal["return_to_go", "local"]
Weight = Callable[[Tensor, Tensor], Tensor]
"""(rewards [n], their probabilities [n]) -> weights [n], none below zero."""

QUADRATURE_POINTS, QUADRATURE_STDS = 100_001, 12.0
SAME_STD = 1e-5
ROUNDS_TO_SETTLE = 10_000


def objective(chain: Chain, reference: Chain, reward: Parabola, beta: float) -> float:
    """J = E[r(sample)] - beta sum_k E KL(step k || reference's step k), along the chain's own path (Fan et al. 2023,
    arXiv:2305.16381, Lemma 4.2); beta = 0 leaves the expected reward.
    """
    expected = reward.expected(chain.marginal())
    return expected - beta * path_kl(chain, reference) if beta else expected


def path_kl(chain: Chain, reference: Chain) -> float:
    """sum_k E[(mean_k(x) - reference mean_k(x))^2] / (2 std_k^2), in nats, x by the chain's own law.

    Raises:
        ValueError: the stds differ, or one is zero.
    """
    if len(chain.std) != len(reference.std) or not all(
        s > 0 and abs(s - r) <= SAME_STD * r for s, r in zip(chain.std, reference.std, strict=True)
    ):
        raise ValueError(f"std: got {chain.std} and {reference.std}; need the same numbers above 0")
    total = 0.0
    for law, (a, b, std), (a_ref, b_ref, _) in zip(chain.states()[:-1], chain.steps, reference.steps, strict=True):
        square = ((a - a_ref) * law.mean + b - b_ref) ** 2 + (a - a_ref) ** 2 * law.variance
        total += square / (2 * std**2)
    return total


def controlled(reference: Chain, reward: Parabola, beta: float, kl: KL = "return_to_go") -> Chain:
    """Where a policy gradient with a KL penalty stops, the stds and the decode being fixed.

    A step from x has reference mean M and mean mu(x) = argmax E[V(mu + std z)] - (mu - M)^2 / (2 std^2), which with
    V(y) = -H y^2 / 2 + Q y + W is mu = (M + std^2 Q) / (1 + H std^2).

    "return_to_go": each step pays for its KL and for those of the later steps. V is the value in units of beta,
    V <- E[V] - KL (a Riccati recursion from V = r(decode) / beta), and the chain maximises J.
    "local": the KLs are added step by step and only differentiated there, as in DPOK's published gradient, in GRPO
    and in `molrl.algos.ddpo`. V is the expected reward alone, V <- E[V]; J is a little lower.

    Raises:
        ValueError: beta is not above zero, or the reward is convex enough for an infinite optimum.
    """
    if not beta > 0:
        raise ValueError(f"beta: got {beta}, need a number above 0; without a KL only the reward is determined")
    value = (reward / beta).before(reference.decode_slope, reference.decode_offset)
    slopes, offsets = [], []
    for a, b, std in reversed(reference.steps):
        drag = 1 + value.curvature * std**2
        if not drag > 0:
            raise ValueError(f"reward, beta: got {reward}, {beta}, for which the optimum is infinite")
        slopes.append(a / drag)
        offsets.append((b + std**2 * value.slope) / drag)
        if kl == "local":
            value = value.before(slopes[-1], offsets[-1], std)
        else:
            gain = std**2 * value.slope**2 / (2 * drag) - value.curvature * std**2 / 2
            best = Parabola(value.curvature / drag, value.slope / drag, value.constant + gain)  # of the mean M
            value = best.before(a, b)
    return replace(reference, slope=tuple(reversed(slopes)), offset=tuple(reversed(offsets)))


def controlled_standardised(reference: Chain, reward: Parabola, kl_weight: float, kl: KL = "local") -> Chain:
    """As `controlled`, with the reward in units of its own std over the rollouts: advantages (r - mean) / std, no clip.

    beta = kl_weight std(r) with the std of the fixed point itself, the first one that is met from the reference.

    Raises:
        ValueError: no such beta is found.
    """
    beta = kl_weight * math.sqrt(reward.variance(reference.marginal()))
    for _ in range(ROUNDS_TO_SETTLE):
        chain = controlled(reference, reward, beta, kl)
        wanted = kl_weight * math.sqrt(reward.variance(chain.marginal()))
        if abs(wanted - beta) <= 1e-12 * beta:
            return chain
        beta = math.sqrt(beta * wanted)
    raise ValueError(f"kl_weight: got {kl_weight}, for which beta does not settle")


def best_reward(reference: Chain, reward: Parabola) -> float:
    """The largest E[r] of any chain with these stds and this decode: beta = 0, where no more than this is determined.

    The last mean is where the decode meets the reward's top whatever came before; what is left is
    -curvature decode_slope^2 std_K^2 / 2 below the top.

    Raises:
        ValueError: the reward has no top.
    """
    if not reward.curvature > 0:
        raise ValueError(f"reward: got curvature {reward.curvature}, need a number above 0 for a bounded reward")
    noise = (reference.decode_slope * reference.std[-1]) ** 2
    return reward.expected(Moments(reward.slope / reward.curvature, noise))


def rgdm(
    sampler: DDIM, reference: Chain, gradient: float, radius: float, temperature: float, kl_weight: float
) -> Chain:
    """Where `molrl.algos.rgdm.RGDM` stops for the reward `gradient` x: mean_k = reference mean_k + D_k / kl_weight.

    With every step scored, no lookahead, and to first order in the spread of the reward over a ball, the pull of a
    step is D_k = R_k^2 / (temperature (d + 2)) times the gradient in y of the score / scale, where
    R_k^2 / (d + 2) = radius^2 std_k^2, the score is gradient x0_hat(y) at the next grid point, and scale is the std of
    the reward over the rollouts, |gradient| std(x): only the sign of the gradient counts.

    The loss -log p(mu_old + D) + kl_weight KL has the gradient
    (mu - mu_old - D) / std^2 + kl_weight (mu - mu_ref) / std^2, zero at mu = mu_old where mu - mu_ref = D / kl_weight.
    D does not depend on x, so that only offsets move: slopes, variances and hence D are those of the reference.
    """
    a, s = alpha(sampler.log_snr), sigma(sampler.log_snr)
    sharpness = ((1 - s * reference.noise(sampler)[0]) / a)[1:]  # d x0_hat / d y at grid points 1 .. K
    uphill = ((gradient > 0) - (gradient < 0)) / math.sqrt(reference.marginal().variance)  # gradient / scale
    pulls = (radius * torch.tensor(reference.std, dtype=torch.float64)) ** 2 / temperature * uphill * sharpness
    moved = torch.tensor(reference.offset, dtype=torch.float64) + pulls / kl_weight
    return replace(reference, offset=tuple(moved.tolist()))


class Weighted(NamedTuple):
    """Moments of weighted samples, and their mean weight."""

    weight: float
    mean: float
    variance: float


def weighted_moments(mean: float, variance: float, reward: Callable[[Tensor], Tensor], weight: Weight) -> Weighted:
    """E[w], E[w x] / E[w] and the variance of w-weighted draws x ~ N(mean, variance), by dense quadrature.

    A jump in the weights costs up to 1e-4 of its height, a kink about 1e-7; smooth weights are exact to rounding.

    Raises:
        ValueError: no draw has a weight.
    """
    z = torch.linspace(-QUADRATURE_STDS, QUADRATURE_STDS, QUADRATURE_POINTS, dtype=torch.float64)
    x, mass = mean + math.sqrt(variance) * z, torch.softmax(-(z**2) / 2, 0)
    weighted = mass * weight(reward(x), mass)
    total = weighted.sum()
    if not (total > 0 and total.isfinite()):
        raise ValueError(f"weight: got a mean weight of {total.item()}, need a number above 0")
    centre = (weighted * x).sum() / total
    return Weighted(total.item(), centre.item(), ((weighted * (x - centre) ** 2).sum() / total).item())


def exponential(k: float) -> Weight:
    """w = exp(k r) / E[exp(k r)] (Black et al. 2023, arXiv:2305.13301, Sec. 4.2)."""

    def weight(rewards: Float[Tensor, " n"], mass: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return torch.softmax(k * rewards + mass.log(), 0) / mass

    return weight


def standardised(temperature: float) -> Weight:
    """w ~ exp(r / (temperature std(r))), of mean one: `molrl.algos.rwr.RWR`."""

    def weight(rewards: Float[Tensor, " n"], mass: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        std = (mass * (rewards - mass @ rewards) ** 2).sum().sqrt().item()
        return exponential(1 / (temperature * std) if std > 0 else 0.0)(rewards, mass)

    return weight


def best(share: float) -> Weight:
    """w = 1 for the draws with the highest rewards, a `share` of all; 0 for the others (RWR-sparse, ibid.)."""

    def weight(rewards: Float[Tensor, " n"], mass: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        order = rewards.argsort(descending=True)
        better = mass[order].cumsum(0) - mass[order]
        taken = torch.empty_like(mass)
        taken[order] = ((share - better) / mass[order]).clamp(0, 1)  # the node at the threshold counts in part
        return taken

    return weight


def shifted(gamma: float) -> Weight:
    """w = max(r + gamma, 0) (our reading of Fan et al. 2023, arXiv:2305.16381, Lemma 4.3)."""

    def weight(rewards: Float[Tensor, " n"], _: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return (rewards + gamma).clamp(min=0)

    return weight


def refit(sampler: DDIM, source: Chain, reward: Callable[[Tensor], Tensor], weight: Weight) -> Chain:
    """argmin over linear denoisers of E[w(x) |eps - eps_th(x_t)|^2], x being samples of `source`."""
    weighted = weighted_moments(*source.marginal(), reward, weight)
    return Chain.exact(sampler, weighted.mean, weighted.variance)


def refit_rounds(
    sampler: DDIM, start: Chain, reward: Callable[[Tensor], Tensor], weight: Weight, rounds: int
) -> list[Chain]:
    """The chains after 0, 1 .. `rounds` re-fits, each to the weighted samples of the one before.

    RWR with `exponential` or `standardised`, RWR-sparse with `best`. What a few steps lose of the variance is lost anew
    in every round.
    """
    chains = [start]
    for _ in range(rounds):
        chains.append(refit(sampler, chains[-1], reward, weight))
    return chains


def sft_kl_d(sampler: DDIM, reference: Chain, reward: Callable[[Tensor], Tensor], gamma: float) -> Chain:
    """KL-D: one fit to the reference's samples, weights max(r + gamma, 0) (Fan et al. 2023, Lemma 4.3; our reading)."""
    return refit(sampler, reference, reward, shifted(gamma))


def sft_kl_o(sampler: DDIM, reference: Chain, reward: Callable[[Tensor], Tensor], gamma: float) -> Chain:
    """KL-O: argmin of E[max(r, 0) |eps - eps_th|^2 + gamma |eps_th - eps_ref|^2] over eps_th(x_t) = theta.(x_t, 1), x_0
    being the reference's samples (Fan et al. 2023, Eq. 10; our reading).

    At each grid point (E[w f f^T] + gamma E[f f^T]) theta = E[w f eps] + gamma E[f f^T] theta_ref with f = (x_t, 1),
    x_t = a x_0 + s eps and E[w f eps] = E[w] (s, 0).
    """
    a, s = alpha(sampler.log_snr), sigma(sampler.log_snr)
    weight, mean, variance = weighted_moments(*reference.marginal(), reward, shifted(0.0))
    drawn = gamma * second_moments(a, s, *reference.marginal())
    theta_ref = torch.stack(reference.noise(sampler), -1)
    target = weight * torch.stack([s, torch.zeros_like(s)], -1) + (drawn @ theta_ref.unsqueeze(-1)).squeeze(-1)
    theta = torch.linalg.solve(weight * second_moments(a, s, mean, variance) + drawn, target)
    return Chain.of_noise(sampler, theta[:, 0], theta[:, 1])


def second_moments(
    a: Float[Tensor, " points"], s: Float[Tensor, " points"], mean: float, variance: float
) -> Float[Tensor, "points 2 2"]:
    """E[f f^T] for f = (a x_0 + s eps, 1)."""
    rows = [a**2 * (variance + mean**2) + s**2, a * mean, a * mean, torch.ones_like(a)]
    return torch.stack(rows, -1).view(-1, 2, 2)
