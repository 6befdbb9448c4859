"""Descriptors of a shape for the memory of variety: its class, and a coarse outline as the bucket of shapes alike."""

from collections.abc import Mapping

import numpy as np
import torch

from molrl.data.shapes.cloud import PointCloud, TracedPointCloud

DESCRIPTORS = ("bucket", "class")
SLICES = 4  # horizontal ones of the box
LEVELS = 4  # that edges and shares are rounded to


def describe_shape(shape: PointCloud | TracedPointCloud) -> Mapping[str, str]:
    """Return the descriptors of a shape; none of a sample that is not one.

    class: its label; bucket: label, edges of the box over the longest, and share of the points in each horizontal slice
    of it, in quarters. Two samplings of one surface share a bucket unless a figure lies at a boundary.
    """
    given = shape.points
    points = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else given
    edges = np.ptp(points, axis=0) if len(points) > 1 else np.zeros(3)
    if not (np.isfinite(points).all() and edges.max() > 0):
        return {}
    height = (points[:, 1] - points[:, 1].min()) / max(edges[1], np.finfo(np.float32).tiny)
    slices = np.bincount((height * SLICES).astype(int).clip(0, SLICES - 1), minlength=SLICES) / len(points)
    figures = np.concatenate([edges / edges.max(), slices])
    outline = " ".join(map(str, (figures * LEVELS).round().astype(int)))
    return {"bucket": f"{shape.label} {outline}", "class": shape.label}
