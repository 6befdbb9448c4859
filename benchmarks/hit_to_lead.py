"""Hit-to-lead arena: the substituents of real series, regrown from the core in the pocket.

    python benchmarks/hit_to_lead.py DATA list [--training FILE.smi.gz] [--model drugs]
    python benchmarks/hit_to_lead.py DATA run FOLDER --fragments FILE.smi.gz [--series 5] [--seeds 0,1,2] [--smoke]
        [--arms rl,base] [--draws 2000] [--strained 20] [policy=MODEL] [setting=value ...]
    python benchmarks/hit_to_lead.py DATA table FOLDER

DATA has folders of pockets with ligands, as `lead_series.py` reads them. The first command prints the series that its
rule chooses, why other sets are dropped, and how many of the ligands are in a file of SMILES and in the training set of
a model. The second draws what the folder lacks, one seed after the other; killed, the same command goes on. The third
prints the tables of what is done, and writes hit_to_lead.csv. `--smoke` is a small arena, of a minute or two.

The protocol, whose rule of series was fixed before the first run and whose table and budgets after small trials:

- The first `--series` series of the rule; their order is seeded. The core of a pose stays where it is, in a box around
  all poses of the series; new atoms keep off the receptor while they are drawn (`avoid`), in all arms.
- The reward is `reward=pose`, the Vina score where a molecule lies. An arm that uses rewards has 1,600 scores;
  `LEARNING` (`lead_arms.py`) has the settings of the algorithm, which were not tuned here.
- The numbers of new atoms are drawn as they occur in the series, in all arms alike. So an arm knows the sizes of the
  ligands that it is to find, and nothing else of them.
- An arm draws until it has 1,000 different valid molecules, or 2,000 samples; best-of-4 and SMC as many as their scores
  allow. "random" draws substituents of the same sizes from the molecules of FILE.smi.gz.
- `lead_judge.py` says what is valid and recovered, `lead_table.py` how it is averaged. Zero is published.

This measures enrichment on compounds that are known, not prospective design: nothing is synthesised or measured, and
what is not in a series may be better than what is.
"""

import argparse
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lead_arms import ARMS, QUERIES, ROUNDS, Budget, Cell
from lead_judge import Measures, read_sample, strain_of
from lead_series import Choice, Ligand, Series, choose_series
from lead_table import KNOWN, Drawn, by_series, figures, read_ligands, summary, write_csv
from random_substituents import read_fragments

from molrl.data.molecules.graphs import constitution
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.perception import perceive_bonds
from molrl.machine.files import replace_file
from molrl.models.molecules.reference import load_reference

SMOKE = Budget(scores=40, rounds=2, unique=20, draws=20, batch=10, strained=1)
SMOKE_FRAGMENTS = 300  # molecules that are cut
FRAGMENTS_SEED = 0
LIGANDS = "ligands.json"
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


def run_arena(choice: Choice, options: argparse.Namespace, settings: Sequence[str]) -> None:
    """Draw what a folder lacks of the first series, one seed after the other."""
    budget = SMOKE if options.smoke else Budget(draws=options.draws, strained=options.strained)
    refuse_other_settings(options.folder, [f"budget={budget}", *settings])
    largest = max(max(series.sizes) for series in choice.series[: options.series])
    molecules = {"count": SMOKE_FRAGMENTS} if options.smoke else {}
    fragments = read_fragments(options.fragments, largest, FRAGMENTS_SEED, **molecules)
    for seed in map(int, options.seeds.split(",")):
        for number, series in enumerate(choice.series[: options.series], 1):
            folder = options.folder / f"{number:02}_{series.name.replace('/', '_')}"
            cell = Cell(series, seed, folder / f"seed_{seed}", settings, budget, fragments)
            write_ligands(cell, folder / LIGANDS)
            for arm in options.arms.split(","):
                run_arm(cell, arm)


def write_ligands(cell: Cell, path: Path) -> None:
    """Measure the known ligands of a series where they lie, unless that is done."""
    if path.exists():
        return
    rows = []
    for number, ligand in enumerate(cell.series.ligands):
        measures = cell.judge.measure_pose(ligand.graph, ligand.cut.atoms)
        strain = strain_of(ligand.graph) if number < cell.budget.strained else math.nan
        same = replace(measures, key=ligand.key, substituents=ligand.substituents, strain=strain)
        rows.append({**asdict(same), "energy": ligand.energy})
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(rows).encode())


def run_arm(cell: Cell, arm: str) -> None:
    """Draw the samples of an arm that its folder lacks, and keep each batch when it is complete."""
    folder = cell.folder / arm.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    batches = read_batches(folder)
    known = {row["key"] for batch in batches for row in batch["rows"]} - {""}
    start = sum(len(batch["rows"]) for batch in batches)
    while len(known) < cell.budget.unique and start < cell.last(arm):
        began = os.times().user
        samples = range(start, min(start + cell.budget.batch, cell.last(arm)))
        rows = judge_samples(cell, cell.draw(arm, samples), known)
        queries = QUERIES.get(arm, 0) * len(samples)
        batch = {"rows": [asdict(row) for row in rows], "queries": queries, "seconds": os.times().user - began}
        replace_file(folder / f"{start:06}.json", json.dumps(batch).encode())
        start = samples.stop
        valid = sum(not row.reason for row in rows)
        print(f"{folder}: {start} samples, {valid} of {len(rows)} valid, {len(known)} different", flush=True)


def judge_samples(cell: Cell, samples: Sequence[Molecule | None], known: set[str]) -> list[Measures]:
    """Measure samples; the strain of those that are new, as long as few are known, which is added to."""
    rows = []
    for sample in samples:
        row = cell.judge.measure(sample, cell.decoder)
        if row.key and row.key not in known and len(known) < cell.budget.strained and sample is not None:
            mol = read_sample(sample, cell.decoder)
            row = replace(row, strain=strain_of(mol)) if not isinstance(mol, str) else row
        known |= {row.key} - {""}
        rows.append(row)
    return rows


def read_batches(folder: Path) -> list[dict[str, Any]]:
    """Read the batches of an arm in order."""
    return [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("[0-9]*.json"))]


def refuse_other_settings(folder: Path, settings: Sequence[str]) -> None:
    """Note the settings of an arena in its folder.

    Raises:
        SystemExit: it was begun with others.
    """
    file, text = folder / "settings.txt", "".join(f"{setting}\n" for setting in settings)
    if file.exists() and (begun := file.read_text("utf-8")) != text:
        sys.exit(f"{folder}: got the settings {text.splitlines()}, but it was begun with {begun.splitlines()}")
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(file, text.encode())


def read_figures(folder: Path) -> dict[str, dict[int, Mapping[str, Mapping[str, float]]]]:
    """Compute the figures of all arms of a folder that have samples, by series and seed."""
    found: dict[str, dict[int, Mapping[str, Mapping[str, float]]]] = {}
    for place in sorted(path.parent for path in folder.glob(f"*/{LIGANDS}")):
        ligands = read_ligands(place / LIGANDS)
        for cell in sorted(place.glob("seed_*")):
            drawn = {arm: read_drawn(cell, arm) for arm in ARMS if read_batches(cell / arm.replace(" ", "_"))}
            if drawn:
                found.setdefault(place.name, {})[int(cell.name.removeprefix("seed_"))] = figures(drawn, ligands)
    return found


def read_drawn(cell: Path, arm: str) -> Drawn:
    """Read the samples of an arm, with what its training took."""
    batches = read_batches(cell / arm.replace(" ", "_"))
    queries, seconds = (sum(batch[name] for batch in batches) for name in ("queries", "seconds"))
    if arm == "rl":
        lines = [json.loads(line) for line in (cell / ROUNDS).read_text("utf-8").splitlines()]
        queries += sum({line["iteration"]: line["reward_queries"] for line in lines}.values())
        seconds += sum(line["cpu_seconds"] for line in lines)
    return Drawn([row for batch in batches for row in batch["rows"]], round(queries), seconds)


def print_tables(folder: Path) -> None:
    """Print the tables of what is done, and write hit_to_lead.csv."""
    found = read_figures(folder)
    if not found:
        sys.exit(f"{folder}: no arm has any samples yet")
    write_csv(folder / "hit_to_lead.csv", found)
    arms = [KNOWN, *ARMS]
    print(f"{summary(found, arms)}\n\n{by_series(found, arms)}")


def main() -> None:
    """Print the series of a folder, draw, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list")
    listing.add_argument("--training", action="append", default=[])
    listing.add_argument("--model", default="drugs")
    run = commands.add_parser("run")
    run.add_argument("folder", type=Path)
    run.add_argument("--fragments", type=Path, required=True)
    run.add_argument("--series", type=int, default=5)
    run.add_argument("--seeds", default="0,1,2")
    run.add_argument("--arms", default=",".join(ARMS))
    run.add_argument("--draws", type=int, default=Budget.draws)
    run.add_argument("--strained", type=int, default=Budget.strained)
    run.add_argument("--smoke", action="store_true")
    commands.add_parser("table").add_argument("folder", type=Path)
    options, given = parser.parse_known_args()
    settings = given if any(setting.startswith("policy=") for setting in given) else ["policy=drugs_cores", *given]
    torch.set_num_threads(1)
    if options.command == "table":
        print_tables(options.folder)
        return
    try:
        choice = choose_series(options.data)
    except ValueError as error:
        sys.exit(str(error))
    if options.command == "run":
        run_arena(choice, options, settings)
    else:
        print_choice(choice, [options.model, *options.training])


if __name__ == "__main__":
    main()
