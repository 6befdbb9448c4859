"""Weighted particles: log-weights, effective sample size, systematic resampling and the estimate of the evidence.

Doucet and Johansen 2011, "A tutorial on particle filtering and smoothing", Sec. 3.4-3.5 and 4.3. All numbers are
float64 on the CPU; a system is a population of P particles that are resampled among themselves.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

BELOW_ONE = 1 - 2.0**-53  # the largest float64 below one


def normalised(log_weights: Float[Tensor, "s p"]) -> Float[Tensor, "s p"]:
    """Compute weights that sum to one in each system; equal ones where all weights of a system are zero."""
    lost = log_weights.isneginf().all(1, keepdim=True)
    return torch.where(lost, torch.zeros_like(log_weights), log_weights).softmax(1)


def effective_size(log_weights: Float[Tensor, "s p"]) -> Float[Tensor, " s"]:
    """Compute the effective sample size 1 / sum W^2 of normalised weights W: from 1 to P."""
    return 1 / normalised(log_weights).square().sum(1)


def systematic(weights: Float[Tensor, "s p"], uniform: Float[Tensor, " s"], count: int) -> Int[Tensor, "s {count}"]:
    """Draw `count` particles of each system by systematic resampling: particle p on average `count` weight_p times.

    Its number of copies is that average, rounded down or up (Kitagawa 1996, "Monte Carlo filter and smoother").

    Args:
        weights: sum to one in each system.
        uniform: in [0, 1), one number for each system.
        count: particles to draw.
    """
    positions = (uniform.unsqueeze(1) + torch.arange(count)) / count
    levels = weights.cumsum(1)
    levels = levels / levels[:, -1:]
    return torch.searchsorted(levels, positions.clamp(max=BELOW_ONE), right=True)


class ParticleWeights:
    """The weights of systems of particles whose target is their own law times exp(final potential).

    The weight of a particle is multiplied by exp(potential - the potential before), so that the product along a chain
    is exp(final potential), whatever the potentials on the way (Singhal et al. 2025, arXiv:2501.06848, Sec. 3.2,
    "difference").

    Attributes:
        potentials: [s, p], the last ones; 0 before the first.
        log_weights: [s, p], since the last resampling.
        log_evidence: [s]; with the mean of the weights, exp of it is an unbiased estimate of E[exp(final potential)].
        resamplings: of all systems together.
    """

    def __init__(self, systems: int, particles: int) -> None:
        self.potentials = torch.zeros(systems, particles, dtype=torch.float64)
        self.log_weights = torch.zeros_like(self.potentials)
        self.log_evidence = torch.zeros(systems, dtype=torch.float64)
        self.resamplings = 0

    def reweight(self, potentials: Float[Tensor, "s p"]) -> None:
        """Multiply the weights by exp(potential - the potential before); NaN leaves particle and potential as it is."""
        potentials = torch.where(potentials.isnan(), self.potentials, potentials)
        self.log_weights = self.log_weights + potentials - self.potentials
        self.potentials = potentials

    def resample(self, threshold: float, uniform: Float[Tensor, " s"]) -> Int[Tensor, "s p"]:
        """Resample the systems whose effective size is below threshold P, and return the ancestor of each particle."""
        particles = self.log_weights.shape[1]
        poor = effective_size(self.log_weights) < threshold * particles
        drawn = systematic(normalised(self.log_weights), uniform, particles)
        ancestors = torch.where(poor.unsqueeze(1), drawn, torch.arange(particles))
        self.log_evidence = torch.where(poor, self.evidence(), self.log_evidence)
        self.log_weights = torch.where(poor.unsqueeze(1), 0.0, self.log_weights)
        self.potentials = self.potentials.gather(1, ancestors)
        self.resamplings += int(poor.sum())
        return ancestors

    def finish(self, potentials: Float[Tensor, "s p"]) -> None:
        """Multiply by the weights of the finished particles; NaN, a sample without a reward, gets the weight zero."""
        self.reweight(potentials)
        self.log_weights = self.log_weights.masked_fill(potentials.isnan(), -torch.inf)

    def evidence(self) -> Float[Tensor, " s"]:
        """Compute the log of the estimate of the evidence: the product of the mean weights between resamplings."""
        return self.log_evidence + self.log_weights.logsumexp(1) - math.log(self.log_weights.shape[1])
