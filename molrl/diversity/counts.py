"""A memory of what was seen and how often, which fades and has a bound."""

from collections.abc import Callable, Iterable
from hashlib import blake2b

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

CAPACITY = 2**17  # keys of one memory, 2 MiB in a checkpoint; beyond it those seen longest ago are forgotten


class Counts(nn.Module):
    """The counts of keys, on the CPU, in the order of the last time that each was seen.

    A key is a 64-bit hash of a text: among 10^5 texts two share one with a probability of 3e-10.

    Args:
        decay: factor of all counts with each round; 1: nothing fades.
        capacity: the most keys that are kept.
    """

    keys: Tensor
    counts: Tensor

    def __init__(self, decay: float = 1.0, capacity: int = CAPACITY) -> None:
        super().__init__()
        if not 0 < decay <= 1:
            raise ValueError(f"decay: got {decay}, need above 0 and at most 1")
        if capacity < 1:
            raise ValueError(f"capacity: got {capacity}, need at least 1")
        self.decay, self.capacity = decay, capacity
        self.register_buffer("keys", torch.zeros(0, dtype=torch.long))
        self.register_buffer("counts", torch.zeros(0, dtype=torch.float64))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def total(self) -> float:
        """Return the sum of all counts."""
        return self.counts.sum().item()

    def add(self, texts: Iterable[str]) -> None:
        """Let all counts fade, and add the texts of a round, each as often as it is there."""
        seen, times = hash_texts(texts).unique(return_counts=True)
        counts = self.decay * self.lookup(seen) + times
        others = ~torch.isin(self.keys, seen)
        self.counts = torch.cat([self.decay * self.counts[others], counts])[-self.capacity :]
        self.keys = torch.cat([self.keys[others], seen])[-self.capacity :]

    def of(self, texts: Iterable[str]) -> Float[Tensor, " n"]:
        """Return the count of each text; zero for one that was never seen."""
        return self.lookup(hash_texts(texts))

    def lookup(self, wanted: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the counts of keys."""
        if not len(self):
            return torch.zeros(len(wanted), dtype=torch.float64)
        keys, order = self.keys.sort()
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return torch.where(keys[place] == wanted, self.counts[order[place]], 0.0)

    def reserve(self, rows: int) -> None:
        """Make room for the keys of a saved state, which replace all."""
        self.keys, self.counts = self.keys.new_zeros(rows), self.counts.new_zeros(rows)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Counts":
        """Leave the counts on the CPU, in float64, wherever the network goes."""
        return self


def hash_texts(texts: Iterable[str]) -> Int[Tensor, " n"]:
    """Return a 64-bit hash of each text, the same in every process and on every machine."""
    digests = (blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.long)
