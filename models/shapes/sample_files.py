"""Files of samples of which each holds one shape: points, or the closed mesh around them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from molrl.data.shapes.alpha import solid_mesh
from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.glb import write_glb
from molrl.data.shapes.mesh import ShapeError
from molrl.data.shapes.ply import write_ply
from molrl.data.shapes.stl import write_stl

WRITERS: Mapping[str, Callable[..., None]] = {".ply": write_ply, ".glb": write_glb, ".stl": write_stl}
ONLY_MESHES = (".stl",)  # formats without bare points


class Content(NamedTuple):
    """The contents of one file: points [n, 3], and triangles [f, 3] unless it is a point cloud."""

    points: Any
    faces: Any = None


def write_each(samples: Sequence[PointCloud], path: Path, *, meshes: bool) -> int:
    """Write each sample that is a shape to a file of its own, and return how many there are.

    A single sample goes to `path`, several to numbered files, and a line is printed that names them. With `meshes`, and
    for a format without bare points, a file holds the closed surface of the solid; a line counts samples without one.
    """
    solid = meshes or path.suffix in ONLY_MESHES
    rows = [row for row, sample in enumerate(samples) if len(sample) > 1]
    contents, problems = dict[int, Content](), list[str]()
    for row in rows:
        try:
            contents[row] = content_of(samples[row], solid=solid)
        except ShapeError as error:
            problems.append(str(error))
    files = {row: path if len(samples) == 1 else path.with_stem(f"{path.stem}-{row}") for row in contents}
    for row, file in files.items():
        WRITERS[path.suffix](file, *contents[row])
    if len(samples) > 1 and files:
        names = list(files.values())
        print(f"{path.suffix} holds one shape: wrote {len(files)} files, {names[0]} to {names[-1].name}")
    if problems:
        print(f"{len(problems)} of {len(samples)} samples have no closed mesh and no file: {problems[0]}")
    return len(files)


def content_of(sample: PointCloud, *, solid: bool) -> Content:
    """Return the points of a sample, or the mesh of the solid that they enclose."""
    if not solid:
        return Content(sample.points, None)
    mesh = solid_mesh(sample.points)
    return Content(mesh.vertices, mesh.faces)
