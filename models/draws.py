"""Samples drawn from a policy without a reward."""

from typing import Any

import torch

from molrl.noise import Key, Stream
from molrl.policy import Policy
from molrl.task import Decoder, sample_chains


def draw_samples(policy: Policy, decoder: Decoder, n: int, *, seed: int, batch: int, device: torch.device) -> list[Any]:
    """Draw and decode n samples; sample i depends on the seed and on i alone (up to float rounding)."""
    key, samples = Key(seed, Stream.SAMPLING), list[Any]()
    for start in range(0, n, batch):
        trajectory = sample_chains(policy, decoder, range(start, min(start + batch, n)), key, device)
        samples.extend(decoder.decode(trajectory.final, trajectory.context))
    return samples
