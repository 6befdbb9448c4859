"""Which reverse steps of a chain are learned from."""

import torch
from jaxtyping import Bool
from torch import Tensor

from molrl.noise import Key


def window_of(steps: int, first: float, last: float) -> range:
    """The reverse steps between two shares of a chain; at least one."""
    start = min(round(first * steps), steps - 1)
    return range(start, max(round(last * steps), start + 1))


def random_steps(
    steps: int, samples: list[int], key: Key, stream: int, allowed: range, count: int
) -> Bool[Tensor, "steps b"]:
    """`count` of the allowed steps for each sample, drawn anew for each; all of them if there are no more."""
    keep = torch.zeros(steps, len(samples), dtype=torch.bool)
    if count >= len(allowed):
        keep[allowed.start : allowed.stop] = True
        return keep
    for column, sample in enumerate(samples):
        chosen = key.generator(sample, stream).permutation(allowed)[:count]
        keep[torch.from_numpy(chosen), column] = True
    return keep
