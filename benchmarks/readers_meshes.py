"""Read every mesh and point file of a folder with molrl and with trimesh, and print where they disagree.

    python benchmarks/readers_meshes.py FOLDER

Each file is read in a worker process with a limit on its time and memory, by molrl as rewards and data sets read it and
by trimesh as it is (`trimesh.load_scene` without processing). A row of the table is a file, what of it differs, and the
value of each; the last line counts the files. No file is written.
"""

import argparse
import io
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molrl.data.files import suffix
from molrl.data.shapes.files import parse, read_content, unwrap
from molrl.data.shapes.folders import list_files
from molrl.machine.workers.local import Workers
from molrl.machine.workers.protocol import Lost

MEASURES = ("triangles", "area", "volume", "box")
TOLERANCE = 1e-4  # of the size of a shape to the power of its dimension
DIGITS = 5


@dataclass(frozen=True)
class Row:
    """A disagreement on a file."""

    file: str
    what: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"| {' | '.join(each.replace('|', '/') for each in (self.file, self.what, self.ours, self.theirs))} |"


def measures(vertices: NDArray[Any], faces: NDArray[Any]) -> dict[str, Any]:
    """Return the measures of a mesh, or the number and the box of bare points."""
    if not len(faces):
        return {"points": len(vertices), "box": box(vertices)}
    corners = np.asarray(vertices, np.float64)[faces]
    a, b, c = (corners[:, corner] - corners[0, 0] for corner in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    volume = (a * np.cross(b, c)).sum() / 6
    return {
        "triangles": len(faces),
        "area": round(float(area), DIGITS),
        "volume": round(abs(float(volume)), DIGITS),
        "box": box(corners.reshape(-1, 3)),
    }


def box(points: NDArray[Any]) -> list[float]:
    """Return the lowest and the highest coordinates of points [n, 3]."""
    return [round(float(value), DIGITS) for value in (*points.min(0), *points.max(0))]


def measure_molrl(path: Path) -> dict[str, Any]:
    """Return the measures of a file as molrl reads it, or the reason why it does not."""
    try:
        shapes = parse(path)
        if len(shapes) != 1:
            return {"shapes": len(shapes)}
        shape = unwrap(shapes[0].shape)
    except ValueError as error:
        return {"error": str(error)}
    return measures(shape.vertices, shape.faces)


def measure_trimesh(path: Path) -> dict[str, Any]:
    """Return the measures of a file as trimesh reads it, or its error; files that it names are not opened."""
    import trimesh

    logging.getLogger("trimesh").setLevel(logging.CRITICAL)
    try:
        content = io.BytesIO(read_content(path))
        scene = trimesh.load_scene(content, file_type=suffix(path).removeprefix("."), process=False)
        parts = scene.dump()
        meshes = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
        if meshes:
            corners = np.concatenate([mesh.triangles for mesh in meshes])
            return measures(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3))
        points = [part.vertices for part in parts if isinstance(part, trimesh.Trimesh | trimesh.PointCloud)]
        return measures(np.concatenate(points), np.zeros((0, 3), np.int64))
    except Exception as error:  # any, as it is what is measured
        return {"error": f"{type(error).__name__}: {error}"}


def measure_both(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return measure_molrl(path), measure_trimesh(path)


def differences(file: str, ours: dict[str, Any], theirs: dict[str, Any]) -> list[Row]:
    """Return what differs between two readings of a file by more than rounding."""
    if "error" in ours or "error" in theirs:
        said = [one.get("error", "read")[:80] for one in (ours, theirs)]
        return [] if "error" in ours and "error" in theirs else [Row(file, "read", *said)]
    size = max(
        1e-9, *(high - low for one in (ours, theirs) for low, high in zip(one["box"][:3], one["box"][3:], strict=True))
    )
    allowed = {"area": size**2, "volume": size**3, "box": size}
    rows = []
    for what in sorted(ours.keys() | theirs.keys()):
        ours_of, theirs_of = (np.atleast_1d(np.array(one.get(what, np.nan), np.float64)) for one in (ours, theirs))
        if not np.allclose(ours_of, theirs_of, rtol=0, atol=TOLERANCE * allowed.get(what, 0)):
            rows.append(Row(file, what, *(" ".join(f"{value:g}" for value in one) for one in (ours_of, theirs_of))))
    return rows


def compare(folder: Path, timeout: float, memory: int) -> tuple[list[Row], Counter[str]]:
    """Return the disagreements on the files of a folder, and how many files ended how."""
    files = list_files(folder, None, None)
    rows, counts = list[Row](), Counter[str]()
    with Workers(measure_both, workers=1, timeout=timeout, memory=memory, chunk=1) as workers:
        for (_, _, name), answer in zip(files, workers.stream(path for path, _, _ in files), strict=True):
            if isinstance(answer, Lost):
                rows.append(Row(name, "lost", str(answer.reason), str(answer.reason)))
                counts["lost"] += 1
                continue
            ours, theirs = answer
            found = differences(name, ours, theirs)
            rows += found
            counts[outcome(ours, theirs, found)] += 1
    return rows, counts


def outcome(ours: dict[str, Any], theirs: dict[str, Any], found: list[Row]) -> str:
    """Return how the readings of a file ended."""
    if "error" in ours or "error" in theirs:
        readers = [name for name, one in (("molrl", ours), ("trimesh", theirs)) if "error" not in one]
        return f"read by {readers[0]} alone" if readers else "read by neither"
    return "different" if found else "equal"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for a file (60)")
    parser.add_argument("--memory", type=int, default=4096, help="MiB for a file (4096)")
    options = parser.parse_args()
    rows, counts = compare(options.folder, options.timeout, options.memory)
    print("| file | what | molrl | trimesh |\n|---|---|---|---|", *rows, sep="\n")
    print(f"\n{sum(counts.values())} files: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))


if __name__ == "__main__":
    main()
