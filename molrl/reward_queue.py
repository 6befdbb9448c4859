"""A queue of samples for a reward, which may compute while other samples are still being drawn.

A reward with `submit(samples)`, which returns a function that waits for the values, receives every part of a round as
soon as it is finished. Any other reward is called once at the end with all samples. The values are the same.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

PART_ROWS = 32  # samples that a CPU computes at a time: more do not fit its cache and are slower
EXPLAINED = 3  # samples without a reward that are scored once more for the reason
MIN_PART_NUMBERS = 8192  # numbers in a part: small states come in larger parts, by whole multiples of PART_ROWS


class RewardQueue:
    """A queue of samples for a reward, which measures the time that the reward takes.

    Attributes:
        reward: the reward of the samples.
        samples: all samples so far.
        seconds: time spent in submitting samples and in waiting for values, without what workers compute meanwhile.
    """

    def __init__(self, reward: Callable[[Sequence[Any]], Tensor]) -> None:
        self.reward = reward
        self.samples: list[Any] = []
        self.seconds = 0.0
        self._submitted: list[Callable[[], Tensor]] = []

    def submit(self, samples: Sequence[Any]) -> None:
        """Add samples, and let a reward with workers begin with them."""
        began = time.perf_counter()
        self.samples.extend(samples)
        if (submit := getattr(self.reward, "submit", None)) is not None:
            self._submitted.append(submit(samples))
        self.seconds += time.perf_counter() - began

    def results(self) -> Float[Tensor, " b"]:
        """Wait for the rewards of all samples, in order: float32, NaN where there is none."""
        began = time.perf_counter()
        rewards = torch.cat([wait() for wait in self._submitted]) if self._submitted else self.reward(self.samples)
        self.seconds += time.perf_counter() - began
        return check_rewards(rewards, len(self.samples))


def explain_losses(reward: Any, samples: Sequence[Any], values: Sequence[float]) -> str:
    """Return why samples have no value, by scoring the first few of them once more.

    Args:
        reward: its `score(samples)`, if it has one, gives `reasons`.
        values: one for each sample, NaN where there is none.
    """
    lost = [sample for sample, value in zip(samples, values, strict=True) if math.isnan(value)][:EXPLAINED]
    score = getattr(reward, "score", None)
    reasons = [] if score is None else dict.fromkeys(filter(None, getattr(score(lost), "reasons", ())))
    return "; ".join(reasons) or "the reward gives no reason"


def parts(count: int, numbers: int, device: torch.device) -> Iterator[slice]:
    """Split `count` rows of so many numbers each into the parts that a device computes at a time."""
    size = part_rows(numbers, device) or max(count, 1)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def part_rows(numbers: int, device: torch.device) -> int | None:
    """Return how many rows of so many numbers each a device computes at a time; None: all of them.

    A CPU takes parts that fit its cache; an accelerator, which few rows would leave idle, takes all at once.
    """
    return PART_ROWS * max(1, MIN_PART_NUMBERS // (PART_ROWS * numbers)) if device.type == "cpu" else None


def check_rewards(rewards: Tensor, count: int) -> Float[Tensor, " b"]:
    """Return the rewards as float32 with NaN for infinities.

    Raises:
        ValueError: the rewards are not one number per sample.
    """
    if not isinstance(rewards, Tensor) or rewards.shape != (count,):
        got = tuple(rewards.shape) if isinstance(rewards, Tensor) else type(rewards).__name__
        raise ValueError(f"reward: got {got}, expected a tensor of shape ({count},), one number per sample")
    rewards = rewards.detach().float()
    return torch.where(rewards.isfinite(), rewards, torch.nan)
