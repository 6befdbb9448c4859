"""Triangle meshes and points sampled on their surfaces."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MAX_VERTICES, MAX_FACES = 2_000_000, 4_000_000  # the cube of the first fits 63 bits
MAX_COORDINATE = 1e9
MOMENT_CELLS = 1000 / np.pi  # of a length; irrational, so that no simple fraction lies between two cells


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

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """The corners of the triangles [f, 3], with one number for all vertices in one place."""
        _, place = merge_places(self.vertices)
        return place[self.faces]

    def count_non_manifold_edges(self) -> int:
        """Count the edges of more than two triangles; corners in one place count as one vertex."""
        faces = self.places[(self.places != np.roll(self.places, 1, axis=1)).all(1)]
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        _, counts = np.unique(edges[:, 0] * len(self.vertices) + edges[:, 1], return_counts=True)
        return int((counts > 2).sum())

    def is_closed(self) -> bool:
        """Tell whether each edge belongs to two triangles that run along it in opposite directions."""
        ends = np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        along, back = (ends @ np.array(order) for order in ([len(self.vertices), 1], [1, len(self.vertices)]))
        single = len(np.unique(along)) == len(along)
        return bool(len(ends)) and single and bool((np.sort(along) == np.sort(back)).all())

    def without_doubles(self) -> "Mesh":
        """Return the mesh with one triangle of each set of corners, which a front and a back have in common."""
        a, b, c = np.sort(self.places, axis=1).T
        _, first = np.unique((a * len(self.vertices) + b) * len(self.vertices) + c, return_index=True)
        return self if len(first) == len(self.faces) else Mesh(self.vertices, self.faces[np.sort(first)])

    def generator(self, seed: int) -> np.random.Generator:
        """Return the generator of the points on this surface, for which neither its file nor its place or size counts.

        Shapes with the same triangles still differ in the mean and the spread of their vertices.
        """
        low, high = self.vertices.min(0), self.vertices.max(0)
        relative = (self.vertices - (low + high) / 2) / (float((high - low).max()) or 1.0)
        moments = np.concatenate([relative.mean(0), relative.std(0)])
        content = hashlib.sha256(self.faces.astype("<i8").tobytes())
        content.update(np.rint(moments * MOMENT_CELLS).astype("<i8").tobytes())
        return np.random.default_rng((seed, len(self.vertices), int.from_bytes(content.digest()[:8], "little")))

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


def merge_places(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the distinct rows of points [n, 3], and the number of the row in them of each point [n]."""
    order = np.lexsort(points.T)
    ordered = points[order]
    new = np.ones(len(points), np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    rows = np.empty(len(points), np.int64)
    rows[order] = np.cumsum(new) - 1
    return ordered[new], rows
