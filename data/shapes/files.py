"""Shape files: meshes and points of many formats, single or in folders, read as point clouds.

Files are read as data only: nothing is unpickled, no other file or address that they name is opened, and sizes are
bounded, also after decompression.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from molrl.data.files import ReadReport, Skipped, open_unchecked, reason_of, suffix
from molrl.data.shapes.cloud import MAX_POINTS, PointCloud
from molrl.data.shapes.folders import list_files
from molrl.data.shapes.glb import parse_glb, parse_gltf
from molrl.data.shapes.mesh import Mesh, ShapeError
from molrl.data.shapes.normalisation import Mode, normalise_point_clouds
from molrl.data.shapes.obj import parse_obj
from molrl.data.shapes.off import parse_off
from molrl.data.shapes.pcd import parse_pcd
from molrl.data.shapes.ply import parse_ply
from molrl.data.shapes.point_arrays import parse_npy, parse_npz, split_shapes
from molrl.data.shapes.point_text import parse_xyz
from molrl.data.shapes.stl import parse_stl
from molrl.machine.files import SpecialFileError

Up: TypeAlias = Literal["y", "z"]
Entry: TypeAlias = PointCloud | Skipped
"""The result of reading one shape."""

MESHES = {
    **{".off": parse_off, ".obj": parse_obj, ".stl": parse_stl},
    **{".ply": parse_ply, ".glb": parse_glb, ".gltf": parse_gltf},
}
POINTS = {".xyz": parse_xyz, ".txt": parse_xyz, ".pts": parse_xyz, ".pcd": parse_pcd}
MAX_BYTES = 256 << 20  # of a file, after decompression
MAX_ROUNDING = 1e-4  # of coordinates in single precision, as a part of the size of the shape


class NamedShape(NamedTuple):
    """A shape as given in the file, or the reason why there is none, with its class and name, "" if not given."""

    shape: Mesh | ShapeError
    label: str
    name: str


def read_shape(path: str | Path, points: int, *, seed: int = 0, up: Up = "y") -> PointCloud:
    """Read the only shape of a file as so many points in the unit box, or fewer if it has fewer bare points.

    Raises ValueError for a file that cannot be read or has another number of shapes.
    """
    check_settings(points, up)
    entries = [entry for file in list_files(Path(path), None, None) for entry in file_entries(*file, points, seed, up)]
    if len(entries) != 1:
        raise ValueError(f"{path}: {len(entries)} shapes, need one")
    (entry,) = entries
    if isinstance(entry, Skipped):
        raise ValueError(f"{path}: {entry.reason}")
    return normalise_point_clouds([entry], "shape_bbox")[0]


def read_shapes(
    source: str | Path,
    points: int,
    *,
    seed: int = 0,
    up: Up = "y",
    normalise: Mode = "shape_bbox",
    classes: Sequence[str] | None = None,
    split: str | None = None,
    min_points: int | None = None,
) -> tuple[list[PointCloud], ReadReport]:
    """Read every shape of a file or of a folder, and report what was skipped.

    Args:
        source: a file, or a folder with a folder for each class, see `classes_of`. Files of other formats are ignored.
        points: number per shape, sampled uniformly on the surface of a mesh, or drawn without replacement from bare
            points. They depend only on the seed and the shape.
        up: the axis that is up in the files; in the result it is y.
        normalise: see `normalise_point_clouds`.
        classes: read only these.
        split: read only this split of a folder with CLASS/train or train/CLASS and so on.
        min_points: of a file without faces; fewer than `points` are repeated in turn. None: as many as `points`.

    Raises ValueError for a source that is missing or holds no shape file, and for unknown classes, splits and settings.
    """
    check_settings(points, up)
    normalise_point_clouds((), normalise)
    point_clouds: list[PointCloud] = []
    skipped: list[Skipped] = []
    for path, label, where in list_files(Path(source), classes, split):
        for entry in file_entries(path, label, where, points, seed, up, centre=normalise != "none"):
            if isinstance(entry, Skipped):
                skipped.append(entry)
                continue
            try:
                filled = fill_up(entry, points, points if min_points is None else min_points)
                point_clouds += normalise_point_clouds([filled], "none" if normalise == "global_unit" else normalise)
            except ValueError as error:
                skipped.append(Skipped(entry.name or where, str(error)))
    if normalise == "global_unit" and point_clouds:
        point_clouds = normalise_point_clouds(point_clouds, normalise)
    return point_clouds, report_of(point_clouds, skipped, str(source))


def fill_up(cloud: PointCloud, points: int, min_points: int) -> PointCloud:
    """Return a cloud of so many points, those that it has in turn; raise ShapeError if it has too few."""
    if len(cloud) < min_points:
        raise ShapeError(f"{len(cloud)} points, {min_points} are wanted")
    return replace(cloud, points=np.resize(cloud.points, (points, 3)))


def check_settings(points: int, up: str) -> None:
    """Raise ValueError unless there are points and the axis that is up is y or z."""
    if not 0 < points <= MAX_POINTS:
        raise ValueError(f"points: got {points}, need 1 to {MAX_POINTS}")
    if up not in ("y", "z"):
        raise ValueError(f"up: got {up!r}, allowed are 'y', 'z'")


def report_of(point_clouds: Sequence[PointCloud], skipped: Sequence[Skipped], source: str) -> ReadReport:
    """Return the account of a source from which shapes were read."""
    return ReadReport(source, len(point_clouds), tuple(skipped), "shapes")


def file_entries(
    path: Path, label: str, where: str, points: int, seed: int, up: Up, *, centre: bool = True
) -> Iterator[Entry]:
    """Yield the shapes of one file as point clouds, or the reasons why there are none."""
    try:
        shapes = parse(path)
    except ShapeError as error:
        yield Skipped(where, str(error))
        return
    for number, (shape, own_label, name) in enumerate(shapes):
        place = where if len(shapes) == 1 else f"{where}, shape {number + 1}"
        try:
            drawn = draw_points(unwrap(shape), points, seed)
            yield PointCloud(turn_upright(drawn, up, centre=centre), own_label or label, name or place)
        except ShapeError as error:
            yield Skipped(place, str(error))


def unwrap(shape: Mesh | ShapeError) -> Mesh:
    """Return a shape, or raise the error in its place."""
    if isinstance(shape, ShapeError):
        raise shape
    return shape


def turn_upright(points: NDArray[np.float64], up: Up, *, centre: bool) -> NDArray[np.float32]:
    """Turn points [n, 3] so that y is up, and move the middle of the box around them to 0 if asked for.

    Raises ShapeError where the result in single precision would be another shape, far from the origin.
    """
    size = float(np.ptp(points, axis=0).max())
    if centre:
        points = points - (points.min(0) + points.max(0)) / 2
    turned = points if up == "y" else points[:, [0, 2, 1]] * np.array([1.0, 1.0, -1.0])
    single = turned.astype(np.float32)
    if np.abs(single - turned).max() > MAX_ROUNDING * size:
        raise ShapeError(f"a shape of size {size:g} too far from the origin for single precision")
    return single


def draw_points(shape: Mesh, points: int, seed: int) -> NDArray[np.float64]:
    """Sample points [points, 3] on the surface of a mesh, or draw at most so many of bare points."""
    generator = shape.generator(seed)
    if len(shape.faces):
        return shape.sample(points, generator)
    if len(shape.vertices) <= points:
        return shape.vertices
    return shape.vertices[generator.permutation(len(shape.vertices))[:points]]


@np.errstate(all="ignore")  # Mesh finds numbers that overflow
def parse(path: Path) -> list[NamedShape]:
    """Parse the shapes of a file; of triangles with the same corners one is kept.

    Raises ShapeError, whose message is the reason alone, if it has none.
    """
    data, kind = read_content(path), suffix(path)
    if kind in MESHES:
        return [NamedShape(MESHES[kind](data).without_doubles(), "", "")]
    if kind == ".npz":
        shapes, labels, names = split_shapes(parse_npz(data, MAX_BYTES))
    elif kind == ".npy":
        shapes, labels, names = split_shapes({"points": parse_npy(data)})
    else:
        shapes, labels, names = [POINTS[kind](data)], [""], [""]
    return [NamedShape(bare_points(each), label, name) for each, label, name in zip(shapes, labels, names, strict=True)]


def bare_points(points: NDArray[np.float64]) -> Mesh | ShapeError:
    """Return points [n, 3] as a mesh without faces, or the reason why they are none."""
    try:
        return Mesh(points, np.zeros((0, 3), np.int64))
    except ShapeError as error:
        return error


def read_content(path: Path) -> bytes:
    """Read the bytes of a file, decompressed if its name ends in .gz."""
    try:
        with open_unchecked(path) as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error, SpecialFileError) as error:
        raise ShapeError(f"cannot be read: {reason_of(error)}") from None
    if len(data) > MAX_BYTES:
        raise ShapeError(f"more than {MAX_BYTES} bytes")
    if not data.strip():
        raise ShapeError("empty file")
    return data
