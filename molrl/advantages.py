"""From rewards to advantages: how much better a sample is than what was to be expected.

Rewards that are NaN (could not be scored) take no part in any statistic, and have advantage NaN: their steps are
dropped before the loss.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_STD = 1e-6


def standardised(rewards: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """(r - mean) / std over the batch (Black et al. 2023, arXiv:2305.13301, Sec. 5); all zero where nothing varies."""
    known = rewards[~rewards.isnan()]
    if len(known) < 2 or known.std(correction=0) < SMALLEST_STD:
        return rewards * 0
    return (rewards - known.mean()) / known.std(correction=0)


def per_group(rewards: Float[Tensor, " b"], groups: Sequence[int]) -> Float[Tensor, " b"]:
    """(r - mean of the group) / std of the batch's deviations: compare a sample with those asked for the same thing.

    A group of one tells nothing and has advantage zero.
    """
    keys = torch.tensor(list(groups), device=rewards.device)
    centred = rewards.clone()
    for key in keys.unique():
        members = keys == key
        centred[members] -= rewards[members].nanmean()
    known = centred[~centred.isnan()]
    spread = known.square().mean().sqrt() if len(known) else torch.tensor(0.0)
    return centred * 0 if spread < SMALLEST_STD else centred / spread
