"""Noise keyed by what it is for, not by when it is drawn.

Each draw is a pure function of (seed, stream, sample, step), made by a counter-based generator (Philox: Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3"). So neither the number of processes, nor the micro-batch, nor the
padding, nor a sample that is left out changes the noise of any other sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Key:
    """Names a family of draws.

    Attributes:
        seed: of the run.
        stream: what the noise is for (an iteration, an evaluation ...); streams never overlap.
    """

    seed: int
    stream: int = 0

    def child(self, stream: int) -> "Key":
        """The key of another stream under the same seed."""
        return replace(self, stream=stream)

    def generator(self, sample: int, step: int) -> np.random.Generator:
        """The random numbers of one sample at one step."""
        # Arrays of uint64: numpy reads a list of small and large integers as floats, which merges neighbouring steps.
        key = np.array([self.seed % 2**64, self.stream % 2**64], dtype=np.uint64)
        counter = np.array([0, 0, step % 2**64, sample % 2**64], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def normal(self, samples: Sequence[int], step: int, shape: Sequence[int]) -> Float[Tensor, "b ..."]:
        """Standard normal float32 [b, *shape] on the CPU; a longer first axis only appends numbers."""
        return torch.from_numpy(
            np.stack([self.generator(i, step).standard_normal(tuple(shape), dtype=np.float32) for i in samples])
        )

    def permutation(self, n: int, step: int) -> Tensor:
        """A permutation of 0..n-1."""
        return torch.from_numpy(self.generator(0, step).permutation(n))
