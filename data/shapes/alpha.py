"""Closed triangle meshes of point clouds by alpha shapes: what a ball cannot enter from outside between the points.

Edelsbrunner and Mücke 1994 (Three-dimensional alpha shapes, ACM Transactions on Graphics 13, doi:10.1145/174462.156635)
roll an empty ball among the points: a tetrahedron of their Delaunay triangulation stays where its circumsphere is no
larger than the ball. Points on a surface would leave a hollow shell of it, so that here the ball starts outside. What
it cannot reach is solid, however thick.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import Mesh, ShapeError
from molrl.data.shapes.neighbours import import_scipy, nearest_distances

Flags: TypeAlias = NDArray[np.bool_]

MAX_CLOUD = 20_000  # points of a triangulation: a second or two
RADIUS = (
    4.0  # of the ball, in median distances of a point to its nearest other: the largest hole has 3.2 at 1,000 points
)
GROWTH, ATTEMPTS = 1.25, 8  # of the radius, until one solid piece holds the points
MIN_COVERED = 0.97  # of the points, in that piece
SIDES = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])  # corners of the face opposite to each corner
EDGES = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])


def solid_mesh(points: NDArray[np.floating], radius: float | None = None) -> Mesh:
    """Return the closed surface of the solid that points [n, 3] enclose; its triangles face outward.

    Args:
        radius: of the ball, in the units of the points. None: 4 times the median distance of nearest neighbours, and
            then larger by steps of a quarter until one piece holds 97 % of the points, as it must.

    Raises ShapeError for flat, too few or too many points, for points in pieces, and where the surface is not closed.
    """
    cells = triangulate(np.unique(np.asarray(points, np.float64), axis=0))
    covered = 0.0
    for alpha in ladder(cells.points) if radius is None else [radius]:
        solid = cells.largest_piece(~cells.reached(alpha))
        covered = len(np.unique(cells.corners[solid])) / len(cells.points)
        if covered >= MIN_COVERED:
            return compact(cells.points, cells.surface(cells.without_pinches(solid)))
    raise ShapeError(f"in pieces: the largest solid one holds {covered:.0%} of the points")


def ladder(points: NDArray[np.float64]) -> list[float]:
    """Return the radii to try for points [n, 3]."""
    first = RADIUS * float(np.median(nearest_distances(points)))
    return [first * GROWTH**step for step in range(ATTEMPTS)]


@dataclass(frozen=True, eq=False)
class Cells:
    """The tetrahedra of a Delaunay triangulation.

    Attributes:
        points: [n, 3].
        corners: rows of the points, int [t, 4].
        beyond: the tetrahedron on the other side of the face opposite to each corner, int [t, 4]; t: the outside.
        openings: radius of the largest ball that passes through each face, from one side to the other, [t, 4].
    """

    points: NDArray[np.float64]
    corners: NDArray[np.int64]
    beyond: NDArray[np.int64]
    openings: NDArray[np.float64]

    def reached(self, radius: float) -> Flags:
        """Tell which tetrahedra [t] an empty ball reaches from outside."""
        start, count = np.nonzero(self.openings > radius), len(self.corners)
        return np.asarray(self.labels(start[0], self.beyond[start], count + 1)[:count] == 0)

    def labels(self, start: NDArray[np.intp], end: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Label `count` cells, equally if they are connected by pairs; the outside, the last one, has 0."""
        sparse, graph = import_scipy("sparse"), import_scipy("sparse.csgraph")
        matrix = sparse.coo_matrix((np.ones(len(start), np.bool_), (start, end)), shape=(count, count))
        labels = graph.connected_components(matrix, directed=False)[1].astype(np.int64)
        return np.asarray(np.where(labels == labels[-1], 0, labels + 1))

    def largest_piece(self, solid: Flags) -> Flags:
        """Return the largest part of a solid [t] that is connected through faces, by volume."""
        inner = np.append(solid, False)
        start = np.nonzero(solid[:, None] & inner[self.beyond])
        labels = self.labels(start[0], self.beyond[start], len(solid) + 1)[: len(solid)]
        if not solid.any():
            return solid
        sizes = np.bincount(labels[solid], np.abs(determinants(self.points[self.corners[solid]])))
        return np.asarray(solid & (labels == sizes.argmax()))

    def without_pinches(self, solid: Flags) -> Flags:
        """Return the solid [t] with every tetrahedron around an edge at which it touches itself."""
        edges = np.sort(self.corners[:, EDGES], axis=2) @ np.array([len(self.points), 1])  # [t, 6]
        while True:
            faces = self.surface(solid)
            sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
            keys, counts = np.unique(sides @ np.array([len(self.points), 1]), return_counts=True)
            if not (counts > 2).any():
                return solid
            solid = solid | np.isin(edges, keys[counts > 2]).any(1)

    def surface(self, solid: Flags) -> NDArray[np.int64]:
        """Return the faces [f, 3] between a solid [t] and the rest, counter-clockwise from outside."""
        inner = np.append(solid, False)
        rows, opposite = np.nonzero(solid[:, None] & ~inner[self.beyond])
        faces: NDArray[np.int64] = self.corners[rows[:, None], SIDES[opposite]]
        a, b, c = (self.points[faces[:, corner]] for corner in range(3))
        tip = self.points[self.corners[rows, opposite]]
        inward = ((np.cross(b - a, c - a)) * (tip - a)).sum(1) > 0
        faces[inward] = faces[inward][:, ::-1]
        return faces


def triangulate(points: NDArray[np.float64]) -> Cells:
    """Return the Delaunay triangulation of distinct points [n, 3]."""
    if not 4 <= len(points) <= MAX_CLOUD:
        raise ShapeError(f"{len(points)} points, a solid needs 4 to {MAX_CLOUD}")
    spatial = import_scipy("spatial")
    try:
        found = spatial.Delaunay(points)
    except spatial.QhullError:
        raise ShapeError("flat: the points enclose nothing") from None
    corners = found.simplices.astype(np.int64)
    beyond = np.where(found.neighbors < 0, len(corners), found.neighbors).astype(np.int64)
    return Cells(points, corners, beyond, openings_of(points, corners, beyond))


def openings_of(
    points: NDArray[np.float64], corners: NDArray[np.int64], beyond: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the radius of the largest empty ball that passes each face, from the middle of a cell to the next.

    It fits into both cells, whose circumspheres are empty, and through the circle of the face. The circle counts only
    where no corner of the two cells lies within its sphere (a Gabriel face): elsewhere the ball passes beside it.
    """
    radii = np.append(circumradii(points[corners]), np.inf)
    faces = points[corners[:, SIDES]]  # [t, 4, 3, 3]
    centres, circles = circumcircles(faces)
    tips = np.append(points[corners], np.full((1, 4, 3), np.inf), 0)  # the outside has none
    next_tips = tips[beyond]  # [t, 4, 4, 3]: three of them are corners of the face
    inside = np.linalg.norm(points[corners] - centres, axis=-1) < circles * (1 - 1e-9)
    with np.errstate(invalid="ignore"):
        inside |= (np.linalg.norm(next_tips - centres[:, :, None], axis=-1) < circles[..., None] * (1 - 1e-9)).any(-1)
    passage = np.where(inside, np.inf, circles)
    return np.asarray(np.minimum(np.minimum(radii[:-1, None], radii[beyond]), passage))


def determinants(tetrahedra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return six times the signed volume [t] of tetrahedra [t, 4, 3]."""
    a, b, c = (tetrahedra[:, corner] - tetrahedra[:, 0] for corner in (1, 2, 3))
    return np.asarray((a * np.cross(b, c)).sum(-1))


def circumradii(tetrahedra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the radii [t] of the spheres through the corners of tetrahedra [t, 4, 3]; infinite for flat ones."""
    a, b, c = (tetrahedra[:, corner] - tetrahedra[:, 0] for corner in (1, 2, 3))
    across = (np.cross(b, c), np.cross(c, a), np.cross(a, b))
    offset = sum(
        ((side**2).sum(-1, keepdims=True) * normal for side, normal in zip((a, b, c), across, strict=True)),
        np.zeros_like(a),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        radii = np.linalg.norm(offset, axis=-1) / np.abs(2 * determinants(tetrahedra))
    return np.asarray(np.nan_to_num(radii, nan=np.inf))


def circumcircles(triangles: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centres [..., 3] and radii [...] of the circles through triangles [..., 3, 3]; infinite for flat ones."""
    a, b = (triangles[..., corner, :] - triangles[..., 0, :] for corner in (1, 2))
    normal = np.cross(a, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = np.cross((a**2).sum(-1, keepdims=True) * b - (b**2).sum(-1, keepdims=True) * a, normal) / (
            2 * (normal**2).sum(-1, keepdims=True)
        )
    radii = np.nan_to_num(np.linalg.norm(offset, axis=-1), nan=np.inf)
    return triangles[..., 0, :] + np.nan_to_num(offset), radii


def compact(points: NDArray[np.float64], faces: NDArray[np.int64]) -> Mesh:
    """Return a mesh of the points that its faces use.

    Raises ShapeError where it is not closed.
    """
    used, rows = np.unique(faces, return_inverse=True)
    mesh = Mesh(points[used], rows.reshape(-1, 3).astype(np.int64))
    if not mesh.is_closed():
        raise ShapeError("the surface is not closed")
    return mesh
