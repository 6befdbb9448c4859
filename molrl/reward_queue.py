"""Rewards that are worked on while other samples are still being drawn.

A reward with `submit(samples)`, which returns a function that waits for the values, is handed every part of a round as
soon as it is finished. Any other reward is asked once, about the whole, at the end. Neither way changes a value.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

PART = 32  # samples that a CPU is given at a time: more are slower, for want of cache; the sums are those of more
SMALLEST = 2048  # numbers in a part: states of a few numbers each come in larger parts, by whole multiples


class RewardQueue:
    """Questions to a reward, and the time that they cost.

    Attributes:
        seconds: spent in handing out samples and in waiting for values; what workers do meanwhile is not counted.
    """

    def __init__(self, reward: Callable[[Sequence[Any]], Tensor]) -> None:
        self.reward = reward
        self.samples: list[Any] = []
        self.seconds = 0.0
        self._submitted: list[Callable[[], Tensor]] = []

    def submit(self, samples: Sequence[Any]) -> None:
        """Ask about some more samples."""
        began = time.perf_counter()
        self.samples.extend(samples)
        if (submit := getattr(self.reward, "submit", None)) is not None:
            self._submitted.append(submit(samples))
        self.seconds += time.perf_counter() - began

    def results(self) -> Float[Tensor, " b"]:
        """The rewards of all of them, in order: float32, NaN where there is none."""
        began = time.perf_counter()
        found = torch.cat([values() for values in self._submitted]) if self._submitted else self.reward(self.samples)
        self.seconds += time.perf_counter() - began
        return checked(found, len(self.samples))


def parts(count: int, numbers: int, device: torch.device) -> Iterator[slice]:
    """Rows to be computed at a time, of so many numbers each.

    Some `PART` of them on a CPU; all at once on an accelerator, which few would leave idle.
    """
    size = PART * max(1, SMALLEST // (PART * numbers)) if device.type == "cpu" else max(count, 1)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def checked(rewards: Tensor, count: int) -> Float[Tensor, " b"]:
    """The rewards as float32, infinities as NaN; a wrong shape stops at once."""
    if not isinstance(rewards, Tensor) or rewards.shape != (count,):
        got = tuple(rewards.shape) if isinstance(rewards, Tensor) else type(rewards).__name__
        raise ValueError(f"reward: got {got}, expected a tensor of shape ({count},), one number per sample")
    rewards = rewards.detach().float()
    return torch.where(rewards.isfinite(), rewards, torch.nan)
