"""Mass of solids and of point clouds: volume, centre and second moments of a closed mesh."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import Mesh, ShapeError


class Mass(NamedTuple):
    """The distribution of a mass of 1.

    Attributes:
        centre: [3].
        covariance: second moments about the centre, [3, 3].
    """

    centre: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @property
    def inertia(self) -> NDArray[np.float64]:
        """Return the tensor of inertia about the centre, [3, 3]."""
        return np.asarray(np.trace(self.covariance) * np.eye(3) - self.covariance)


def mass_of_points(points: NDArray[np.float64]) -> Mass:
    """Return the mass of points [n, 3] that all weigh the same."""
    return Mass(points.mean(0), np.cov(points.T, bias=True))


def mass_of_solid(mesh: Mesh) -> Mass:
    """Return the mass of a homogeneous solid within a closed mesh.

    The integrals are sums over the tetrahedra from the origin to each face: of x over one with corners 0, a, b, c and
    volume v it is v (a + b + c) / 4, of x x^T it is v (a a^T + b b^T + c c^T + s s^T) / 20 with s = a + b + c.

    Raises ShapeError for a mesh that is not closed or encloses nothing.
    """
    total = volume(mesh)
    if not mesh.is_closed() or not total > 0:
        raise ShapeError("no solid: the mesh is not closed, or inside out")
    corners = mesh.vertices[mesh.faces] - mesh.vertices.mean(0)  # [f, 3, 3], near the origin for accuracy
    weights = np.linalg.det(corners) / 6 / total
    sums = corners.sum(1)
    centre = weights @ sums / 4
    second = np.einsum("f,fki,fkj->ij", weights, corners, corners) + np.einsum("f,fi,fj->ij", weights, sums, sums)
    return Mass(centre + mesh.vertices.mean(0), second / 20 - np.outer(centre, centre))


def volume(mesh: Mesh) -> float:
    """Return the volume within a closed mesh, negative where its faces are clockwise from outside."""
    corners = mesh.vertices[mesh.faces] - mesh.vertices.mean(0)
    return float(np.linalg.det(corners).sum() / 6)
