"""Gaussian transitions on the subspace of a batch of samples.

A padded batch has fewer degrees of freedom than numbers: masked entries carry no noise, and the positions of a molecule
lie in the zero-centre-of-mass subspace (Hoogeboom et al. 2022, arXiv:2203.17003, Sec. 3.1). The space is one object,
shared by sampling, log-probability, KL and the count of degrees of freedom.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor

Context = Mapping[str, Tensor]
"""The conditions of a batch: masks, classes, prompt embeddings; batch-first, constant along the chain."""


def sum_per_sample(x: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """Sum over all axes but the first."""
    return x.flatten(1).sum(1)


class Space(Protocol):
    """The linear subspace of the noise and the states of a batch."""

    def project(self, x: Float[Tensor, "b ..."], context: Context) -> Float[Tensor, "b ..."]:
        """Project orthogonally onto the subspace."""
        ...

    def dof(self, x: Float[Tensor, "b ..."], context: Context) -> Float[Tensor, " b"]:
        """Return the dimension of the subspace for each sample."""
        ...


class Euclidean:
    """The full space, in which every entry is a degree of freedom: images, latents, oracles."""

    def project(self, x: Float[Tensor, "b ..."], context: Context) -> Float[Tensor, "b ..."]:
        """Return x: the projection is the identity."""
        return x

    def dof(self, x: Float[Tensor, "b ..."], context: Context) -> Float[Tensor, " b"]:
        """Return the number of entries of a sample."""
        return x.new_full((len(x),), x.shape[1:].numel())


@dataclass(frozen=True)
class MaskedPoints:
    """Sets of points [b, n, channels], padded to n; the first `centred` channels have zero mean over the real points.

    A sample of m real points has centred (m - 1) + (channels - centred) m degrees of freedom. `context["mask"]` is
    bool [b, n], True for real points.
    """

    centred: int = 3

    def project(self, x: Float[Tensor, "b n c"], context: Context) -> Float[Tensor, "b n c"]:
        """Zero the padding and remove the mean of the centred channels."""
        mask = context["mask"].unsqueeze(-1).to(x.dtype)
        x = x * mask
        mean = x[..., : self.centred].sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        shift = x.new_zeros(x.shape)
        shift[..., : self.centred] = mean
        return x - shift * mask

    def dof(self, x: Float[Tensor, "b n c"], context: Context) -> Float[Tensor, " b"]:
        """Return centred (m - 1) + (channels - centred) m."""
        return context["mask"].sum(1).to(x.dtype) * x.shape[-1] - self.centred


@dataclass(frozen=True)
class Gaussian:
    """N(mean, std^2 I) on a subspace; log-probabilities and divergences are sums over its dimensions, in nats.

    A row whose std is zero is a deterministic step, a point mass at the mean. It has no density: its log-probability
    counts as zero, and nothing is to be learned from it. Its KL is infinite unless the other is the same point mass.

    Attributes:
        mean: [b, ...], inside the subspace.
        std: [b], not learned; zero for a deterministic step.
        space: the subspace.
        context: conditions of the batch, of which the space uses the mask.
    """

    mean: Float[Tensor, "b ..."]
    std: Float[Tensor, " b"]
    space: Space
    context: Context

    @property
    def dof(self) -> Float[Tensor, " b"]:
        """Return the dimension of the subspace for each sample."""
        return self.space.dof(self.mean, self.context)

    @property
    def stochastic(self) -> Bool[Tensor, " b"]:
        """Return False for the rows that are point masses."""
        return self.std > 0

    def sample(self, noise: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Compute mean + std P(noise) from standard normal noise on the full array."""
        return self.mean + self.broadcast(self.std) * self.space.project(noise, self.context)

    def log_prob(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
        """Compute -|P(y - mean)|^2 / (2 std^2) - dof/2 log(2 pi std^2); zero where there is no density."""
        square = sum_per_sample(self.space.project(y - self.mean, self.context).square())
        std = self.std.where(self.stochastic, 1.0)  # no NaN, neither here nor in the gradient
        log_prob = -square / (2 * std**2) - self.dof * (std.log() + math.log(2 * math.pi) / 2)
        return log_prob.where(self.stochastic, 0.0)

    def kl(self, other: "Gaussian") -> Float[Tensor, " b"]:
        """Compute KL(self || other) = d log(s2/s1) + (d s1^2 + |m1 - m2|^2) / (2 s2^2) - d/2."""
        square = sum_per_sample(self.space.project(self.mean - other.mean, self.context).square())
        std = other.std.where(other.stochastic, 1.0)
        ratio = self.std / std
        kl = self.dof * (ratio.square() / 2 - 0.5 - ratio.log()) + square / (2 * std**2)
        same = ~self.stochastic & (square == 0)
        return kl.where(other.stochastic, math.inf).masked_fill(same & ~other.stochastic, 0.0)

    def broadcast(self, scale: Float[Tensor, " b"]) -> Float[Tensor, "b ..."]:
        """Shape a number per sample so that it multiplies the mean."""
        return scale.view(-1, *[1] * (self.mean.dim() - 1))
