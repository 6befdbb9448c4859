"""Gaussian mixtures: their exact noise prediction, and what a reward makes of them.

Of all distributions p the tilt base(x) exp(R(x)) / Z, with R = r / beta, has the largest E_p[r] - beta KL(p || base),
namely beta log Z (Donsker and Varadhan 1975). The functions here take R.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.schedule import alpha, sigma


class Mixture(NamedTuple):
    """sum_k weights_k N(means_k, covariances_k)."""

    weights: Float[Tensor, " k"]
    means: Float[Tensor, "k d"]
    covariances: Float[Tensor, "k d d"]

    def mean(self) -> Float[Tensor, " d"]:
        """E[x]."""
        return self.weights @ self.means

    def covariance(self) -> Float[Tensor, "d d"]:
        """Cov[x]: within the components and between them."""
        apart = self.means - self.mean()
        return torch.einsum("k,kij->ij", self.weights, self.covariances + apart.unsqueeze(2) * apart.unsqueeze(1))


def tilt_linear(base: Mixture, gradient: Float[Tensor, " d"]) -> tuple[Mixture, float]:
    """base(x) exp(g.x) / Z and log Z.

    m_k' = m_k + S_k g, S_k' = S_k, and w_k' ~ w_k exp(g.m_k + g^T S_k g / 2), which add up to Z.
    """
    shift = base.covariances @ gradient
    log_weights = base.weights.log() + base.means @ gradient + shift @ gradient / 2
    return Mixture(log_weights.softmax(0), base.means + shift, base.covariances), log_weights.logsumexp(0).item()


def tilt_quadratic(
    base: Mixture, precision: Float[Tensor, "d d"], target: Float[Tensor, " d"]
) -> tuple[Mixture, float]:
    """base(x) exp(-(x - c)^T K (x - c) / 2) / Z and log Z, for a symmetric K without negative directions.

    S_k' = (S_k^-1 + K)^-1 = (I + S_k K)^-1 S_k, m_k' = m_k + S_k' K (c - m_k), and
    log w_k' = log w_k - log|I + S_k K| / 2 - (c - m_k)^T K (I + S_k K)^-1 (c - m_k) / 2, up to log Z.
    """
    drag = torch.eye(len(target)).to(precision) + base.covariances @ precision
    apart = target - base.means
    reached = torch.linalg.solve(drag, apart)  # (I + S K)^-1 (c - m): what is left of the way
    covariances = torch.linalg.solve(drag, base.covariances)
    loss = ((apart @ precision) * reached).sum(1)
    log_weights = base.weights.log() - torch.linalg.slogdet(drag)[1] / 2 - loss / 2
    means = base.means + (covariances @ (apart @ precision).unsqueeze(2)).squeeze(2)
    symmetric = (covariances + covariances.mT) / 2
    return Mixture(log_weights.softmax(0), means, symmetric), log_weights.logsumexp(0).item()


def mixture_noise(
    x: Float[Tensor, "b d"],
    log_snr: Float[Tensor, " b"],
    weights: Float[Tensor, " k"],
    means: Float[Tensor, "k d"],
    covariances: Float[Tensor, "k d d"],
) -> Float[Tensor, "b d"]:
    """E[eps | x_t] = s sum_k share_k (a^2 S_k + s^2 I)^-1 (x - a m_k), in the dtype of x; `*mixture` fits in.

    share_k is the posterior probability of component k, N(x; a m_k, a^2 S_k + s^2 I) w_k normalised; the covariances
    are diagonalised, so that one factor serves every noise level.
    """
    spread, axes = torch.linalg.eigh(covariances)
    weights, means, spread, axes = (value.to(x) for value in (weights, means, spread, axes))
    a, s = alpha(log_snr).view(-1, 1, 1), sigma(log_snr).view(-1, 1, 1)
    apart = torch.einsum("bki,kij->bkj", x.unsqueeze(1) - a * means, axes)
    variance = a**2 * spread + s**2
    log_share = weights.log() - (apart**2 / variance + variance.log()).sum(2) / 2
    pull = torch.einsum("bkj,kij->bki", apart / variance, axes)
    return s.squeeze(2) * (log_share.softmax(1).unsqueeze(2) * pull).sum(1)


def log_partition(rewards: Float[Tensor, " n"], beta: float) -> tuple[float, float]:
    """beta log mean exp(r / beta) over samples of the reference, and its standard error by the delta method.

    No policy has a larger E[r] - beta KL. The error is beta std(w) / (sqrt(n) mean(w)) with w = exp(r / beta); where it
    is not small against beta, few samples carry the mean and neither number can be trusted.

    Raises:
        ValueError: beta is not above zero, or a reward is not finite.
    """
    if not (beta > 0 and len(rewards) > 1 and rewards.isfinite().all()):
        got = f"{beta}, {len(rewards)} with {int((~rewards.isfinite()).sum())} not finite"
        raise ValueError(f"beta, rewards: got {got}; need beta above 0 and at least 2 rewards, all finite")
    scaled = rewards.double() / beta
    top = scaled.max()
    weights = (scaled - top).exp()
    error = (weights.std() / weights.mean()).item() / math.sqrt(len(weights))
    return beta * (top + weights.mean().log()).item(), beta * error
