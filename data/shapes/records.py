"""The records of shape files, one at a time, for those who must say of each what became of it."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from molrl.data.files import Skipped, suffix
from molrl.data.shapes.cloud import MOST_POINTS, PointCloud, in_unit_box
from molrl.data.shapes.files import Entry, Up, listed, luck, parse, refuse_unknown_axis, sound, upright
from molrl.data.shapes.mesh import Mesh, ShapeError

ARRAYS = (".npy", ".npz")  # which may have many shapes

Content: TypeAlias = Path | Mesh | ShapeError


class ShapeRecord(NamedTuple):
    """One shape of a file, or the file itself where it has but one.

    Attributes:
        name: of the shape, or where it is.
        label: the class, "" where there is none.
        where: of its file, below the source.
        number: in the file, from 0.
        content: a file that is not yet read, a shape, or why there is none.
        line: files of shapes have none.
    """

    name: str
    label: str
    where: str
    number: int
    content: Content
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class ShapeReader:
    """How shapes are read for scoring: any of the files that `read_shapes` takes, into the unit box.

    Attributes:
        points: sampled evenly on the surface of a mesh; bare points are all taken.
        seed: of the points of a mesh.
        up: the axis that is up in the files.
        manifold: refuse a mesh with an edge of more than two triangles; otherwise its triangles are sampled as they
            are, those inside of a body too.
    """

    points: int
    seed: int
    up: Up
    manifold: bool

    def __post_init__(self) -> None:
        if not 0 < self.points <= MOST_POINTS:
            raise ValueError(f"points: got {self.points}, need 1 to {MOST_POINTS}")
        refuse_unknown_axis(self.up)

    def records(self, source: str | Path) -> Iterator[ShapeRecord]:
        """Those of a file, or of a folder with a folder for each class, in order.

        Raises ValueError, at once, for a source that is missing or holds no shape file.
        """
        return chain.from_iterable(records_of(*file) for file in listed(Path(source), None, None))

    def point_cloud(self, record: ShapeRecord) -> Entry:
        """The points of a record in the unit box, or why there are none."""
        try:
            shape = shape_of(record.content)
            if shape.faces.size and self.manifold and (crowded := shape.crowded_edges()):
                raise ShapeError(
                    f"not manifold: edges of more than two triangles, {crowded} of them "
                    "(shapes.manifold=false samples such a mesh as it is)"
                )
            drawn = shape.vertices
            if shape.faces.size:
                drawn = shape.sample(self.points, luck(self.seed, record.where, record.number))
            middle = (drawn.min(0) + drawn.max(0)) / 2  # far from the origin float32 would round the shape away
            cloud = PointCloud(upright(drawn - middle, self.up), record.label, record.name)
            return replace(cloud, points=in_unit_box(cloud.points))
        except ValueError as error:
            return Skipped(record.name, str(error))


AS_THEY_ARE = ShapeReader(points=2048, seed=0, up="y", manifold=True)


def records_of(path: Path, label: str, where: str) -> Iterator[ShapeRecord]:
    """The records of one file; one that may hold many shapes is read, all others are left for later."""
    if suffix(path) not in ARRAYS:
        yield ShapeRecord(where, label, where, 0, path)
        return
    try:
        found = parse(path)
    except ShapeError as error:
        yield ShapeRecord(where, label, where, 0, error)
        return
    for number, (shape, own, name) in enumerate(found):
        place = where if len(found) == 1 else f"{where}, shape {number + 1}"
        yield ShapeRecord(name or place, own or label, where, number, shape)


def shape_of(content: Content) -> Mesh:
    """The shape of a record; raises ShapeError with the reason where there is none."""
    if not isinstance(content, Path):
        return sound(content)
    (found,) = parse(content)
    return sound(found.shape)


def identity_of(source: str | Path) -> Mapping[str, Any]:
    """What tells a file or a folder of shapes from another one, or from itself after a change, as JSON."""
    found = hashlib.sha256()
    total, changed = 0, 0
    files = listed(Path(source), None, None)
    for path, _, where in files:
        stat = path.stat()
        found.update(f"{where} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
        total, changed = total + stat.st_size, max(changed, stat.st_mtime_ns)
    latest = datetime.fromtimestamp(changed / 1e9, UTC).isoformat()
    return {"files": len(files), "bytes": total, "changed": latest, "head": found.hexdigest()[:16]}
