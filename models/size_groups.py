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
        predict: of each set by itself, whatever the order of its points and the padding, for which it gives zeros.
        x: sets, padded to n points.
        t: times.
        context: with the mask [b, n] of the real points, and other marks of points, booleans or integers [b, n].
    """
    order = context["mask"].argsort(dim=1, descending=True, stable=True)  # of the points: the real ones first
    marks = {name: value.gather(1, order) for name, value in context.items() if is_mark(value, order)}
    mask, points = marks["mask"], x.take_along_dim(order.unsqueeze(-1), 1)
    parts, groups = list[Tensor](), list[Tensor]()
    for rows, width in size_groups(mask):
        own = {**select(context, rows), **{name: mark[rows, :width] for name, mark in marks.items()}}
        parts.append(pad(predict(points[rows, :width], t[rows], own), (0, 0, 0, x.shape[1] - width)))
        groups.append(rows)
    if not parts:
        return x
    return torch.cat(parts)[torch.cat(groups).argsort()].take_along_dim(order.argsort(1).unsqueeze(-1), 1)


def is_mark(value: Tensor, points: Tensor) -> bool:
    """Tell whether an entry of the context is a mark of each point, booleans or integers [b, n]."""
    return not value.is_floating_point() and value.shape == points.shape


def size_groups(mask: Bool[Tensor, "b n"]) -> Iterator[tuple[Tensor, int]]:
    """Yield the rows of each group, and the size of its largest set: from large to small, within `MAX_PAIRS` pairs."""
    sizes = mask.sum(1)
    order, start = sizes.argsort(descending=True, stable=True), 0
    while start < len(order):
        width = max(int(sizes[order[start]]), 1)
        count = max(MAX_PAIRS // width**2, 1)
        yield order[start : start + count], width
        start += count
