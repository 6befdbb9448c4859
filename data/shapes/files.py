"""Shape files: meshes and points of many formats, single or in folders, read as point clouds.

Files are read as data only: nothing is unpickled, no other file or address that they name is opened, and sizes are
bounded, also after decompression.
"""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from molrl.data.files import ReadReport, Skipped, open_unchecked, reason_of, suffix
from molrl.data.shapes.cloud import MAX_POINTS, PointCloud
from molrl.data.shapes.glb import parse_glb
from molrl.data.shapes.mesh import Mesh, ShapeError
from molrl.data.shapes.mesh_text import parse_obj, parse_off, parse_stl
from molrl.data.shapes.normalisation import Mode, normalise_point_clouds
from molrl.data.shapes.ply import parse_ply
from molrl.data.shapes.point_files import parse_npy, parse_npz, parse_xyz, split_shapes
from molrl.machine.files import SpecialFileError

Up: TypeAlias = Literal["y", "z"]
Entry: TypeAlias = PointCloud | Skipped
"""The result of reading one shape."""

MESHES = {".off": parse_off, ".obj": parse_obj, ".stl": parse_stl, ".ply": parse_ply, ".glb": parse_glb}
SHAPE_SUFFIXES = (*MESHES, ".xyz", ".npy", ".npz")
MAX_BYTES = 256 << 20  # of a file, after decompression
MAX_FILES = 200_000
SPLITS = ("train", "val", "test")  # names of folders that are not classes
SYNSETS = {  # classes of ShapeNet
    **{"02691156": "airplane", "02828884": "bench", "02933112": "cabinet", "02958343": "car", "03001627": "chair"},
    **{"03211117": "display", "03636649": "lamp", "03691459": "speaker", "04090263": "rifle", "04256520": "sofa"},
    **{"04379243": "table", "04401088": "telephone", "04530566": "vessel"},
}


class NamedShape(NamedTuple):
    """A shape as given in the file, or the reason why there is none, with its class and name, "" if not given."""

    shape: Mesh | ShapeError
    label: str
    name: str


def read_shape(path: str | Path, points: int, *, seed: int = 0, up: Up = "y") -> PointCloud:
    """Read the only shape of a file as so many points in the unit box; see `read_shapes`.

    Raises ValueError for a file that cannot be read or has another number of shapes.
    """
    point_clouds, report = read_shapes(path, points, seed=seed, up=up)
    if report.skipped:
        raise ValueError(f"{path}: {report.skipped[0].reason}")
    if len(point_clouds) != 1:
        raise ValueError(f"{path}: {len(point_clouds)} shapes, need one")
    return point_clouds[0]


def read_shapes(
    source: str | Path,
    points: int,
    *,
    seed: int = 0,
    up: Up = "y",
    normalise: Mode = "shape_bbox",
    classes: Sequence[str] | None = None,
    split: str | None = None,
) -> tuple[list[PointCloud], ReadReport]:
    """Read every shape of a file or of a folder, and report what was skipped.

    Args:
        source: a file, or a folder in which each folder of the first level is a class: CLASS/..., with ShapeNet's
            numbers read as the names of its classes. Files of other formats are ignored.
        points: number per shape, sampled uniformly on the surface of a mesh, or drawn without replacement from bare
            points. They depend only on the seed and the place of the shape in the source.
        up: the axis that is up in the files; in the result it is y.
        normalise: see `normalise_point_clouds`.
        classes: read only these.
        split: read only this split of a folder with CLASS/train and so on.

    Raises ValueError for a source that is missing or holds no shape file, and for unknown classes, splits and settings.
    """
    if not 0 < points <= MAX_POINTS:
        raise ValueError(f"points: got {points}, need 1 to {MAX_POINTS}")
    check_axis(up)
    normalise_point_clouds((), normalise)
    point_clouds: list[PointCloud] = []
    skipped: list[Skipped] = []
    for path, label, where in list_files(Path(source), classes, split):
        for entry in file_entries(path, label, where, points, seed, up):
            if isinstance(entry, Skipped):
                skipped.append(entry)
                continue
            try:
                point_clouds += normalise_point_clouds([entry], "none" if normalise == "global_unit" else normalise)
            except ValueError as error:
                skipped.append(Skipped(entry.name or where, str(error)))
    if normalise == "global_unit" and point_clouds:
        point_clouds = normalise_point_clouds(point_clouds, normalise)
    return point_clouds, report_of(point_clouds, skipped, str(source))


def report_of(point_clouds: Sequence[PointCloud], skipped: Sequence[Skipped], source: str) -> ReadReport:
    """Return the account of a source from which shapes were read."""
    return ReadReport(source, len(point_clouds), tuple(skipped), "shapes")


def check_axis(up: str) -> None:
    """Raise ValueError unless the axis that is up is y or z."""
    if up not in ("y", "z"):
        raise ValueError(f"up: got {up!r}, allowed are 'y', 'z'")


def list_files(source: Path, classes: Sequence[str] | None, split: str | None) -> list[tuple[Path, str, str]]:
    """List the files of a source, each with its class and its name below the source."""
    if not source.is_dir():
        if suffix(source) not in SHAPE_SUFFIXES:
            raise ValueError(
                f"{source}: unknown suffix {suffix(source)!r}, allowed: {', '.join(SHAPE_SUFFIXES)} and folders"
            )
        if not source.is_file():
            raise ValueError(f"{source}: no such file")
        return [(source, "", source.name)]
    files = []
    for path in sorted(source.rglob("*")):
        if suffix(path) in SHAPE_SUFFIXES and path.is_file():
            inner = path.relative_to(source).parts
            first = inner[0] if len(inner) > 1 and inner[0] not in SPLITS else ""
            files.append((path, SYNSETS.get(first, first), inner))
            if len(files) > MAX_FILES:
                raise ValueError(f"{source}: more than {MAX_FILES} files")
    if not files:
        raise ValueError(f"{source}: no shape files, allowed: {', '.join(SHAPE_SUFFIXES)}")
    labels = sorted({label for _, label, _ in files})
    if unknown := sorted(set(classes or ()) - set(labels)):
        raise ValueError(f"classes: got {unknown[0]!r}, {source} has {', '.join(map(repr, labels))}")
    if split is not None and not any(split in inner[:-1] for _, _, inner in files):
        raise ValueError(f"split: got {split!r}, {source} has no folder of that name")
    return [
        (path, label, "/".join(inner))
        for path, label, inner in files
        if (classes is None or label in classes) and (split is None or split in inner[:-1])
    ]


def file_entries(path: Path, label: str, where: str, points: int, seed: int, up: Up) -> Iterator[Entry]:
    """Yield the shapes of one file as point clouds, or the reasons why there are none."""
    try:
        shapes = parse(path)
    except ShapeError as error:
        yield Skipped(where, str(error))
        return
    for number, (shape, own_label, name) in enumerate(shapes):
        place = where if len(shapes) == 1 else f"{where}, shape {number + 1}"
        try:
            drawn = draw_points(unwrap(shape), points, point_generator(seed, where, number))
        except ShapeError as error:
            yield Skipped(place, str(error))
            continue
        yield PointCloud(turn_upright(drawn, up), own_label or label, name or place)


def unwrap(shape: Mesh | ShapeError) -> Mesh:
    """Return a shape, or raise the error in its place."""
    if isinstance(shape, ShapeError):
        raise shape
    return shape


def point_generator(seed: int, where: str, number: int) -> np.random.Generator:
    """Return the generator of the points on a shape, which no other shape of the source shares."""
    return np.random.default_rng((seed, zlib.crc32(where.encode()), number))


def turn_upright(points: NDArray[np.float64], up: Up) -> NDArray[np.float32]:
    """Turn points [n, 3] so that y is up."""
    turned = points if up == "y" else points[:, [0, 2, 1]] * np.array([1.0, 1.0, -1.0])
    return turned.astype(np.float32)


def draw_points(shape: Mesh, points: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Sample points [points, 3] on the surface of a mesh, or draw some of bare points."""
    if len(shape.faces):
        return shape.sample(points, generator)
    if len(shape.vertices) < points:
        raise ShapeError(f"{len(shape.vertices)} points, {points} are wanted")
    if len(shape.vertices) == points:
        return shape.vertices
    return shape.vertices[generator.permutation(len(shape.vertices))[:points]]


@np.errstate(all="ignore")  # Mesh finds numbers that overflow
def parse(path: Path) -> list[NamedShape]:
    """Parse the shapes of a file.

    Raises ShapeError, whose message is the reason alone, if it has none.
    """
    data, kind = read_content(path), suffix(path)
    if kind in MESHES:
        return [NamedShape(MESHES[kind](data), "", "")]
    if kind == ".npz":
        shapes, labels, names = split_shapes(parse_npz(data, MAX_BYTES))
    elif kind == ".npy":
        shapes, labels, names = split_shapes({"points": parse_npy(data)})
    else:
        shapes, labels, names = [parse_xyz(data)], [""], [""]
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
