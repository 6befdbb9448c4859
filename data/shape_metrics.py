"""How a set of generated shapes compares with a set of real ones.

Distances as the field has them: Chamfer of squared distances with both directions added (Fan et al. 2017,
arXiv:1612.00603), the earth mover's of plain ones. Scores of sets: MMD and coverage (Achlioptas et al. 2018,
arXiv:1707.02392) and 1-NNA (Lopez-Paz and Oquab 2017, arXiv:1610.06545; Yang et al. 2019, arXiv:1906.12320). Both sets
must have the same number of points and the same normalisation; a published 1-NNA takes at least 400 shapes of each, and
with 100 of each it moves by 6 points from one sampling to the next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from molrl.data.neighbours import scipy_part, tree
from molrl.data.shape import PointCloud

Points: TypeAlias = NDArray[np.floating]
Matrix: TypeAlias = NDArray[np.float64]
Kind: TypeAlias = Literal["chamfer", "emd"]

MATCHED = 512  # points that are matched: the exact matching of 2048 takes a second
SEED = 0  # of their choice


def chamfer(first: Points, second: Points) -> float:
    """Mean squared distance to the nearest point of the other set [n, 3], both directions added."""
    return between(tree(first), tree(second))


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


def between(first: Any, second: Any) -> float:
    """The Chamfer distance of two trees."""
    there, back = second.query(first.data)[0], first.query(second.data)[0]
    return float(np.square(there).mean() + np.square(back).mean())


@dataclass(frozen=True)
class SetScores:
    """Scores of samples S against references R.

    Attributes:
        nna: share of S and R whose nearest other shape is of their own set: 0.5 where they cannot be told apart, near
            1 for collapsed or bad samples, near 0 for memorised references.
        coverage: share of R that is nearest to some sample; about 0.6, not 1, for another sampling of one distribution.
        mmd: mean distance of a reference to the nearest sample; blind to bad samples.
        diversity: mean distance of two samples; NaN for one.
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
    def prepared(self) -> list[Any]:
        """The references, ready for distances."""
        return ready(self.clouds, self.kind)

    @cached_property
    def own(self) -> Matrix:
        """The distances among them."""
        return among(self.prepared, self.kind)

    def compare(self, samples: Sequence[PointCloud]) -> SetScores:
        """The scores of as many samples as there are references.

        Raises ValueError for another number of samples or of points.
        """
        if len(samples) != len(self.clouds):
            raise ValueError(f"samples: got {len(samples)} for {len(self.clouds)} references, need as many")
        if {len(cloud) for cloud in samples} != {len(self.clouds[0])}:
            raise ValueError(f"samples: got {sizes(samples)}, need {len(self.clouds[0])} points as the references have")
        prepared = ready(samples, self.kind)
        distance = measure(self.kind)
        across = np.array([[distance(sample, real) for real in self.prepared] for sample in prepared])
        return set_scores(among(prepared, self.kind), across, self.own)


def set_scores(samples: Matrix, across: Matrix, references: Matrix) -> SetScores:
    """The scores from the distances of samples to each other [s, s], to references [s, r], and of these [r, r]."""
    count = len(samples)
    pairs = samples[np.triu_indices(count, 1)]
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


def among(prepared: Sequence[Any], kind: Kind) -> Matrix:
    """The distances of shapes to each other, symmetric."""
    distance = measure(kind)
    matrix = np.zeros((len(prepared), len(prepared)))
    for row, column in combinations(range(len(prepared)), 2):
        matrix[row, column] = matrix[column, row] = distance(prepared[row], prepared[column])
    return matrix


def ready(clouds: Sequence[PointCloud], kind: Kind) -> list[Any]:
    """What the distance of this kind is worked out from."""
    return [tree(cloud.points) if kind == "chamfer" else cloud.points for cloud in clouds]


def measure(kind: Kind) -> Callable[[Any, Any], float]:
    """The distance of this kind."""
    return between if kind == "chamfer" else emd


def sizes(clouds: Sequence[PointCloud]) -> str:
    """The numbers of points, for an error message."""
    found = sorted({len(cloud) for cloud in clouds})
    return f"{len(clouds)} shapes of {', '.join(map(str, found[:3]))}{', ...' if len(found) > 3 else ''} points"
