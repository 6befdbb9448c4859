"""Samples from a model as it is."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from molrl.noise import Key
from molrl.policy import Policy
from molrl.task import Decoder


def draw_samples(policy: Policy, decoder: Decoder, n: int, *, seed: int, batch: int, device: torch.device) -> list[Any]:
    """n finished samples; sample i depends on the seed and on i, not on n or the batch (to float rounding)."""
    key, drawn = Key(seed), list[Any]()
    for start in range(0, n, batch):
        samples = range(start, min(start + batch, n))
        context = decoder.draw_context(samples, key)
        shape = decoder.state_shape(context)
        context = {name: value.to(device) for name, value in context.items()}
        noise = partial(draw_noise, key, samples, shape, device)
        drawn.extend(decoder.decode(policy.rollout(context, noise).final, context))
    return drawn


def draw_noise(key: Key, samples: Sequence[int], shape: Sequence[int], device: torch.device, draw: int) -> Tensor:
    """Noise of one draw: 0 for the prior, k + 1 for step k."""
    return key.normal(samples, draw + 1, shape).to(device)
