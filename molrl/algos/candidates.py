"""The ball of candidates around a reverse step, for reward-guided training and for reward-guided sampling (Zhang and Xu
2023, arXiv:2304.07132; our reading).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.gaussian import Context, Space, sum_per_sample
from molrl.noise import Draw, Key


def in_ball(
    gaussian: Float[Tensor, "m ..."], uniform: Float[Tensor, " m"], space: Space, context: Context
) -> Float[Tensor, "m ..."]:
    """Map standard draws to uniform ones in the unit ball of the space: g / |g| U^(1/dof)."""
    direction = space.project(gaussian, context)
    length = uniform ** (1 / space.dof(gaussian, context)) / sum_per_sample(direction.square()).sqrt()
    return direction * length.view(-1, *[1] * (gaussian.dim() - 1))


def ball_pairs(
    x: Float[Tensor, "m ..."],
    context: Context,
    space: Space,
    rows: Sequence[int],
    key: Key,
    pairs: int,
    first_pair: int = 0,
) -> Float[Tensor, "j m ..."]:
    """Draw antithetic offsets [2 pairs, m, ...] around the states x: first u_1 .. u_pairs, then their negatives.

    Each u is uniform in the unit ball of the space.

    Args:
        rows: a number per state that keys its draws, so that they do not depend on the rest of the batch.
        first_pair: number of the first pair, for callers that draw more than one set with the same key and rows.
    """
    shape, offsets = tuple(x.shape[1:]), []
    for j in range(first_pair, first_pair + pairs):
        gaussian = key.normal(rows, Draw.BALL.at(2 * j), shape).to(x)
        uniform = torch.special.ndtr(key.normal(rows, Draw.BALL.at(2 * j + 1), (1,))).squeeze(1).to(x)
        offsets.append(in_ball(gaussian, uniform, space, context))
    half = torch.stack(offsets)
    return torch.cat([half, -half])
