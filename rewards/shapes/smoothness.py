"""How smooth a surface its points lie on: surface variation (Pauly et al. 2002, doi:10.1109/VISUAL.2002.1183771)."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from molrl.data.shapes.neighbours import neighbours
from molrl.rewards.shapes.body import Array, Body, DifferentiableReward

AROUND = 16  # neighbours that make a patch of the surface


@dataclass(frozen=True, kw_only=True)
class Smoothness(DifferentiableReward):
    """1 minus three times the mean surface variation: 1 for points on planes, below 0.5 for points that fill a space.

    The variation is the share of a patch's variance that is across it, at most 1/3; a patch is a point with its 16
    nearest. Stray points count as 1/3. 0 for a bad sample. Edges and legs vary as well, so that a shape of many parts
    has less than a plain one.
    """

    floor: float = 0.0

    def formula(self, points: Array, body: Body) -> Array:
        rows = np.concatenate([np.arange(len(body.points))[:, None], neighbours(body.points, AROUND)], 1)
        patches = points[rows]  # [n, 17, 3]
        patches = patches - patches.mean(1)[:, None]
        spread = (patches[..., :, None] * patches[..., None, :]).mean(1)  # [n, 3, 3]
        variances = eigenvalues(spread)
        across = variances[:, 0] / variances.sum(-1)
        smooth: Any = (1 - 3 * across.mean()) * (1 - body.strays)
        return cast("Array", smooth)


def eigenvalues(matrices: Array) -> Array:
    """Of symmetric matrices [n, 3, 3], ascending."""
    if isinstance(matrices, np.ndarray):
        return np.linalg.eigvalsh(matrices).astype(np.float64)
    import torch

    found: Any = torch.linalg.eigvalsh(matrices)
    return cast("Array", found)
