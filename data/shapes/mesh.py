"""Triangle meshes and points sampled on their surfaces."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_VERTICES, MAX_FACES = 2_000_000, 4_000_000
MAX_COORDINATE = 1e9


class ShapeError(ValueError):
    """An error for a file that gives no shape; the message is the reason alone."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles, or bare points if there are no faces.

    A mesh need not be closed or manifold: points can be sampled on any surface with an area.

    Attributes:
        vertices: float64 [v, 3].
        faces: indices of vertices, int64 [f, 3].

    Raises ShapeError for too many vertices or faces, coordinates out of range, and indices of missing vertices.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.vertices)
        if not 0 < count <= MAX_VERTICES:
            raise ShapeError(f"{count} vertices, allowed: 1 to {MAX_VERTICES}")
        if len(self.faces) > MAX_FACES:
            raise ShapeError(f"{len(self.faces)} faces, allowed: at most {MAX_FACES}")
        if not np.isfinite(self.vertices).all():
            raise ShapeError("non-finite coordinates")
        if np.abs(self.vertices).max() > MAX_COORDINATE:
            raise ShapeError(f"a coordinate beyond {MAX_COORDINATE:g}")
        if len(self.faces) and not 0 <= self.faces.min() <= self.faces.max() < count:
            raise ShapeError(f"a face names a vertex that is not there: there are {count}")

    def areas(self) -> NDArray[np.float64]:
        """Return the areas of the triangles [f]."""
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        areas: NDArray[np.float64] = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        return areas

    def count_non_manifold_edges(self) -> int:
        """Count the edges of more than two triangles; corners in one place count as one vertex."""
        _, place = np.unique(self.vertices, axis=0, return_inverse=True)
        faces = place.reshape(-1)[self.faces]
        faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        _, counts = np.unique(edges[:, 0] * len(self.vertices) + edges[:, 1], return_counts=True)
        return int((counts > 2).sum())

    def sample(self, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Sample points [count, 3] uniformly on the surface.

        Raises ShapeError for a surface without area.
        """
        total = self.areas().cumsum()
        if not len(total) or not total[-1] > 0:
            raise ShapeError("no surface: all triangles have an area of 0")
        rows = np.searchsorted(total, generator.random(count) * total[-1], side="right").clip(max=len(total) - 1)
        a, b, c = (self.vertices[self.faces[rows, corner]] for corner in range(3))
        u, v = generator.random((2, count, 1))
        u = np.sqrt(u)  # uniform on a triangle (Osada et al. 2002, doi:10.1145/571647.571648, Eq. 1)
        return np.asarray((1 - u) * a + u * (1 - v) * b + u * v * c)


def mesh_from_polygons(vertices: list[list[float]] | NDArray[np.floating], polygons: list[list[int]]) -> Mesh:
    """Make a mesh of polygons, each split into a fan of triangles."""
    faces = [(ring[0], ring[k], ring[k + 1]) for ring in polygons for k in range(1, len(ring) - 1)]
    if len(faces) > MAX_FACES:
        raise ShapeError(f"{len(faces)} faces, allowed: at most {MAX_FACES}")
    points = np.array(vertices, dtype=np.float64).reshape(-1, 3)
    return Mesh(points, np.array(faces, dtype=np.int64).reshape(-1, 3))
