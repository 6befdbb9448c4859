"""Numbers of atoms per molecule: a histogram to draw from, what a user asks for, and the mask of padded batches."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from molrl.noise import Key

MAX_ATOMS = 500  # far above any drug; rewards score no more
RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")

AtomsRequest: TypeAlias = int | str | Mapping[int, float] | Mapping[str, float] | None
"""Numbers of atoms to draw: one (20), a range ("18..24"), weights by number ({18: 1, 20: 3}), or None for no wish."""


@dataclass(frozen=True)
class Sizes:
    """A histogram of the numbers of atoms of molecules.

    Attributes:
        atoms: the sizes, ascending.
        counts: how many molecules of the training set have each, or their weights.
    """

    atoms: tuple[int, ...]
    counts: tuple[float, ...]

    def __post_init__(self) -> None:
        ascending = all(type(size) is int and 1 <= size <= MAX_ATOMS for size in self.atoms)
        ascending = ascending and all(one < other for one, other in pairwise(self.atoms))
        weighted = all(type(count) in (int, float) and 0 < count < math.inf for count in self.counts)
        if not ascending or not weighted or not 0 < len(self.atoms) == len(self.counts):
            raise ValueError(
                f"sizes: need ascending numbers of atoms, 1 to {MAX_ATOMS}, and a count above 0 for each; got "
                f"{len(self.atoms)} numbers {self.atoms!s:.60} and {len(self.counts)} counts {self.counts!s:.60}"
            )

    @classmethod
    def of(cls, sizes: Sequence[int]) -> "Sizes":
        """Return the histogram of a set of sizes."""
        atoms, counts = np.unique(np.asarray(sizes), return_counts=True)
        return cls(tuple(atoms.tolist()), tuple(counts.tolist()))

    def choose(self, request: AtomsRequest) -> "Sizes":
        """Return the histogram that a user asks for.

        A range, ends included, keeps the proportions of this histogram. A number and weights hold as they are, also
        where this histogram has no such molecule.

        Raises ValueError for a request of another form or out of bounds, and for a range without a molecule.
        """
        if request is None:
            return self
        if isinstance(request, Mapping):
            return weighted(request)
        text = str(request)
        if isinstance(request, int | str) and text.isdecimal():
            return weighted({text: 1.0})
        limits = RANGE.fullmatch(text)
        if limits is None:
            raise ValueError(f"atoms={request}: expected a number (20), a range (18..24) or weights ({{18: 1, 20: 3}})")
        low, high = map(int, limits.groups())
        rows = [row for row, size in enumerate(self.atoms) if low <= size <= high]
        if not rows:
            raise ValueError(
                f"atoms={request}: no training molecule in this range, they have {self.atoms[0]} to {self.atoms[-1]} "
                "atoms; a single number, or weights, may go beyond"
            )
        return Sizes(tuple(self.atoms[row] for row in rows), tuple(self.counts[row] for row in rows))

    def draw(self, samples: Sequence[int], key: Key) -> list[int]:
        """Draw one size per sample index, keyed like noise."""
        cumulative = np.cumsum(self.counts) / np.sum(self.counts)
        return [self.atoms[int(np.searchsorted(cumulative, key.generator(i, 0).random(), "right"))] for i in samples]


def weighted(weights: Mapping[int, float] | Mapping[str, float]) -> Sizes:
    """Return the histogram of weights by number of atoms, as a number or as text; weights of 0 are left out.

    Raises ValueError for what is no number of atoms or no weight.
    """
    found: dict[int, float] = {}
    for number, weight in weights.items():
        if not str(number).isdecimal() or not 1 <= int(number) <= MAX_ATOMS:
            raise ValueError(f"atoms: got {number}, need whole numbers from 1 to {MAX_ATOMS}")
        if type(weight) not in (int, float) or not 0 <= weight < math.inf:
            raise ValueError(f"atoms: got the weight {weight!r} for {number} atoms, need a number of at least 0")
        if weight:
            found[int(number)] = float(weight)
    if not found:
        raise ValueError("atoms: no number of atoms has a weight above 0")
    return Sizes(tuple(sorted(found)), tuple(found[number] for number in sorted(found)))


def padding_mask(sizes: Sequence[int], width: int | None = None) -> Bool[Tensor, "b n"]:
    """Return the mask of padded molecules [b, width], True for real atoms; the width is the largest size by default."""
    width = max(sizes) if width is None else width
    return torch.arange(width) < torch.tensor(list(sizes)).unsqueeze(1)
