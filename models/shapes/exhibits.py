"""Shapes as a report shows them: points to turn in space, and what the samples are made of."""

from collections.abc import Mapping, Sequence

import numpy as np

from molrl.data.shapes.cloud import PointCloud, place_in_unit_box
from molrl.exhibit import Counts, Exhibit, count

EDGES = ("width", "height", "depth")  # of the box around a shape, along x, y and z
STEPS = 4  # of an edge over the longest, in the distributions


def exhibit_shape(shape: PointCloud) -> Exhibit:
    """Return a shape with its points and the proportions of its box; without points where it is no shape."""
    title = shape.label or "shape"
    if not is_shape(shape):
        return Exhibit(f"{title}: no shape", {"valid": "no", "class": shape.label})
    edges = proportions(shape)
    facts: dict[str, str | float] = {"valid": "yes", "class": shape.label, "points": len(shape)}
    return Exhibit(title, facts | dict(zip(EDGES, edges, strict=True)), points=place_in_unit_box(shape.points))


def count_makeup(shapes: Sequence[PointCloud]) -> Mapping[str, Counts]:
    """Return how often classes, and proportions of the box in quarters, occur among the samples that are shapes."""
    good = [shape for shape in shapes if is_shape(shape)]
    found = {"classes": count([shape.label or "none" for shape in good], "shapes")}
    for axis, name in enumerate(EDGES):
        steps = [round(proportions(shape)[axis] * STEPS) / STEPS for shape in good]
        found[f"{name}, longest edge 1"] = count([f"{step:.2f}" for step in sorted(steps)], "shapes")
    return found


def is_shape(shape: PointCloud) -> bool:
    """Tell whether a sample has points in more than one place."""
    return len(shape) > 1 and bool(np.ptp(shape.points, axis=0).max() > 0)


def proportions(shape: PointCloud) -> list[float]:
    """Return the edges of the box around a shape over the longest of them."""
    edges = np.ptp(shape.points, axis=0)
    return [round(float(edge), 3) for edge in edges / edges.max()]
