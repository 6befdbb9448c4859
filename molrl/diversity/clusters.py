"""Clusters of fingerprints: each is near a centre, the first sample that was near no centre before (leader algorithm,
Hartigan 1975; in chemistry sphere exclusion, Taylor 1995, J. Chem. Inf. Comput. Sci. 35, 59).
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

CAPACITY = 4096  # centres, 1 MiB in a checkpoint for 2048 bits; beyond it a sample that is near none is its own cluster


class Clusters(nn.Module):
    """The centres of clusters, on the CPU, in the order in which they were found.

    A text is a fingerprint in hexadecimal digits, all of one length. The distance is Tanimoto's, 1 - |a and b| / |a or
    b|. A sample belongs to the oldest centre that is within the distance, so that its cluster never changes. The new
    samples of a round are taken in alphabetical order, so that their own order does not matter.

    Args:
        distance: the largest one from the centre of a cluster.
        capacity: the most centres.
    """

    centres: Tensor

    def __init__(self, distance: float, capacity: int = CAPACITY) -> None:
        super().__init__()
        if not 0 <= distance < 1:
            raise ValueError(f"distance: got {distance}, need at least 0 and below 1, the largest there is")
        if capacity < 1:
            raise ValueError(f"capacity: got {capacity}, need at least 1")
        self.distance, self.capacity = distance, capacity
        self.register_buffer("centres", torch.zeros(0, 0, dtype=torch.uint8))

    def __len__(self) -> int:
        return len(self.centres)

    def add(self, texts: Sequence[str]) -> None:
        """Found clusters for the samples of a round that are near no centre."""
        fresh = sorted({text for text, place in zip(texts, self.places(texts).tolist(), strict=True) if place < 0})
        for text in fresh:
            if len(self) < self.capacity and self.places([text]).item() < 0:
                row = packed([text])
                self.centres = torch.cat([self.centres, row]) if len(self) else row

    def of(self, texts: Sequence[str]) -> list[str]:
        """Return a name for the cluster of each text: its own for one that is near no centre."""
        return [
            text if place < 0 else str(place) for text, place in zip(texts, self.places(texts).tolist(), strict=True)
        ]

    def places(self, texts: Sequence[str]) -> Int[Tensor, " n"]:
        """Return the oldest centre that each text is near, -1 for one that is near none."""
        if not len(self) or not texts:
            return torch.full((len(texts),), -1)
        near = tanimoto_distances(packed(texts), self.centres) <= self.distance
        return torch.where(near.any(1), near.int().argmax(1), -1)

    def reserve(self, shape: Sequence[int]) -> None:
        """Make room for the centres of a saved state, which replace all."""
        self.centres = self.centres.new_zeros(tuple(shape))


def packed(texts: Sequence[str]) -> Tensor:
    """Return the bytes of hexadecimal texts of one length, uint8 [n, bytes]."""
    return torch.from_numpy(np.stack([np.frombuffer(bytearray.fromhex(text), np.uint8) for text in texts]))


def tanimoto_distances(first: Tensor, second: Tensor) -> Float[Tensor, "n m"]:
    """Return 1 - |a and b| / |a or b| for bits packed in bytes, [n, bytes] and [m, bytes]; 0 of two without any bit."""
    a, b = (torch.from_numpy(np.unpackbits(part.numpy(), axis=1)).float() for part in (first, second))
    both = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1) - both
    return torch.where(either > 0, 1 - both / either.clamp(min=1), 0.0)
