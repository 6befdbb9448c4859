"""How a set of generated shapes compares with a set of real ones.

Distances as the field has them: Chamfer of squared distances with both directions added (Fan et al. 2017,
arXiv:1612.00603), the earth mover's of plain ones. Scores of sets: MMD and coverage (Achlioptas et al. 2018,
arXiv:1707.02392) and 1-NNA (Lopez-Paz and Oquab 2017, arXiv:1610.06545; Yang et al. 2019, arXiv:1906.12320). Both sets
must have the same number of points and the same normalisation; a published 1-NNA takes at least 400 shapes of each, and
with 100 of each it moves by 6 points from one sampling to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.neighbours import scipy_part

Points: TypeAlias = NDArray[np.floating]
Matrix: TypeAlias = NDArray[np.float64]
Kind: TypeAlias = Literal["chamfer", "emd"]

MATCHED = 512  # points that are matched: the exact matching of 2048 takes a second
SEED = 0  # of their choice
AT_ONCE = 1 << 16  # distances: half a megabyte, which stays in the cache of a core


def chamfer(first: Points, second: Points) -> float:
    """Mean squared distance to the nearest point of the other set [n, 3], both directions added."""
    return float(chamfers(first[None], second[None])[0, 0])


def chamfers(first: Points, second: Points) -> Matrix:
    """The same between all shapes of two sets [k, n, 3] and [l, m, 3], as [k, l]."""
    left, right = lifted(first, ones_first=False), lifted(second, ones_first=True)
    left[..., :3] *= -2.0  # |a - b|^2 = -2 a b + |a|^2 + |b|^2 as one product
    found = np.empty((len(first), len(second)))
    points = second.shape[1]
    step = max(1, AT_ONCE // (first.shape[1] * points))
    for row, one in enumerate(left):
        for start in range(0, len(second), step):
            some = right[start : start + step]
            square = np.maximum(one @ some.reshape(-1, 5).T, 0.0).reshape(len(one), len(some), points)
            found[row, start : start + step] = square.min(2).mean(0) + square.min(0).mean(1)
    return found


def lifted(clouds: Points, *, ones_first: bool) -> Matrix:
    """Points [k, n, 3] with their squared norm and a 1, in this order or the other [k, n, 5]."""
    wide = clouds.astype(np.float64)
    norm = (wide**2).sum(-1, keepdims=True)
    pair = [np.ones_like(norm), norm] if ones_first else [norm, np.ones_like(norm)]
    return np.concatenate([wide, *pair], -1)


def emd(first: Points, second: Points) -> float:
    """Mean distance of the best matching of two sets [n, 3], exact; of more than 512 points, 512 are drawn from each.

    The draw has a fixed seed: it is always the same rows. Raises ValueError for sets of different sizes.
    """
    if len(first) != len(second):
        raise ValueError(f"emd: got {len(first)} and {len(second)} points, need as many of both")
    chosen = slice(None)
    if len(first) > MATCHED:
        chosen = np.random.default_rng(SEED).permutation(len(first))[:MATCHED]  # type: ignore[assignment]
    cost = scipy_part("spatial.distance").cdist(first[chosen], second[chosen])
    rows, columns = scipy_part("optimize").linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())


@dataclass(frozen=True)
class SetScores:
    """Scores of samples S against references R.

    Attributes:
        nna: share of S and R whose nearest other shape is of their own set: 0.5 where they cannot be told apart, near
            1 for collapsed or bad samples, near 0 for memorised references.
        coverage: share of R that is nearest to some sample; about 0.6, not 1, for another sampling of one distribution.
        mmd: mean distance of a reference to the nearest sample; blind to bad samples.
        diversity: mean distance of two samples of one class; NaN where there are none.
        nearest: mean distance of a sample to the nearest reference; 0 for copies.
    """

    nna: float
    coverage: float
    mmd: float
    diversity: float
    nearest: float


@dataclass(frozen=True, eq=False)
class References:
    """Shapes to compare with; the distances among them are worked out once.

    Attributes:
        clouds: of one number of points.
        kind: of distance.
    """

    clouds: Sequence[PointCloud]
    kind: Kind = "chamfer"

    def __post_init__(self) -> None:
        if self.kind not in ("chamfer", "emd"):
            raise ValueError(f"kind: got {self.kind!r}, allowed are 'chamfer', 'emd'")
        if not self.clouds or len({len(cloud) for cloud in self.clouds}) > 1:
            raise ValueError(f"references: got {sizes(self.clouds)}, need shapes of one number of points")

    @cached_property
    def own(self) -> Matrix:
        """The distances among them."""
        return among(stacked(self.clouds), self.kind)

    def compare(self, samples: Sequence[PointCloud]) -> SetScores:
        """The scores of as many samples as there are references.

        Raises ValueError for another number of samples or of points.
        """
        if len(samples) != len(self.clouds):
            raise ValueError(f"samples: got {len(samples)} for {len(self.clouds)} references, need as many")
        if {len(cloud) for cloud in samples} != {len(self.clouds[0])}:
            raise ValueError(f"samples: got {sizes(samples)}, need {len(self.clouds[0])} points as the references have")
        drawn, real = stacked(samples), stacked(self.clouds)
        across = apart(drawn, real, self.kind)
        labels = np.array([cloud.label for cloud in samples])
        return set_scores(among(drawn, self.kind), across, self.own, labels[:, None] == labels)


def set_scores(
    samples: Matrix, across: Matrix, references: Matrix, alike: NDArray[np.bool_] | None = None
) -> SetScores:
    """The scores from the distances of samples to each other [s, s], to references [s, r], and of these [r, r].

    Args:
        alike: which pairs of samples [s, s] are of one class; None: all.
    """
    upper = np.triu(np.ones(samples.shape, dtype=np.bool_), 1)
    pairs = samples[upper if alike is None else upper & alike]
    return SetScores(
        nna=one_nearest_neighbour(samples, across, references),
        coverage=len(np.unique(across.argmin(1))) / across.shape[1],
        mmd=float(across.min(0).mean()),
        diversity=float(pairs.mean()) if len(pairs) else float("nan"),
        nearest=float(across.min(1).mean()),
    )


def one_nearest_neighbour(samples: Matrix, across: Matrix, references: Matrix) -> float:
    """Leave-one-out accuracy of telling samples from references by the nearest other shape."""
    whole = np.block([[samples, across], [across.T, references]])
    np.fill_diagonal(whole, np.inf)
    real = np.arange(len(whole)) >= len(samples)
    return float((real[whole.argmin(1)] == real).mean())


def apart(first: Points, second: Points, kind: Kind) -> Matrix:
    """The distances between shapes [k, n, 3] and [l, n, 3], as [k, l]."""
    if kind == "chamfer":
        return chamfers(first, second)
    return np.array([[emd(one, other) for other in second] for one in first])


def among(shapes: Points, kind: Kind) -> Matrix:
    """The distances of shapes [k, n, 3] to each other, symmetric."""
    matrix = np.zeros((len(shapes), len(shapes)))
    for row in range(len(shapes) - 1):
        matrix[row, row + 1 :] = matrix[row + 1 :, row] = apart(shapes[row, None], shapes[row + 1 :], kind)[0]
    return matrix


def stacked(clouds: Sequence[PointCloud]) -> Points:
    """Shapes of one number of points as [k, n, 3]."""
    return np.stack([cloud.points for cloud in clouds])


def sizes(clouds: Sequence[PointCloud]) -> str:
    """The numbers of points, for an error message."""
    found = sorted({len(cloud) for cloud in clouds})
    return f"{len(clouds)} shapes of {', '.join(map(str, found[:3]))}{', ...' if len(found) > 3 else ''} points"
