"""How well shapes match a reference set, whatever their classes and sizes: cheap enough for every report."""

from collections.abc import Mapping, Sequence

import numpy as np

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.metrics import chamfer_matrix, set_scores

POINTS = 128  # of each shape that are compared
MOST = 256  # shapes that are compared
NAMES = ("one_nna", "coverage", "mmd", "nearest", "diversity")


def quality(samples: Sequence[PointCloud], reference: Sequence[PointCloud]) -> dict[str, float]:
    """The first samples against as many reference shapes, each of the class of its sample, compared at `POINTS` points.

    The scores of `molrl.data.shapes.metrics`, but `diversity`, which is the mean distance of two samples of one class.
    """
    kept, matched = paired(samples, reference)
    if len(kept) < 2:
        return dict.fromkeys(NAMES, float("nan"))
    s, r = (np.stack([thinned(cloud) for cloud in clouds]) for clouds in (kept, matched))
    ss, sr, rr = chamfer_matrix(s, s), chamfer_matrix(s, r), chamfer_matrix(r, r)
    labels = np.array([cloud.label for cloud in kept])
    pairs = (labels[:, None] == labels) & ~np.eye(len(labels), dtype=bool)
    diversity = float(ss[pairs].mean()) if pairs.any() else float("nan")
    scores = set_scores(ss, sr, rr)
    return dict(zip(NAMES, (scores.nna, scores.coverage, scores.mmd, scores.nearest, diversity), strict=True))


def paired(
    samples: Sequence[PointCloud], reference: Sequence[PointCloud], most: int = MOST
) -> tuple[list[PointCloud], list[PointCloud]]:
    """At most `most` samples that are shapes, and for each one a reference shape of its class, none twice."""
    left: Mapping[str, list[PointCloud]] = {cloud.label: [] for cloud in reference}
    for cloud in reversed(reference):
        left[cloud.label].append(cloud)
    pairs = [
        (sample, left[sample.label].pop()) for sample in samples[:most] if len(sample) > 1 and left.get(sample.label)
    ]
    return [sample for sample, _ in pairs], [cloud for _, cloud in pairs]


def thinned(cloud: PointCloud) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """`POINTS` of the points, always the same ones; repeated where there are fewer."""
    generator = np.random.default_rng(len(cloud))
    return cloud.points[generator.choice(len(cloud), POINTS, replace=len(cloud) < POINTS)]
