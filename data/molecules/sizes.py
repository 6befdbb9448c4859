"""Numbers of atoms per molecule: a histogram to draw from, and the mask of padded batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from molrl.noise import Key


@dataclass(frozen=True)
class Sizes:
    """A histogram of the numbers of atoms of molecules.

    Attributes:
        atoms: the sizes, ascending.
        counts: how many molecules of the training set have each.
    """

    atoms: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, sizes: Sequence[int]) -> "Sizes":
        """Return the histogram of a set of sizes."""
        atoms, counts = np.unique(np.asarray(sizes), return_counts=True)
        return cls(tuple(atoms.tolist()), tuple(counts.tolist()))

    def draw(self, samples: Sequence[int], key: Key) -> list[int]:
        """Draw one size per sample index, keyed like noise."""
        cumulative = np.cumsum(self.counts) / np.sum(self.counts)
        return [self.atoms[int(np.searchsorted(cumulative, key.generator(i, 0).random(), "right"))] for i in samples]


def padding_mask(sizes: Sequence[int], width: int | None = None) -> Bool[Tensor, "b n"]:
    """Return the mask of padded molecules [b, width], True for real atoms; the width is the largest size by default."""
    width = max(sizes) if width is None else width
    return torch.arange(width) < torch.tensor(list(sizes)).unsqueeze(1)
