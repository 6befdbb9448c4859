"""Random numbers that are keyed by their purpose and not by the order of drawing.

Each draw is a pure function of (seed, stream, sample, step), made by a counter-based generator (Philox: Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3"). So neither the number of processes, nor the micro-batch, nor the
padding, nor a sample that is left out changes the noise of any other sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

WORDS = 4  # 64-bit numbers that Philox makes of one counter
NORMAL = -1  # last word of the counters of `normal`; those of `generator` have the sample there
REGION = 2**48  # width of the far region of a member
ENDLESS = 2**40  # numbers of a member that has no neighbour


class Numbering(IntEnum):
    """Purposes of random numbers, each with a number of its own or, where it has an index, a range of numbers.

    A range counts up from a positive first number and down from a negative one. An index beyond its `room` lands in a
    far region of its own, never on the numbers of another member.
    """

    room: int

    def __new__(cls, first: int, room: int = 1) -> "Numbering":
        """Make a member of `room` numbers, beginning with `first`."""
        member = int.__new__(cls, first)
        member._value_ = first
        member.room = room
        return member

    def at(self, index: int) -> int:
        """Return the number of an index, counted from 0.

        Raises:
            ValueError: an index below zero or above 2^48, or one above zero where the member has none.
        """
        if not 0 <= index < (REGION if self.room > 1 else 1):
            raise ValueError(f"{type(self).__name__}.{self.name}: no index {index}")
        distance = index if index < self.room else index - self.room
        first = int(self) if index < self.room else int(self) * REGION
        return first + distance if self > 0 else first - distance


class Draw(Numbering):
    """The purpose of a draw under one key: the `step` of `Key.normal`, `Key.generator` and `Key.permutation`.

    Draws that can occur under one key have different numbers. CHOICE shares the numbers of SHUFFLE, REPLAY and NOISING:
    guided sampling uses it, and training, which has keys of its own, the others.

    Members:
        CONTEXT: the condition of a sample: its size, class or prompt, or its row of a data set.
        PRIOR: the state that a chain starts from.
        STEP: the noise of reverse step k, at index k.
        TRAIN_STEPS: the reverse steps that a policy gradient learns from.
        SCORED_STEPS: the reverse steps around which candidates are scored.
        HELD_STEPS: the reverse steps that are held in place.
        GRID: the offset of a sample's noise levels.
        CHOICE: the choice between the candidates of reverse step k, at index k.
        SHUFFLE: the order of the rows in an epoch, at index epoch.
        REPLAY: the noise of a state that is made from a clean sample (index 0) and of the step from it (index 1).
        NOISING: the noise of the k-th noising of a finished sample, at index k.
        BALL: candidate j of a step: its direction at index 2j, its distance at index 2j + 1.
    """

    CONTEXT = 0
    PRIOR = 1
    STEP = 2, ENDLESS
    TRAIN_STEPS = -1
    SCORED_STEPS = -2
    HELD_STEPS = -3
    GRID = -5
    CHOICE = -7, 993
    SHUFFLE = -10, 40
    REPLAY = -50, 50
    NOISING = -100, 900
    BALL = -1000, ENDLESS


class Stream(Numbering):
    """The purpose of a key: its `stream`, one for each independent family of draws.

    Members:
        SAMPLING: samples of a model, and the batches of its pretraining.
        ROUND: a round of fine-tuning, at index iteration; in pretraining, noise and noise levels, at index 0.
        MEASUREMENT: the samples that a run is measured on before and after training.
        REFERENCE: samples of the pretrained model that its shares of descriptors are measured on.
        SELECTION: the samples that its best model is chosen on.
        DATA: real samples, at the index of the stream of the round that learns from them.
    """

    SAMPLING = 0
    ROUND = 1, ENDLESS
    MEASUREMENT = 2**62
    REFERENCE = -1
    SELECTION = 2**62 + 1
    DATA = -60, ENDLESS


@dataclass(frozen=True)
class Key:
    """The name of a family of draws.

    Attributes:
        seed: of the run.
        stream: purpose of the draws, a number of `Stream` or another one; streams never overlap.
    """

    seed: int
    stream: int = 0

    def child(self, stream: int) -> "Key":
        """Return the key of another stream under the same seed."""
        return replace(self, stream=stream)

    def generator(self, sample: int, step: int) -> np.random.Generator:
        """Return a generator of the random numbers of one sample at one step."""
        return np.random.Generator(self.philox(0, 0, step, sample))

    def normal(self, samples: Sequence[int], step: int, shape: Sequence[int]) -> Float[Tensor, "b ..."]:
        """Draw standard normal numbers, float32 [b, *shape] on the CPU; a longer first axis of the shape only appends.

        Neighbouring samples have neighbouring counters, so that one stream of Philox serves them all.
        """
        first, last, count = min(samples), max(samples), math.prod(shape)
        columns = [
            self.philox(first, block, step, NORMAL).random_raw(WORDS * (last - first + 1)).reshape(-1, WORDS)
            for block in range(math.ceil(count / WORDS))
        ]
        raw = np.concatenate(columns, 1)[np.asarray(samples) - first, :count]
        return normal_quantile(raw).float().view(len(samples), *shape)

    def permutation(self, n: int, step: int) -> Tensor:
        """Draw a random permutation of 0..n-1."""
        return torch.from_numpy(self.generator(0, step).permutation(n))

    def philox(self, *counter: int) -> np.random.Philox:
        """Return Philox at a counter of four words, the first of which runs."""
        # Arrays of uint64: numpy reads a list of small and large integers as floats, which merges neighbouring steps.
        key = np.array([self.seed % 2**64, self.stream % 2**64], dtype=np.uint64)
        return np.random.Philox(key=key, counter=np.array([word % 2**64 for word in counter], dtype=np.uint64))


def normal_quantile(raw: np.ndarray) -> Float[Tensor, "..."]:
    """Map random 64-bit integers to standard normal numbers, finite float64: the quantile of (i + 1/2) 2^-53 for the
    upper 53 bits i.

    The largest i would round to a quantile of 1, which is infinite; it has the largest float64 below 1.
    """
    uniform = torch.from_numpy((raw >> np.uint64(11)) + 0.5) * 2.0**-53
    normal: Tensor = torch.special.ndtri(uniform.clamp(max=1 - 2.0**-53))
    return normal


@dataclass(frozen=True)
class ChainNoise:
    """The noise of the chains of some samples, as `Policy.rollout` asks for it.

    Attributes:
        key: of the draws.
        samples: indices of the b samples; the noise of each depends on its own index alone.
        shape: of the state of one sample.
        device: of the noise.
    """

    key: Key
    samples: Sequence[int]
    shape: Sequence[int]
    device: torch.device

    def __call__(self, draw: int) -> Float[Tensor, "b ..."]:
        """Draw the noise of the prior (draw 0) or of reverse step k (draw k + 1)."""
        step = Draw.STEP.at(draw - 1) if draw else Draw.PRIOR
        return self.key.normal(self.samples, step, self.shape).to(self.device)
