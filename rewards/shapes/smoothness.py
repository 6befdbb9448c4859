"""Smoothness of a shape by its surface variation (Pauly et al. 2002, doi:10.1109/VISUAL.2002.1183771)."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from molrl.data.shapes.neighbours import neighbours
from molrl.rewards.shapes.body import Array, Body, DifferentiableReward

PATCH_NEIGHBOURS = 16  # that make a patch of the surface with a point


@dataclass(frozen=True, kw_only=True)
class Smoothness(DifferentiableReward):
    """1 minus three times the mean surface variation: 1 for points on planes, below 0.5 for points that fill a volume.

    The variation is the fraction of a patch's variance that is normal to it, at most 1/3; a patch is a point with its
    16 nearest. Stray points count as 1/3. 0 for a bad sample. Edges and legs vary as well, so that a shape of many
    parts is less smooth than a plain one.
    """

    floor: float = 0.0

    def formula(self, points: Array, body: Body) -> Array:
        rows = np.concatenate([np.arange(len(body.points))[:, None], neighbours(body.points, PATCH_NEIGHBOURS)], 1)
        patches = points[rows]  # [n, 17, 3]
        patches = patches - patches.mean(1)[:, None]
        spread = (patches[..., :, None] * patches[..., None, :]).mean(1)  # [n, 3, 3]
        variances = eigenvalues(spread)
        variation = variances[:, 0] / variances.sum(-1)
        smoothness: Any = (1 - 3 * variation.mean()) * (1 - body.strays)
        return cast("Array", smoothness)


def eigenvalues(matrices: Array) -> Array:
    """Return the eigenvalues [n, 3] of symmetric matrices [n, 3, 3] in ascending order."""
    if isinstance(matrices, np.ndarray):
        return np.linalg.eigvalsh(matrices).astype(np.float64)
    import torch

    values: Any = torch.linalg.eigvalsh(matrices)
    return cast("Array", values)
