"""Hit-to-lead arena: the substituents of real series, regrown from the core in the pocket.

    python benchmarks/hit_to_lead.py DATA list [--training FILE.smi.gz] [--model drugs]

DATA has folders of pockets with ligands, as `lead_series.py` reads them. The command prints the series that its rule
chooses, why other sets are dropped, and how many of the ligands are in a file of SMILES and in the training set of a
model.

This measures enrichment on compounds that are known, not prospective design: nothing is synthesised or measured, what
is not in a series may be better than what is, and the sizes of the substituents are those of the series.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
from lead_series import Choice, Ligand, Series, choose_series

from molrl.data.molecules.graphs import constitution
from molrl.data.molecules.perception import perceive_bonds
from molrl.models.molecules.reference import load_reference

HEADINGS = (
    "series",
    "ligands",
    "poses",
    "core",
    "core atoms",
    "share of core, %",
    "attach",
    "new atoms",
    "dG, kcal/mol",
    "RMSD of cores, A",
)


def print_choice(choice: Choice, references: Sequence[str]) -> None:
    """Print the series in the order of the arena, the other sets by reason, and the overlap with references."""
    columns = [*HEADINGS, *(f"in {Path(reference).name}" for reference in references)]
    print(f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    members = [
        load_reference("training", name, perceive_bonds, "counts", perceive=False).members for name in references
    ]
    for number, series in enumerate(choice.series, 1):
        cells = [*describe(series), *(str(count_in(series.ligands, known)) for known in members)]
        print(f"| {number} | {' | '.join(cells)} |")
    print(f"\n{len(choice.series)} series, {sum(len(series.ligands) for series in choice.series)} ligands. Dropped:")
    sets = defaultdict[str, list[str]](list)
    for name, reason in sorted(choice.dropped.items()):
        sets[reason].append(name)
    for reason, names in sorted(sets.items(), key=lambda item: -len(item[1])):
        print(f"- {len(names)} sets, {reason}: {', '.join(names)}")
    for reason, count in choice.left_out.items():
        print(f"- {count} records, {reason}")


def describe(series: Series) -> list[str]:
    """Return the cells of a series."""
    reference = series.ligands[series.reference]
    energies = [ligand.energy for ligand in series.ligands]
    low, high = series.share
    return [
        *(series.name, str(len(series.ligands)), str(series.poses), f"`{series.core}`", str(len(reference.cut.atoms))),
        f"{100 * low:.0f} to {100 * high:.0f}",
        ", ".join(str(site) for site in series.attach),
        ", ".join(f"{size}: {count}" for size, count in series.sizes.items()),
        f"{min(energies):.1f} to {max(energies):.1f}",
        f"{np.median(series.distances[series.reference]):.2f}",
    ]


def count_in(ligands: Sequence[Ligand], known: Container[str]) -> int:
    """Count the ligands that are known, neutral or as charged as in their file."""
    return sum(ligand.key in known or constitution(ligand.graph) in known for ligand in ligands)


def main() -> None:
    """Print the series of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list")
    listing.add_argument("--training", action="append", default=[])
    listing.add_argument("--model", default="drugs")
    options = parser.parse_args()
    try:
        choice = choose_series(options.data)
    except ValueError as error:
        sys.exit(str(error))
    print_choice(choice, [options.model, *options.training])


if __name__ == "__main__":
    main()
