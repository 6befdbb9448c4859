"""Calls of a network on padded sets of many sizes, a group of nearly one size at a time."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from molrl.gaussian import Context
from molrl.trajectory import select

MAX_PAIRS = 8192  # of a group: 64 channels of them are two megabytes, which a core's cache holds

Predict = Callable[[Float[Tensor, "b n c"], Float[Tensor, " b"], Context], Float[Tensor, "b n c"]]


def predict_by_size(
    predict: Predict, x: Float[Tensor, "b n c"], t: Float[Tensor, " b"], context: Context
) -> Float[Tensor, "b n c"]:
    """Return predict(x, t, context), computed in groups that are padded to their own largest set.

    Work on pairs grows with the square of the width, and most sets of a batch are smaller than its largest.

    Args:
        predict: of each set by itself, whatever the padding; it has no output there.
        x: sets, padded to n points.
        t: times.
        context: with the mask [b, n] of the real points, which are the first of each set.
    """
    parts, rows = list[Tensor](), list[Tensor]()
    for group, width in size_groups(context["mask"]):
        own = select(context, group)
        own = {**own, "mask": own["mask"][:, :width]}
        parts.append(pad(predict(x[group, :width], t[group], own), (0, 0, 0, x.shape[1] - width)))
        rows.append(group)
    return torch.cat(parts)[torch.cat(rows).argsort()] if parts else x


def size_groups(mask: Bool[Tensor, "b n"]) -> Iterator[tuple[Tensor, int]]:
    """Yield the rows of each group, and the size of its largest set: from large to small, within `MAX_PAIRS` pairs."""
    sizes = mask.sum(1)
    order, start = sizes.argsort(descending=True, stable=True), 0
    while start < len(order):
        width = max(int(sizes[order[start]]), 1)
        count = max(MAX_PAIRS // width**2, 1)
        yield order[start : start + count], width
        start += count
