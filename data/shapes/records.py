"""Records of shape files, read one at a time, for callers that report on each of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from molrl.data.files import Skipped, identity_of_files, suffix
from molrl.data.shapes.cloud import PointCloud, place_in_unit_box
from molrl.data.shapes.files import Entry, Up, check_settings, parse, turn_upright, unwrap
from molrl.data.shapes.folders import list_files
from molrl.data.shapes.mesh import Mesh, ShapeError

ARRAY_SUFFIXES = (".npy", ".npz")  # of files that may have many shapes

Content: TypeAlias = Path | Mesh | ShapeError


class ShapeRecord(NamedTuple):
    """One shape of a file, or a file of one shape.

    Attributes:
        name: of the shape, or its place.
        label: the class, "" if there is none.
        where: the name of its file below the source.
        number: in the file, from 0.
        content: a file that is not yet read, a shape, or the reason why there is none.
        line: 0, since files of shapes have no lines.
    """

    name: str
    label: str
    where: str
    number: int
    content: Content
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class ShapeReader:
    """A reader of shapes for scoring: any file that `read_shapes` reads, into the unit box.

    Attributes:
        points: sampled uniformly on the surface of a mesh; bare points are all used.
        seed: of the points of a mesh.
        up: the axis that is up in the files.
        manifold: refuse a mesh with an edge of more than two triangles; otherwise its triangles are sampled as they
            are, also those inside of a body.

    Raises ValueError for settings out of range.
    """

    points: int
    seed: int
    up: Up
    manifold: bool

    def __post_init__(self) -> None:
        check_settings(self.points, self.up)

    def records(self, source: str | Path) -> Iterator[ShapeRecord]:
        """Yield the records of a file, or of a folder with a folder for each class, in order.

        Raises ValueError, at once, for a source that is missing or holds no shape file.
        """
        return chain.from_iterable(file_records(*file) for file in list_files(Path(source), None, None))

    def point_cloud(self, record: ShapeRecord) -> Entry:
        """Return the points of a record in the unit box, or the reason why there are none."""
        try:
            shape = load_shape(record.content)
            if shape.faces.size and self.manifold and (count := shape.count_non_manifold_edges()):
                raise ShapeError(
                    f"not manifold: edges of more than two triangles, {count} of them "
                    "(reader.manifold=false samples such a mesh as it is)"
                )
            drawn = shape.sample(self.points, shape.generator(self.seed)) if shape.faces.size else shape.vertices
            cloud = PointCloud(turn_upright(drawn, self.up, centre=True), record.label, record.name)
            return replace(cloud, points=place_in_unit_box(cloud.points))
        except ValueError as error:
            return Skipped(record.name, str(error))


DEFAULT_READER = ShapeReader(points=2048, seed=0, up="y", manifold=True)


def file_records(path: Path, label: str, where: str) -> Iterator[ShapeRecord]:
    """Yield the records of one file; only a file that may hold many shapes is read now."""
    if suffix(path) not in ARRAY_SUFFIXES:
        yield ShapeRecord(where, label, where, 0, path)
        return
    try:
        shapes = parse(path)
    except ShapeError as error:
        yield ShapeRecord(where, label, where, 0, error)
        return
    for number, (shape, own_label, name) in enumerate(shapes):
        place = where if len(shapes) == 1 else f"{where}, shape {number + 1}"
        yield ShapeRecord(name or place, own_label or label, where, number, shape)


def load_shape(content: Content) -> Mesh:
    """Return the shape of a record, or raise ShapeError with the reason why there is none."""
    if not isinstance(content, Path):
        return unwrap(content)
    (named,) = parse(content)
    return unwrap(named.shape)


def identity_of(source: str | Path) -> Mapping[str, Any]:
    """Return the identity of a file or a folder of shapes, as JSON, which changes with its files."""
    return identity_of_files((path, where) for path, _, where in list_files(Path(source), None, None))
