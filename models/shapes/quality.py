"""Distances of shapes to a reference set, whatever their classes and sizes, cheap enough for every report."""

from collections.abc import Mapping, Sequence

import numpy as np

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.metrics import chamfer_matrix, set_scores
from molrl.models.shapes.glossary import MAX_SHAPES

COMPARED_POINTS = 128  # of each shape
NAMES = ("one_nna", "coverage", "mmd", "nearest", "diversity")


def quality(samples: Sequence[PointCloud], reference: Sequence[PointCloud]) -> dict[str, float]:
    """Return metrics of the first samples against as many reference shapes, each of the class of its sample.

    They are the scores of `molrl.data.shapes.metrics` at `COMPARED_POINTS` points of each shape, and `diversity`, the
    mean distance of two samples of one class.
    """
    kept, matched = pair_with_reference(samples, reference)
    if len(kept) < 2:
        return dict.fromkeys(NAMES, float("nan"))
    s, r = (np.stack([choose_points(cloud) for cloud in clouds]) for clouds in (kept, matched))
    ss, sr, rr = chamfer_matrix(s, s), chamfer_matrix(s, r), chamfer_matrix(r, r)
    labels = np.array([cloud.label for cloud in kept])
    pairs = (labels[:, None] == labels) & ~np.eye(len(labels), dtype=bool)
    diversity = float(ss[pairs].mean()) if pairs.any() else float("nan")
    scores = set_scores(ss, sr, rr)
    return dict(zip(NAMES, (scores.nna, scores.coverage, scores.mmd, scores.nearest, diversity), strict=True))


def pair_with_reference(
    samples: Sequence[PointCloud], reference: Sequence[PointCloud], max_shapes: int = MAX_SHAPES
) -> tuple[list[PointCloud], list[PointCloud]]:
    """Return samples that are shapes, and for each one a reference shape of its class, none of them twice."""
    unused: Mapping[str, list[PointCloud]] = {cloud.label: [] for cloud in reference}
    for cloud in reversed(reference):
        unused[cloud.label].append(cloud)
    pairs = [
        (sample, unused[sample.label].pop())
        for sample in samples[:max_shapes]
        if len(sample) > 1 and unused.get(sample.label)
    ]
    return [sample for sample, _ in pairs], [cloud for _, cloud in pairs]


def choose_points(cloud: PointCloud) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Return `COMPARED_POINTS` of the points, always the same ones; some are repeated where there are fewer."""
    generator = np.random.default_rng(len(cloud))
    return cloud.points[generator.choice(len(cloud), COMPARED_POINTS, replace=len(cloud) < COMPARED_POINTS)]
