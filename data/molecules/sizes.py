"""How many atoms a molecule has: a histogram to draw from, and buckets that keep padded batches dense."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from molrl.noise import Key


@dataclass(frozen=True)
class Sizes:
    """Numbers of atoms and how often they occur.

    Attributes:
        atoms: the sizes, ascending.
        counts: how many molecules of the training set have each.
    """

    atoms: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, sizes: Sequence[int]) -> "Sizes":
        """The histogram of a set."""
        atoms, counts = np.unique(np.asarray(sizes), return_counts=True)
        return cls(tuple(atoms.tolist()), tuple(counts.tolist()))

    def draw(self, samples: Sequence[int], key: Key) -> list[int]:
        """One size per sample index, keyed like noise."""
        share = np.cumsum(self.counts) / np.sum(self.counts)
        return [self.atoms[int(np.searchsorted(share, key.generator(i, 0).random(), "right"))] for i in samples]


def mask_of(sizes: Sequence[int], width: int | None = None) -> Bool[Tensor, "b n"]:
    """Mask of padded molecules: [b, width], True for real atoms."""
    width = max(sizes) if width is None else width
    return torch.arange(width) < torch.tensor(list(sizes)).unsqueeze(1)
