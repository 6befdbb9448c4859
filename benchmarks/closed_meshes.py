"""Stability by margin and by simulation, of shells and of solids, against the solid that the points were drawn from.

`python benchmarks/closed_meshes.py [shapes=60] [out=closed_meshes.csv]` takes procedural chairs and tables of the
validation split, draws 256, 1,024 and 2,048 points of each, and compares with the exact solid: margin and drop test of
the points, and volume and drop test of the closed mesh that `molrl.data.shapes.alpha` makes of them. Rows of single
shapes go to a CSV.
"""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

from molrl.data.shapes.alpha import solid_mesh
from molrl.data.shapes.cloud import PointCloud, place_in_unit_box
from molrl.data.shapes.mass import mass_of_points, mass_of_solid, volume
from molrl.data.shapes.mesh import Mesh, ShapeError
from molrl.data.shapes.procedural import Procedural
from molrl.rewards.shapes.drop_simulation import DropTest, tilt
from molrl.rewards.shapes.stability import StabilityMargin

COUNTS, DENSE, SECONDS, MAX_TILT = (256, 1024, 2048), 4096, 4.0, 20.0
MARGIN = StabilityMargin(plate=0.25)


def measure(source: Procedural, index: int) -> list[dict[str, Any]]:
    """Return a row for each number of points of one shape."""
    solid = source.solid(index)
    exact = Mesh(place_in_unit_box(solid.mesh.vertices.astype(np.float32)).astype(np.float64), solid.mesh.faces)
    dense = exact.sample(DENSE, np.random.default_rng(index))
    truth: dict[str, Any] = {
        "shape": f"{solid.family}-{solid.number}-{solid.defect}",
        "margin": MARGIN.score_one(PointCloud(dense.astype(np.float32))).value,
        "shell_stands": tilt(dense, mass_of_points(dense), SECONDS) < MAX_TILT,
        "solid_stands": tilt(dense, mass_of_solid(exact), SECONDS) < MAX_TILT,
    }
    rows = []
    for count in COUNTS:
        cloud = PointCloud(exact.sample(count, np.random.default_rng((index, count))).astype(np.float32))
        try:
            share = volume(solid_mesh(cloud.points)) / volume(exact)
        except ShapeError:
            share = float("nan")
        shell, print_ = (DropTest(seconds=SECONDS, mass=mass).score_one(cloud) for mass in ("points", "solid"))
        own = {"points": count, "own_margin": MARGIN.score_one(cloud).value, "volume": share}
        stands = {"own_shell_stands": -shell.value < MAX_TILT, "own_solid_stands": -print_.value < MAX_TILT}
        rows.append(truth | own | stands)
    return rows


def main() -> None:
    """Measure the shapes and print a row for each number of points."""
    given = dict(item.split("=", 1) for item in sys.argv[1:])
    shapes, out = int(given.pop("shapes", 60)), Path(given.pop("out", "closed_meshes.csv"))
    if given:
        sys.exit(f"{', '.join(given)}: allowed are shapes and out")
    source = Procedural(families=("chair", "table"), split="validation")
    rows = []
    for index in range(shapes):
        rows += measure(source, index)
        print(f"\r{index + 1} of {shapes}", end="", file=sys.stderr, flush=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"\n{shapes} shapes; stand: shell {share(rows, 'shell_stands')}, solid {share(rows, 'solid_stands')}")
    print(
        "| points | margin, RMS error | its sign and the shell agree | shells agree | closed | volume | solids agree |"
    )
    print("|---|---|---|---|---|---|---|")
    for count in COUNTS:
        own = [row for row in rows if row["points"] == count]
        error = np.sqrt(np.mean([(row["own_margin"] - row["margin"]) ** 2 for row in own]))
        sign = np.mean([(row["own_margin"] > 0) == row["shell_stands"] for row in own])
        shell, print_ = (
            np.mean([row[f"own_{kind}_stands"] == row[f"{kind}_stands"] for row in own]) for kind in ("shell", "solid")
        )
        volumes = np.array([row["volume"] for row in own])
        closed = np.isfinite(volumes)
        print(
            f"| {count} | {error:.3f} | {sign:.2f} | {shell:.2f} | {closed.mean():.2f} | "
            f"{volumes[closed].mean():.2f} ± {volumes[closed].std():.2f} | {print_:.2f} |"
        )


def share(rows: list[dict[str, Any]], name: str) -> str:
    """Return the share of rows in which a column is true."""
    return f"{np.mean([row[name] for row in rows]):.2f}"


if __name__ == "__main__":
    main()
