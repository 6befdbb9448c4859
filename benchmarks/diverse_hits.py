"""Diverse Hits (Renz, Luukkonen and Klambauer 2024, doi:10.1021/acs.jcim.4c00519): how many different hits one finds.

    python benchmarks/diverse_hits.py forests DATA FOLDER --reference SMILES_FILE ...
    python benchmarks/diverse_hits.py run FOLDER --library SMILES_FILE ... [--budget 10000] [setting=value ...]
    python benchmarks/diverse_hits.py table FOLDER [--csv FILE]

The first trains the forests of DATA/gsk3_splits.csv.gz and DATA/jnk3_splits.csv.gz and fits the property filter. Then
`molrl train task=custom policy=drugs reward=gsk3 algo=nft --config-dir FOLDER` trains toward one of them, by its name.
The second does the searches that the folder lacks, one after the other in one process; killed, it goes on. Settings are
those of `molrl train` for the methods that fine-tune. The third prints the table, with the published rows.

The protocol, which was fixed before the first run:

- A score is the forest's probability of activity, and 0 where the property filter is failed. A hit has at least 0.5.
- A search has a budget of unique molecules, 10,000. Repeated and invalid ones are free; what fails the filter counts.
- Diverse hits are the #Circles of the hits: as many as MaxMin finds further than 0.7 from one another, by the Tanimoto
  distance of Morgan fingerprints of radius 2 with 2048 bits. Novel ones are also that far from the training actives.
- "screening FILE" draws molecules of a file in a random order.
- "genetic algorithm" starts from random molecules of the first library. Its settings are those that the benchmark's
  authors found by a search of 15 trials for each target; "filtered" is with their diversity filter, as published rows
  are: a molecule within 0.7 of an earlier hit is worth nothing to the search.
- "nft" fine-tunes `drugs` with the defaults of `molrl train policy=drugs algo=nft`, toward the score as it is;
  "nft, diversity" does so with a soft penalty on molecules within 0.7 of one another. No setting was tuned.
- Three seeds. The forests are retrained and the known patterns of the filter are of another reference, so published
  rows are an indication; methods of one folder are comparable.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from graph_ga import GraphGA, evolve
from hits_filter import PropertyFilter, fit_filter
from hits_finetune import ARMS, fine_tune
from hits_forest import PUBLISHED_AUC, Labelled, read_split, train_forest, write_forest
from hits_ledger import BUDGET, Ledger, activity_oracle
from hits_table import markdown, outcome_of, read_outcomes, write_csv

from molrl.data.molecules.smiles import smiles_lines
from molrl.machine.files import read_text, replace_file

SEEDS = "0,1,2"
BATCH = 500  # molecules of a screening that are scored at a time
GENETIC = {  # ml-jku/diverse-hits, notebooks/tables/hyperparameter_table.tex: 10,000 samples
    "gsk3": {"mutation_rate": 2.13e-3, "pool": 426, "population": 397},
    "jnk3": {"mutation_rate": 1.86e-2, "pool": 230, "population": 409},
}
FILTER = "filter.npz"
MAX_BYTES = 1 << 28


class Job(NamedTuple):
    """A search that is to be done: it returns the ledger it filled."""

    target: str
    method: str
    seed: int
    work: Callable[[Ledger], Ledger]


@dataclass(frozen=True)
class Searches:
    """The searches of a folder.

    Attributes:
        folder: of the forests, the filter and the outcomes.
        libraries: files of SMILES.
        budget: unique scores of a search.
        methods: beginnings of the names of those to run.
        seeds: of the searches.
        settings: of `molrl train`.
    """

    folder: Path
    libraries: Sequence[Path]
    budget: int
    methods: Sequence[str]
    seeds: Sequence[int]
    settings: Sequence[str]

    @cached_property
    def accepted(self) -> PropertyFilter:
        """Return the property filter."""
        return PropertyFilter.load(self.folder / FILTER)

    def jobs(self) -> Iterator[Job]:
        """Yield the searches that were chosen, those of a seed before those of the next."""
        for seed in self.seeds:
            for target in PUBLISHED_AUC:
                for method, work in self.works(target, seed).items():
                    if method.startswith(tuple(self.methods)):
                        yield Job(target, method, seed, work)

    def works(self, target: str, seed: int) -> dict[str, Callable[[Ledger], Ledger]]:
        """Return the methods, by their names."""
        found: dict[str, Callable[[Ledger], Ledger]] = {
            f"screening {path.name.partition('.')[0]}": partial(screen, library=path, seed=seed)
            for path in self.libraries
        }
        for name, filtered in (("genetic algorithm", False), ("genetic algorithm, filtered", True)):
            ga = GraphGA(**GENETIC[target], filtered=filtered)  # type: ignore[arg-type]
            found[name] = partial(search_genetically, library=self.libraries[0], settings=ga, seed=seed)
        for arm in ARMS:
            place = self.folder / "runs" / f"{target}_{arm}_{seed}"
            found[arm] = partial(
                fine_tune, file=place / "ledger.json", folder=place, arm=arm, seed=seed, settings=self.settings
            )
        return found

    def run(self) -> None:
        """Do the searches that the folder lacks."""
        refuse_other_protocol(self.folder, self.budget, self.libraries, self.settings)
        for job in self.jobs():
            file = self.folder / "outcomes" / f"{job.target}_{job.method}_{job.seed}.json"
            if file.exists():
                continue
            began = time.perf_counter()
            oracle = activity_oracle(self.folder / f"{job.target}.skops", self.accepted)
            ledger = job.work(Ledger(oracle, self.budget))
            ledger.save(self.folder / "ledgers" / file.name)
            actives = read_library(self.folder / f"{job.target}_actives.smi")
            outcome = outcome_of(ledger, actives, *job[:3], time.perf_counter() - began)
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, json.dumps(asdict(outcome)).encode())
            print(f"{job.target}, {job.method}, seed {job.seed}: {outcome.circles} diverse hits", flush=True)


def screen(ledger: Ledger, *, library: Path, seed: int) -> Ledger:
    """Query molecules of a file in a random order until the budget is spent or none is left."""
    smiles = read_library(library)
    order = np.random.default_rng(seed).permutation(len(smiles))
    for rows in np.array_split(order, -(-len(order) // BATCH)):
        if ledger.is_spent:
            break
        ledger([smiles[row] for row in rows])
    return ledger


def search_genetically(ledger: Ledger, *, library: Path, settings: GraphGA, seed: int) -> Ledger:
    """Evolve molecules until the budget is spent."""
    evolve(ledger, read_library(library), settings, np.random.default_rng(seed))
    return ledger


@cache
def read_library(path: Path) -> list[str]:
    """Read all SMILES of a file.

    Raises:
        ValueError: a line has none, or there is no line.
    """
    lines = list(smiles_lines(path))
    if bad := [line for line in lines if line.problem]:
        raise ValueError(f"{path}, {bad[0].where}: {bad[0].problem}")
    if not lines:
        raise ValueError(f"{path}: got no SMILES")
    return [line.smiles for line in lines]


def make_forests(data: Path, folder: Path, reference: Sequence[Path]) -> None:
    """Train a forest for each target, fit the filter, and print what came out."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = {target: read_split(data / f"{target}_splits.csv.gz") for target in PUBLISHED_AUC}
    print("| target | train, active | test, active | ROC-AUC | published | MB |\n|---|---|---|---|---|---|")
    for target, parts in splits.items():
        forest, auc = train_forest(parts)
        file = write_forest(forest, folder, target)
        replace_file(folder / f"{target}_actives.smi", "\n".join(parts["train"].actives).encode())
        sizes = " | ".join(f"{len(part.smiles):,}, {part.active.sum():,}" for part in parts.values())
        megabytes = file.stat().st_size / 1e6
        print(f"| {target} | {sizes} | {auc:.3f} | {PUBLISHED_AUC[target]} | {megabytes:.1f} |", flush=True)
    labelled: list[Labelled] = [part for parts in splits.values() for part in parts.values()]
    smiles = [text for part in labelled for text in part.smiles]
    accepted = fit_filter([*smiles, *(text for path in reference for text in read_library(path))])
    accepted.save(folder / FILTER)
    print(f"\n{len(accepted.patterns):,} patterns; more than {accepted.least_known:.4f} of a molecule's must be known.")


def refuse_other_protocol(folder: Path, budget: int, libraries: Sequence[Path], settings: Sequence[str]) -> None:
    """Note what all searches of a folder share.

    Raises:
        ValueError: they were begun with something else.
    """
    now = {"budget": budget, "libraries": [path.name for path in libraries], "settings": sorted(settings)}
    file = folder / "protocol.json"
    if file.exists() and (begun := json.loads(read_text(file, MAX_BYTES))) != now:
        raise ValueError(f"{folder}: got {now}, but its searches were begun with {begun}")
    replace_file(file, json.dumps(now).encode())


def main() -> None:
    """Train the forests, do the missing searches of a folder, or print the table of those that are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    forests = commands.add_parser("forests")
    forests.add_argument("data", type=Path)
    forests.add_argument("folder", type=Path)
    forests.add_argument("--reference", type=Path, nargs="*", default=[])
    run = commands.add_parser("run")
    run.add_argument("folder", type=Path)
    run.add_argument("--library", type=Path, nargs="+", required=True)
    run.add_argument("--budget", type=int, default=BUDGET)
    run.add_argument("--methods", nargs="+", default=["screening", "genetic", "nft"])
    run.add_argument("--seeds", default=SEEDS)
    table = commands.add_parser("table")
    table.add_argument("folder", type=Path)
    table.add_argument("--csv", type=Path)
    options, settings = parser.parse_known_args()
    torch.set_num_threads(1)
    if options.command == "forests":
        make_forests(options.data, options.folder, options.reference)
    elif options.command == "run":
        seeds = [int(seed) for seed in options.seeds.split(",")]
        Searches(options.folder, options.library, options.budget, options.methods, seeds, settings).run()
    else:
        outcomes = read_outcomes(options.folder)
        print(markdown(outcomes))
        if options.csv:
            write_csv(outcomes, options.csv)


if __name__ == "__main__":
    main()
