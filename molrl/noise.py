"""Noise keyed by what it is for, not by when it is drawn.

Each draw is a pure function of (seed, stream, sample, step), made by a counter-based generator (Philox: Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3"). So neither the number of processes, nor the micro-batch, nor the
padding, nor a sample that is left out changes the noise of any other sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

WORDS = 4  # 64-bit numbers that Philox makes of one counter
NORMAL = -1  # last word of the counters of `normal`; those of `generator` have the sample there


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
        return np.random.Generator(self.philox(0, 0, step, sample))

    def normal(self, samples: Sequence[int], step: int, shape: Sequence[int]) -> Float[Tensor, "b ..."]:
        """Standard normal float32 [b, *shape] on the CPU; a longer first axis only appends numbers.

        Neighbouring samples have neighbouring counters, so that one stream of Philox serves them all.
        """
        first, last, count = min(samples), max(samples), math.prod(shape)
        columns = [
            self.philox(first, block, step, NORMAL).random_raw(WORDS * (last - first + 1)).reshape(-1, WORDS)
            for block in range(math.ceil(count / WORDS))
        ]
        raw = np.concatenate(columns, 1)[np.asarray(samples) - first, :count]
        uniform = torch.from_numpy((raw >> np.uint64(11)) + 0.5) * 2.0**-53
        normal: Tensor = torch.special.ndtri(uniform)
        return normal.float().view(len(samples), *shape)

    def permutation(self, n: int, step: int) -> Tensor:
        """A permutation of 0..n-1."""
        return torch.from_numpy(self.generator(0, step).permutation(n))

    def philox(self, *counter: int) -> np.random.Philox:
        """The generator at a counter of four words, the first of which runs."""
        # Arrays of uint64: numpy reads a list of small and large integers as floats, which merges neighbouring steps.
        key = np.array([self.seed % 2**64, self.stream % 2**64], dtype=np.uint64)
        return np.random.Philox(key=key, counter=np.array([word % 2**64 for word in counter], dtype=np.uint64))
