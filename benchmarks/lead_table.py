"""The table of the hit-to-lead arena: recovery of the known ligands, and the quality of samples at equal size.

- An arm "recovers" a ligand that is among its first `MAX_UNIQUE` different valid molecules. The first molecules of all
  arms that have any, as many as each of these has and `MAX_EQUAL` at most, are compared by "equal n".
- Enrichment is the probability that a ligand that was recovered binds better than one that was not (ties count half):
  0.5 is chance; it does not exist where none or all were recovered.
- Scores, clashes and strain are means over different valid molecules at equal size: the mean of each number of new
  atoms, weighed by the sizes of the series, over the sizes that all arms with any molecule have.
"""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from molrl.data.molecules.circles import count_circles
from molrl.data.molecules.unembedded import Graphs

MAX_UNIQUE, MAX_EQUAL = 1000, 100
KNOWN = "known ligands"
COLUMNS: Mapping[str, tuple[str, int]] = {  # heading and digits
    "draws": ("draws", 0),
    "validity": ("valid, core kept", 3),
    "unique": ("different", 0),
    "recovered": ("recovered", 2),
    "substituents": ("substituents", 2),
    "recovered_equal": ("recovered, equal n", 2),
    "enrichment": ("enrichment", 2),
    "circles": ("#Circles of substituents, equal n", 1),
    "vina": ("Vina, pose", 2),
    "vinardo": ("Vinardo, held out", 2),
    "clashes": ("clashes", 3),
    "strain": ("strain, kcal/mol", 1),
    "queries": ("queries", 0),
    "seconds": ("CPU s", 0),
}
AT_EQUAL_SIZE = "vina", "vinardo", "clashes", "strain"
Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Ligands:
    """The known ligands of a series: what was measured of them, and how their poses are judged.

    Attributes:
        energies: of each, by its SMILES, kcal/mol.
        substituents: of all.
        sizes: how many have each number of new atoms.
        rows: their measures.
    """

    energies: Mapping[str, float]
    substituents: frozenset[str]
    sizes: Mapping[int, int]
    rows: Sequence[Row]


def read_ligands(path: Path) -> Ligands:
    """Read the known ligands of a series."""
    rows = json.loads(path.read_text("utf-8"))
    sizes = defaultdict[int, int](int)
    for row in rows:
        sizes[row["new_atoms"]] += 1
    energies = {row["key"]: row["energy"] for row in rows}
    return Ligands(energies, frozenset(text for row in rows for text in row["substituents"]), sizes, rows)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The samples of an arm.

    Attributes:
        rows: the measures of each sample, in order.
        queries: of the reward, for training and sampling.
        seconds: of CPU time, likewise.
    """

    rows: Sequence[Row]
    queries: int
    seconds: float

    @property
    def different(self) -> list[Row]:
        """Return the first sample of each different valid molecule, in order, `MAX_UNIQUE` at most."""
        first: dict[str, Row] = {}
        for row in self.rows:
            if row["key"]:
                first.setdefault(row["key"], row)
        return list(first.values())[:MAX_UNIQUE]


def figures(drawn: Mapping[str, Drawn], ligands: Ligands) -> dict[str, dict[str, float]]:
    """Return the figures of all arms of a series and a seed."""
    different = {arm: samples.different for arm, samples in drawn.items()}
    equal = min((MAX_EQUAL, *(len(rows) for rows in different.values() if rows)))
    judged = {**different, KNOWN: ligands.rows}
    levels = {name: equal_size_means(judged, ligands.sizes, name) for name in AT_EQUAL_SIZE}
    table = {KNOWN: {**dict.fromkeys(COLUMNS, math.nan), **{name: levels[name][KNOWN] for name in AT_EQUAL_SIZE}}}
    table[KNOWN] |= {"ligands": float(len(ligands.energies)), "equal_n": math.nan, "unique": float(len(ligands.rows))}
    for arm, samples in drawn.items():
        keys = [row["key"] for row in different[arm]]
        found, first = ligands.energies.keys() & keys, ligands.energies.keys() & keys[:equal]
        groups = {text for row in different[arm] for text in row["substituents"]}
        compared = {".".join(row["substituents"]) for row in different[arm][:equal]} - {""}
        table[arm] = {
            "draws": float(len(samples.rows)),
            "validity": fmean(bool(row["key"]) for row in samples.rows) if samples.rows else math.nan,
            "unique": float(len(keys)),
            "recovered": float(len(found)),
            "substituents": float(len(groups & ligands.substituents)),
            "recovered_equal": float(len(first)) if keys else math.nan,
            "enrichment": enrichment(ligands.energies, found),
            "circles": float(count_circles(Graphs.parse(sorted(compared)))) if keys else math.nan,
            **{name: levels[name][arm] for name in AT_EQUAL_SIZE},
            "queries": float(samples.queries),
            "seconds": samples.seconds,
            "ligands": float(len(ligands.energies)),
            "equal_n": float(equal),
        }
    return table


def enrichment(energies: Mapping[str, float], found: frozenset[str] | set[str]) -> float:
    """Compute the probability that a ligand that was found binds better than one that was not; NaN of none or all."""
    here = [energy for key, energy in energies.items() if key in found]
    rest = [energy for key, energy in energies.items() if key not in found]
    wins = [float(one < other) + 0.5 * (one == other) for one, other in product(here, rest)]
    return fmean(wins) if wins else math.nan


def equal_size_means(arms: Mapping[str, Sequence[Row]], weights: Mapping[int, float], name: str) -> Mapping[str, float]:
    """Compute the mean of a measure in each arm, with the same sizes in all.

    The means of the numbers of new atoms are weighed by the series, over those that each arm with any molecule has.
    Values that are not finite are left out; NaN where an arm has none, or there is no such size.
    """
    by_size: dict[str, dict[int, list[float]]] = {}
    for arm, rows in arms.items():
        cells = by_size[arm] = defaultdict[int, list[float]](list)
        for row in rows:
            if math.isfinite(row[name]):
                cells[row["new_atoms"]].append(row[name])
    present = [cells for cells in by_size.values() if cells]
    shared = [size for size in weights if present and all(size in cells for cells in present)]
    total = sum(weights[size] for size in shared)
    return {
        arm: sum(weights[size] * fmean(cells[size]) for size in shared) / total if cells and total else math.nan
        for arm, cells in by_size.items()
    }


Figures = Mapping[str, Mapping[int, Mapping[str, Mapping[str, float]]]]
"""Figures by series, seed, arm and name."""


def summary(figures_of: Figures, arms: Sequence[str]) -> str:
    """Return the table of all series: means over series, then over seeds, with the standard error over seeds."""
    lines = headings("")
    for arm in arms:
        by_seed = defaultdict[int, list[Mapping[str, float]]](list)
        for seeds in figures_of.values():
            for seed, table in seeds.items():
                if arm in table:
                    by_seed[seed].append(table[arm])
        cells = [
            cell([mean_of([row[name] for row in rows]) for rows in by_seed.values()], digits)
            for name, (_, digits) in COLUMNS.items()
        ]
        series = sum(any(arm in table for table in seeds.values()) for seeds in figures_of.values())
        lines.append(f"| {arm} | {series} | {len(by_seed)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def by_series(figures_of: Figures, arms: Sequence[str]) -> str:
    """Return the table of each series: means over seeds with their standard errors."""
    lines = headings("series ")
    for name, seeds in figures_of.items():
        for arm in arms:
            rows = [table[arm] for table in seeds.values() if arm in table]
            if rows:
                cells = [cell([row[column] for row in rows], digits) for column, (_, digits) in COLUMNS.items()]
                lines.append(f"| {name}, {arm} | {rows[0]['ligands']:.0f} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def headings(first: str) -> list[str]:
    """Return the first two lines of a table."""
    counted = "ligands" if first else "series"
    names = [first, counted, "seeds", *(heading for heading, _ in COLUMNS.values())]
    return [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]


def mean_of(values: Sequence[float]) -> float:
    """Return the mean of the values that exist; NaN of none."""
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def cell(values: Sequence[float], digits: int) -> str:
    """Format a mean over seeds with its standard error, where several have a value."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "-"
    error = f" ± {stdev(known) / len(known) ** 0.5:.{digits}f}" if len(known) > 1 else ""
    return f"{fmean(known):.{digits}f}{error}"


def write_csv(path: Path, figures_of: Figures) -> None:
    """Write one row for each series, seed and arm."""
    names = [*COLUMNS, "ligands", "equal_n"]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["series", "seed", "arm", *names])
        for series, seeds in figures_of.items():
            for seed, arms in seeds.items():
                for arm, row in arms.items():
                    table.writerow([series, seed, arm, *(f"{row[name]:.4g}" for name in names)])
