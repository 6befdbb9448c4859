"""Solid bodies as watertight unions of convex parts.

Needs manifold3d (the extra `shapes`), whose booleans always give a closed surface.
"""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from molrl.data.shapes.mesh import Mesh

CIRCLE_SIDES = 12  # of the polygon for a circle


def import_manifold() -> Any:
    """Import the module manifold3d when it is needed.

    Raises ImportError, which says what to install.
    """
    try:
        return importlib.import_module("manifold3d")
    except ImportError as error:
        raise ImportError("solid shapes need manifold3d: pip install 'molrl[shapes]'") from error


def hull(points: ArrayLike) -> Any:
    """Return the convex hull of points [n, 3]."""
    return import_manifold().Manifold.hull_points(np.asarray(points, dtype=np.float64))


def box(centre: ArrayLike, size: ArrayLike, tilt: float = 0.0) -> Any:
    """Return a box, turned by `tilt` radians about the x axis through its centre, the top toward -z."""
    corners = (np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), -1).reshape(-1, 3)) * np.asarray(size)
    cos, sin = np.cos(tilt), np.sin(tilt)
    return hull(corners @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) + np.asarray(centre))


def rings(centres: ArrayLike, radii: Iterable[float]) -> Any:
    """Return the convex hull of circles about a common straight axis: a rod, a cone, a fuselage."""
    axis = np.asarray(centres, dtype=np.float64)
    along = (axis[-1] - axis[0]) / np.linalg.norm(axis[-1] - axis[0])
    aside = np.cross(along, np.eye(3)[np.argmin(np.abs(along))])
    aside /= np.linalg.norm(aside)
    angle = 2 * np.pi * (np.arange(CIRCLE_SIDES) + 0.5) / CIRCLE_SIDES
    circle = np.cos(angle)[:, None] * aside + np.sin(angle)[:, None] * np.cross(along, aside)
    return hull(np.concatenate([centre + radius * circle for centre, radius in zip(axis, radii, strict=True)]))


def union(parts: Sequence[Any]) -> Mesh | None:
    """Return the outer surface of the union of parts, or None if that is not connected."""
    module = import_manifold()
    body = module.Manifold.batch_boolean(list(parts), module.OpType.Add)
    if len(body.decompose()) != 1:
        return None
    mesh = body.to_mesh()
    return Mesh(np.array(mesh.vert_properties[:, :3], dtype=np.float64), np.array(mesh.tri_verts, dtype=np.int64))
