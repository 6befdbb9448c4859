"""Samples drawn from a policy without a reward."""

import math
from typing import Any

import torch

from molrl.noise import Key, Stream
from molrl.policy import Policy
from molrl.progress import stage
from molrl.reward_queue import parts
from molrl.task import Decoder, sample_chains


def draw_samples(policy: Policy, decoder: Decoder, n: int, *, seed: int, batch: int, device: torch.device) -> list[Any]:
    """Draw and decode n samples; sample i depends on the seed and on i alone (up to float rounding)."""
    key, samples = Key(seed, Stream.SAMPLING), list[Any]()
    with stage("samples drawn", n) as advance:
        for start in range(0, n, batch):
            drawn = range(start, min(start + batch, n))
            numbers = math.prod(decoder.state_shape(decoder.draw_context(drawn, key)))
            for part in parts(len(drawn), numbers, device):
                trajectory = sample_chains(policy, decoder, drawn[part], key, device)
                samples.extend(decoder.decode(trajectory.final, trajectory.context))
                advance(len(drawn[part]))
    return samples
