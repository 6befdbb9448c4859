r"""Networks for drug-size molecules at equal compute: error per atom against core-hours of `molrl pretrain`.

Train the arms first, each in a folder of its own and on one thread, with the same data and seed, for instance

    molrl pretrain model=drugs data.path=drugs.smi run=runs/pair threads=1
    molrl pretrain model=drugs data.path=drugs.smi run=runs/egnn threads=1 \
        'model.network={kind: egnn, width: 256, pair_width: 64, blocks: 6, radial: 20}'

and then: python benchmarks/gate.py runs/pair runs/egnn --csv gate.csv --plot gate.png

The error per atom e solves (1 - e)^n = c for molecules of n heavy atoms, of which the share c is valid and connected:
it compares models of molecules of different sizes, and falls as a power of the compute as losses do.
"""

import argparse
import csv
import json
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from molrl.runs.tracking import PRETRAINING_FILE

SECONDS_PER_HOUR = 3600


class Point(NamedTuple):
    """A report of a run.

    Attributes:
        hours: core-hours of training so far.
        connected: share of the samples that are valid and connected.
        error: error per atom; NaN where no sample is connected.
    """

    hours: float
    step: int
    loss: float
    connected: float
    error: float


def read_points(folder: Path) -> list[Point]:
    """Return the reports of a run of `molrl pretrain`."""
    rows: list[Mapping[str, Any]] = [json.loads(line) for line in (folder / PRETRAINING_FILE).read_text().splitlines()]
    hours = accumulate(row["core_seconds"] / SECONDS_PER_HOUR for row in rows)
    return [
        Point(hour, row["step"], row["loss"], row["validity_connected"], atom_error(row))
        for hour, row in zip(hours, rows, strict=True)
    ]


def atom_error(row: Mapping[str, Any]) -> float:
    """Return the error per atom of the samples of a report."""
    connected, atoms = float(row["validity_connected"] or 0.0), float(row["mean_heavy_atoms"])
    return 1 - math.pow(connected, 1 / atoms) if connected > 0 else math.nan


def slope(points: Sequence[Point]) -> float:
    """Return the exponent of the error as a power of the core-hours, by least squares in logarithms."""
    logs = [(math.log(point.hours), math.log(point.error)) for point in points if 0 < point.error < 1]
    if len(logs) < 2:
        return math.nan
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    return float(sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs))


def table(arms: Mapping[str, Sequence[Point]]) -> str:
    """Return the last report of each arm as a Markdown table."""
    lines = ["| arm | core-hours | steps | loss | valid and connected | error per atom | slope |", "|---|" + "---|" * 6]
    for name, points in arms.items():
        last = points[-1]
        cells = [f"{last.hours:.2f}", f"{last.step:,}", f"{last.loss:.4f}", f"{last.connected:.1%}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {last.error:.4f} | {slope(points):.2f} |")
    return "\n".join(lines)


def plot(arms: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Draw the error per atom of each arm against its core-hours, both on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in arms.items():
        shown = [point for point in points if point.error > 0]
        axes.loglog([point.hours for point in shown], [point.error for point in shown], "o-", label=name)
    axes.set(xlabel="core-hours of training", ylabel="error per atom")
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Print the table of some runs, and write their reports and the plot where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of molrl pretrain")
    parser.add_argument("--csv", type=Path, help="also write every report here")
    parser.add_argument("--plot", type=Path, help="also draw the curves here")
    arguments = parser.parse_args()
    arms = {folder.name: read_points(folder) for folder in arguments.runs}
    print(table(arms))
    if arguments.csv:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["arm", *Point._fields])
            for name, points in arms.items():
                rows.writerows([name, *(round(value, 5) for value in point)] for point in points)
    if arguments.plot:
        plot(arms, arguments.plot)


if __name__ == "__main__":
    main()
