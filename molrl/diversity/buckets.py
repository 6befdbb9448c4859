"""A soft penalty for what was found often: the diversity filter of REINVENT (Blaschke et al. 2020, J. Cheminform. 12,
68), with a hyperbolic tangent (Svensson et al. 2024, arXiv:2410.10431).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.diversity.clusters import Clusters
from molrl.diversity.counts import Counts

STEEPNESS = 3.0  # of the tangent, in the published code (MolecularAI/REINVENT4, tanh_penalty.py)


class BucketPenalty(nn.Module):
    """The factor 1 - tanh(3 n / size) of a reward, n being the other samples of its bucket in the memory.

    Counted are those of all earlier rounds and of the same round, whatever their order: where the published code goes
    through a batch one by one, the first of ten equal molecules goes free and the tenth pays.

    Args:
        bucket: descriptor whose equal values make a bucket.
        size: samples in a bucket at which a reward has lost all but 0.5 per cent.
        decay: factor of the counts with each round; 1: the memory keeps all, as published.
        clusters: whose centres near values of the descriptor share as a bucket; None: equal ones make a bucket.
    """

    def __init__(self, bucket: str, size: float, decay: float, clusters: Clusters | None = None) -> None:
        super().__init__()
        if not size > 0:
            raise ValueError(f"size: got {size}, need a number above 0")
        self.bucket, self.size, self.counts = bucket, size, Counts(decay)
        self.clusters = clusters

    @property
    def descriptors(self) -> tuple[str, ...]:
        """Return the names of the descriptors that are read."""
        return (self.bucket,)

    def add(self, values: dict[str, list[str]]) -> None:
        """Remember the samples of a round, by the values of each descriptor."""
        if self.clusters is not None:
            self.clusters.add(values[self.bucket])
        self.counts.add(self.buckets(values))

    def factors(self, values: dict[str, list[str]], *, remembered: bool) -> Float[Tensor, " n"]:
        """Return the factor of each sample; those that are `remembered` do not count themselves."""
        others = (self.counts.of(self.buckets(values)) - int(remembered)).clamp(min=0)
        return 1 - torch.tanh(STEEPNESS * others / self.size)

    def buckets(self, values: dict[str, list[str]]) -> list[str]:
        """Return the name of the bucket of each sample."""
        own = values[self.bucket]
        return own if self.clusters is None else self.clusters.of(own)
