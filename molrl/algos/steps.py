"""Choice of the reverse steps of a chain that are learned from."""

import torch
from jaxtyping import Bool
from torch import Tensor

from molrl.noise import Key
from molrl.trajectory import Transitions


def window_of(steps: int, first: float, last: float) -> range:
    """Return the reverse steps between two fractions of a chain; at least one."""
    start = min(round(first * steps), steps - 1)
    return range(start, max(round(last * steps), start + 1))


def spread_steps(steps: int, first: float, last: float, count: int) -> list[int]:
    """Return `count` reverse steps spread evenly between two fractions of a chain, or all if there are no more."""
    window = window_of(steps, first, last)
    count = min(count, len(window))
    return [window[(2 * k + 1) * len(window) // (2 * count)] for k in range(count)]


def random_steps(
    steps: int, samples: list[int], key: Key, stream: int, allowed: range, count: int
) -> Bool[Tensor, "steps b"]:
    """Choose `count` of the allowed steps for each sample, drawn anew for each; all of them if there are no more."""
    keep = torch.zeros(steps, len(samples), dtype=torch.bool)
    if count >= len(allowed):
        keep[allowed.start : allowed.stop] = True
        return keep
    for column, sample in enumerate(samples):
        chosen = key.generator(sample, stream).permutation(allowed)[:count]
        keep[torch.from_numpy(chosen), column] = True
    return keep


def row_numbers(table: Transitions, samples: list[int], num_steps: int) -> list[int]:
    """Return a number for each row that no other (sample, step) has, to key noise by."""
    pairs = zip(table.sample.tolist(), table.step.tolist(), strict=True)
    return [samples[sample] * num_steps + step for sample, step in pairs]
