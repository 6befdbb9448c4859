"""Shape files: meshes and points of many formats, single or in folders, as point clouds.

What a file holds is data alone: nothing is unpickled, no other file or address that it names is opened, and sizes are
bounded, compressed ones too.
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from molrl.data.files import Skipped, reason_of, suffix
from molrl.data.shapes.cloud import MOST_POINTS, PointCloud
from molrl.data.shapes.glb import parse_glb
from molrl.data.shapes.mesh import Mesh, ShapeError
from molrl.data.shapes.mesh_text import parse_obj, parse_off, parse_stl
from molrl.data.shapes.normalisation import Mode, normalised
from molrl.data.shapes.ply import parse_ply
from molrl.data.shapes.point_files import parse_npy, parse_npz, parse_xyz, shapes_of

Up: TypeAlias = Literal["y", "z"]
Entry: TypeAlias = PointCloud | Skipped

MESHES = {".off": parse_off, ".obj": parse_obj, ".stl": parse_stl, ".ply": parse_ply, ".glb": parse_glb}
SHAPE_SUFFIXES = (*MESHES, ".xyz", ".npy", ".npz")
MAX_BYTES = 256 << 20  # of a file, after decompression
MAX_FILES = 200_000
SPLITS = ("train", "val", "test")  # names of folders that are no classes
SYNSETS = {  # of ShapeNet
    **{"02691156": "airplane", "02828884": "bench", "02933112": "cabinet", "02958343": "car", "03001627": "chair"},
    **{"03211117": "display", "03636649": "lamp", "03691459": "speaker", "04090263": "rifle", "04256520": "sofa"},
    **{"04379243": "table", "04401088": "telephone", "04530566": "vessel"},
}


class Named(NamedTuple):
    """A shape as the file has it, or why it is none, with its class and name as far as the file tells them."""

    shape: Mesh | ShapeError
    label: str
    name: str


@dataclass(frozen=True)
class ShapeReport:
    """What became of the shapes of a source."""

    source: str
    shapes: int
    skipped: tuple[Skipped, ...]

    def reasons(self) -> dict[str, int]:
        """How often each reason occurred, most frequent first."""
        return dict(Counter(entry.reason for entry in self.skipped).most_common())

    def __str__(self) -> str:
        text = f"{self.source}: {self.shapes} shapes"
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons().items())
            text += f", {len(self.skipped)} skipped ({reasons}; first at {self.skipped[0].where})"
        return text


def read_shape(path: str | Path, points: int, *, seed: int = 0, up: Up = "y") -> PointCloud:
    """The only shape of a file, in the unit box; `points` of it.

    Raises ValueError for a file that cannot be read or has another number of shapes.
    """
    found, report = read_shapes(path, points, seed=seed, up=up)
    if report.skipped:
        raise ValueError(f"{path}: {report.skipped[0].reason}")
    if len(found) != 1:
        raise ValueError(f"{path}: {len(found)} shapes, need one")
    return found[0]


def read_shapes(
    source: str | Path,
    points: int,
    *,
    seed: int = 0,
    up: Up = "y",
    normalise: Mode = "shape_bbox",
    classes: Sequence[str] | None = None,
    split: str | None = None,
) -> tuple[list[PointCloud], ShapeReport]:
    """Every shape of a file or of a folder, and what was skipped.

    Args:
        source: a file, or a folder in which each folder of the first level is a class: CLASS/..., with ShapeNet's
            numbers read as the names of its classes. Files of other formats are passed over.
        points: sampled evenly on the surface of a mesh, or drawn without repetition from bare points. A shape does not
            depend on the others, only on the seed and its place.
        up: the axis that is up in the files; what comes out has y up.
        normalise: see `normalised`.
        classes: only these.
        split: of a folder with CLASS/train and so on: only this.

    Raises ValueError for a source that is missing or holds no shape file, for unknown classes, splits and settings.
    """
    if not 0 < points <= MOST_POINTS:
        raise ValueError(f"points: got {points}, need 1 to {MOST_POINTS}")
    refuse_unknown_axis(up)
    normalised((), normalise)
    clouds: list[PointCloud] = []
    skipped: list[Skipped] = []
    for path, label, where in listed(Path(source), classes, split):
        for entry in entries(path, label, where, points, seed, up):
            if isinstance(entry, Skipped):
                skipped.append(entry)
                continue
            try:
                clouds += normalised([entry], "none" if normalise == "global_unit" else normalise)
            except ValueError as error:
                skipped.append(Skipped(entry.name or where, str(error)))
    return normalised(clouds, normalise) if normalise == "global_unit" and clouds else clouds, ShapeReport(
        str(source), len(clouds), tuple(skipped)
    )


def refuse_unknown_axis(up: str) -> None:
    """ValueError for what is neither y nor z."""
    if up not in ("y", "z"):
        raise ValueError(f"up: got {up!r}, allowed are 'y', 'z'")


def listed(source: Path, classes: Sequence[str] | None, split: str | None) -> list[tuple[Path, str, str]]:
    """The files of a source, each with its class and what to call it."""
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
    there = sorted({label for _, label, _ in files})
    if unknown := sorted(set(classes or ()) - set(there)):
        raise ValueError(f"classes: got {unknown[0]!r}, {source} has {', '.join(map(repr, there))}")
    if split is not None and not any(split in inner[:-1] for _, _, inner in files):
        raise ValueError(f"split: got {split!r}, {source} has no folder of that name")
    return [
        (path, label, "/".join(inner))
        for path, label, inner in files
        if (classes is None or label in classes) and (split is None or split in inner[:-1])
    ]


def entries(path: Path, label: str, where: str, points: int, seed: int, up: Up) -> Iterator[Entry]:
    """The shapes of one file as clouds, or why there are none."""
    try:
        found = parse(path)
    except ShapeError as error:
        yield Skipped(where, str(error))
        return
    for number, (shape, own, name) in enumerate(found):
        place = where if len(found) == 1 else f"{where}, shape {number + 1}"
        try:
            drawn = drawn_from(sound(shape), points, luck(seed, where, number))
        except ShapeError as error:
            yield Skipped(place, str(error))
            continue
        yield PointCloud(upright(drawn, up), own or label, name or place)


def sound(shape: Mesh | ShapeError) -> Mesh:
    """A shape that is one."""
    if isinstance(shape, ShapeError):
        raise shape
    return shape


def luck(seed: int, where: str, number: int) -> np.random.Generator:
    """Of the points on a shape of a file: that of no other."""
    return np.random.default_rng((seed, zlib.crc32(where.encode()), number))


def upright(points: NDArray[np.float64], up: Up) -> NDArray[np.float32]:
    """Points [n, 3] with y up."""
    turned = points if up == "y" else points[:, [0, 2, 1]] * np.array([1.0, 1.0, -1.0])
    return turned.astype(np.float32)


def drawn_from(shape: Mesh, points: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Points of a mesh's surface, or some of a cloud's own."""
    if len(shape.faces):
        return shape.sample(points, generator)
    if len(shape.vertices) < points:
        raise ShapeError(f"{len(shape.vertices)} points, {points} are wanted")
    if len(shape.vertices) == points:
        return shape.vertices
    return shape.vertices[generator.permutation(len(shape.vertices))[:points]]


@np.errstate(all="ignore")  # what does not fit into the numbers is found out by Mesh
def parse(path: Path) -> list[Named]:
    """The shapes of a file; raises ShapeError with the reason alone where it has none."""
    data, kind = content(path), suffix(path)
    if kind in MESHES:
        return [Named(MESHES[kind](data), "", "")]
    if kind == ".npz":
        shapes, labels, names = shapes_of(parse_npz(data, MAX_BYTES))
    elif kind == ".npy":
        shapes, labels, names = shapes_of({"points": parse_npy(data)})
    else:
        shapes, labels, names = [parse_xyz(data)], [""], [""]
    return [Named(bare(each), label, name) for each, label, name in zip(shapes, labels, names, strict=True)]


def bare(points: NDArray[np.float64]) -> Mesh | ShapeError:
    """Points without faces."""
    try:
        return Mesh(points, np.zeros((0, 3), np.int64))
    except ShapeError as error:
        return error


def content(path: Path) -> bytes:
    """The bytes of a file, decompressed if its name ends in .gz."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ShapeError(f"cannot be read: {reason_of(error)}") from None
    if len(data) > MAX_BYTES:
        raise ShapeError(f"more than {MAX_BYTES} bytes")
    if not data.strip():
        raise ShapeError("empty file")
    return data
