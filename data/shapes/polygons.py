"""Triangles of polygons, convex or not; a fan would cover the notches of a concave polygon."""

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.mesh import MAX_FACES, MAX_VERTICES, Mesh, ShapeError

MAX_CONCAVE_CORNERS = 4000  # of one polygon, whose triangles take a time that grows with the square of it
MAX_CONCAVE_WORK = 2 * MAX_CONCAVE_CORNERS**2  # sum of the squares over all of a file
FIXED_WORK = 100  # of any polygon, as a square of its corners
BLOCK = 100_000  # polygons at a time, which bounds the memory
CONVEX = -1e-9  # least sine of a turn of a convex polygon, up to rounding

Point = tuple[float, float]


def mesh_from_polygons(vertices: NDArray[np.floating], corners: NDArray[np.int64], sizes: NDArray[np.int64]) -> Mesh:
    """Make a mesh of polygons.

    Args:
        vertices: [v, 3].
        corners: of all polygons, one after the other.
        sizes: the number of corners of each polygon; those of fewer than three are left out, as they have no area.

    Raises ShapeError for too many triangles, corners that are not there and too large concave polygons.
    """
    count = int((sizes - 2).clip(0).sum())
    if count > MAX_FACES:
        raise ShapeError(f"{count} faces, allowed: at most {MAX_FACES}")
    points = np.asarray(vertices, np.float64).reshape(-1, 3)
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(points):
        raise ShapeError(f"a face names a vertex that is not there: there are {len(points)}")
    starts = np.cumsum(sizes) - sizes
    faces = [np.zeros((0, 3), np.int64)]
    work = 0
    for size in np.unique(sizes[sizes > 2]).tolist():
        first = starts[sizes == size]
        for block in range(0, len(first), BLOCK):
            rings = corners[first[block : block + BLOCK, None] + np.arange(size)]
            concave, normals = find_concave(points[rings])
            work += int(concave.sum()) * (size**2 + FIXED_WORK)
            if work > MAX_CONCAVE_WORK or (concave.any() and size > MAX_CONCAVE_CORNERS):
                raise ShapeError(f"concave polygons of {size} corners: too many or too large, save them as triangles")
            faces.append(split_convex(rings[~concave]))
            faces += [ring[clip_ears(points[ring], normal)] for ring, normal in
                      zip(rings[concave], normals[concave], strict=True)]  # fmt: skip
    return Mesh(points, np.concatenate(faces))


def whole_numbers(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the corners of faces as integers; raise ShapeError if they are none."""
    if not (np.isfinite(values) & (np.floor(values) == values)).all():
        raise ShapeError("not whole numbers (a face)")
    return values.clip(-1, MAX_VERTICES).astype(np.int64)


def strip_triangles(strip: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the triangles [f, 3] of a strip [n] of corners, in which -1 begins another strip."""
    rows = np.stack([strip[:-2], strip[1:-1], strip[2:]], 1)
    place = np.arange(len(strip))
    since = place - np.maximum.accumulate(np.where(strip < 0, place + 1, 0))
    odd = since[:-2] % 2 == 1  # every other triangle runs backwards
    rows[odd] = rows[odd][:, [1, 0, 2]]
    return rows[(rows >= 0).all(1)]


def find_concave(rings: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which of some polygons [k, n, 3] have a corner that points inwards, and their normals [k, 3].

    The normal is that of Newell (Sutherland, Sproull and Schumacker 1974), twice the area long.
    """
    if rings.shape[1] == 3:
        return np.zeros(len(rings), np.bool_), np.zeros((len(rings), 3))
    rings = rings - rings[:, :1]
    edges = np.roll(rings, -1, axis=1) - rings
    normals = np.cross(rings, np.roll(rings, -1, axis=1)).sum(1)
    turns = (np.cross(np.roll(edges, 1, axis=1), edges) * normals[:, None]).sum(-1)
    concave: NDArray[np.bool_] = (turns < CONVEX * (normals**2).sum(-1)[:, None]).any(1)
    return concave, normals


def split_convex(rings: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the triangles [k (n - 2), 3] of convex polygons [k, n], each a fan."""
    fans = [rings[:, [0, k, k + 1]] for k in range(1, rings.shape[1] - 1)]
    return np.concatenate(fans) if len(rings) else np.zeros((0, 3), np.int64)


def clip_ears(ring: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the triangles [n - 2, 3] of a simple polygon [n, 3], as numbers of its corners.

    An ear is a corner whose triangle with its two neighbours holds no other corner. A polygon has at least two
    (Meisters 1975, doi:10.2307/2319703), and cutting one off changes only its neighbours.
    """
    outline = Outline(project(ring, normal))
    ears = [corner for corner in range(len(ring)) if outline.is_ear(corner)]
    triangles = []
    for left in range(len(ring), 3, -1):
        while ears and not outline.is_open(ears[-1]):
            ears.pop()
        tip = ears.pop() if ears else outline.sharpest()  # only a polygon that cuts itself has no ear
        triangles.append(outline.cut(tip))
        if left > 4:
            ears += [corner for corner in outline.neighbours(tip) if outline.is_ear(corner)]
    return np.array([*triangles, outline.rest()], dtype=np.int64)


def project(ring: NDArray[np.float64], normal: NDArray[np.float64]) -> list[Point]:
    """Return the points of a polygon in its plane, where it runs counter-clockwise."""
    drop = int(np.abs(normal).argmax())
    first, second = [axis for axis in range(3) if axis != drop]
    if (normal[drop] < 0) == (drop != 1):
        first, second = second, first
    ring = ring - ring[0]
    return [(x, y) for x, y in ring[:, [first, second]].tolist()]


class Outline:
    """A polygon in the plane that loses one corner after the other.

    Attributes:
        points: counter-clockwise.
        before, after: the neighbours of each corner.
        blunt: the corners that do not point outwards, which alone can lie in the triangle of another.
    """

    def __init__(self, points: list[Point]) -> None:
        count = len(points)
        self.points = points
        self.before = [(corner - 1) % count for corner in range(count)]
        self.after = [(corner + 1) % count for corner in range(count)]
        self.left = set(range(count))
        self.blunt = {corner for corner in range(count) if self.turn(corner) <= 0}

    def turn(self, corner: int) -> float:
        """Return twice the signed area of the triangle of a corner and its neighbours."""
        points = self.points
        return area(points[self.before[corner]], points[corner], points[self.after[corner]])

    def neighbours(self, corner: int) -> tuple[int, int]:
        """Return the corners before and after one."""
        return self.before[corner], self.after[corner]

    def is_open(self, corner: int) -> bool:
        """Return whether a corner is still there and its triangle is still an ear."""
        return corner in self.left and self.is_ear(corner)

    def is_ear(self, corner: int) -> bool:
        """Return whether a corner points outwards and no other corner lies in its triangle."""
        if corner in self.blunt:
            return False
        a, b, c = (self.points[each] for each in (self.before[corner], corner, self.after[corner]))
        return not any(
            area(a, b, p) >= 0 and area(b, c, p) >= 0 and area(c, a, p) >= 0 and p not in (a, b, c)
            for p in (self.points[other] for other in self.blunt)
        )

    def sharpest(self) -> int:
        """Return the corner that points outwards most."""
        return max(self.left, key=self.turn)

    def cut(self, corner: int) -> tuple[int, int, int]:
        """Cut off a corner and return its triangle."""
        before, after = self.neighbours(corner)
        self.after[before], self.before[after] = after, before
        self.left.remove(corner)
        self.blunt.discard(corner)
        for each in (before, after):
            if each in self.blunt and self.turn(each) > 0:
                self.blunt.remove(each)
        return before, corner, after

    def rest(self) -> tuple[int, int, int]:
        """Return the triangle of the last three corners."""
        corner = min(self.left)
        return self.before[corner], corner, self.after[corner]


def area(a: Point, b: Point, c: Point) -> float:
    """Return twice the signed area of a triangle."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
