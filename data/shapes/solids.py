"""Solid bodies from convex parts: unions that are watertight.

Needs manifold3d (the extra `shapes`), whose booleans always give a closed surface.
"""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from molrl.data.shapes.mesh import Mesh

SIDES = 12  # of what is round


def library() -> Any:
    """The module manifold3d.

    Raises ImportError where it is not installed.
    """
    try:
        return importlib.import_module("manifold3d")
    except ImportError as error:
        raise ImportError("solid shapes need manifold3d: pip install 'molrl[shapes]'") from error


def hull(points: ArrayLike) -> Any:
    """The convex body around points [n, 3]."""
    return library().Manifold.hull_points(np.asarray(points, dtype=np.float64))


def box(centre: ArrayLike, size: ArrayLike, tilt: float = 0.0) -> Any:
    """A box; `tilt` radians turn it about the x axis through its centre, the top toward -z."""
    corners = (np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), -1).reshape(-1, 3)) * np.asarray(size)
    cos, sin = np.cos(tilt), np.sin(tilt)
    return hull(corners @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) + np.asarray(centre))


def rings(centres: ArrayLike, radii: Iterable[float]) -> Any:
    """The convex body around circles about a common straight axis: a rod, a cone, a fuselage."""
    axis = np.asarray(centres, dtype=np.float64)
    along = (axis[-1] - axis[0]) / np.linalg.norm(axis[-1] - axis[0])
    aside = np.cross(along, np.eye(3)[np.argmin(np.abs(along))])
    aside /= np.linalg.norm(aside)
    angle = 2 * np.pi * (np.arange(SIDES) + 0.5) / SIDES
    circle = np.cos(angle)[:, None] * aside + np.sin(angle)[:, None] * np.cross(along, aside)
    return hull(np.concatenate([centre + radius * circle for centre, radius in zip(axis, radii, strict=True)]))


def union(parts: Sequence[Any]) -> Mesh | None:
    """The outer surface of all parts together; None unless they hang together as one piece."""
    module = library()
    whole = module.Manifold.batch_boolean(list(parts), module.OpType.Add)
    if len(whole.decompose()) != 1:
        return None
    mesh = whole.to_mesh()
    return Mesh(np.array(mesh.vert_properties[:, :3], dtype=np.float64), np.array(mesh.tri_verts, dtype=np.int64))
