"""The rate of `data=smiles` against that of RDKit's own calls: `python benchmarks/embedding.py FILE.smi`.

Both turn the same SMILES into conformers with two processes, in turn, `--rounds` times with new SMILES each time. The
bare calls are those of `molrl.data.molecules.embedding` (parse, add hydrogens, embed, relax) in a loop, with half of
the SMILES in each process; their rate is the sum of both. The rate of `data=smiles` is that of the whole call, from
file to finished set, with an empty cache. CPU seconds are those of all processes of a way, starts included.
"""

import argparse
import random
import resource
import statistics
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from molrl.data.molecules.embedding import EMBEDDING_ATTEMPTS, EMBEDDING_SECONDS, FORCE_FIELD, RELAXATION_STEPS, SEED
from molrl.data.molecules.sets import smiles_set
from molrl.data.molecules.smiles import smiles_lines


class Cost(NamedTuple):
    """The molecules per second of a way, and its CPU seconds per molecule."""

    rate: float
    cpu: float


def bare(smiles: list[str]) -> float:
    """Return the molecules per second of RDKit's calls in this process."""
    rdBase.DisableLog("rdApp.*")
    start = time.perf_counter()
    for item in smiles:
        embed(item)
    return len(smiles) / (time.perf_counter() - start)


def embed(smiles: str) -> None:
    """Compute a conformer with nothing but RDKit's calls."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    settings: Any = rdDistGeom.ETKDGv3()  # RDKit declares its numbers as objects
    settings.randomSeed, settings.maxIterations, settings.timeout = SEED, EMBEDDING_ATTEMPTS, EMBEDDING_SECONDS
    if rdDistGeom.EmbedMolecule(mol, settings) == 0 and rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.MMFFOptimizeMolecule(mol, mmffVariant=FORCE_FIELD, maxIters=RELAXATION_STEPS)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def time_bare(smiles: list[str], workers: int) -> Cost:
    """Return the cost of RDKit's calls in some processes at once."""
    before = cpu_seconds()
    with get_context("spawn").Pool(workers) as pool:
        rates = pool.map(bare, [smiles[start::workers] for start in range(workers)], chunksize=1)
        pool.close()
        pool.join()
    return Cost(sum(rates), (cpu_seconds() - before) / len(smiles))


def time_set(smiles: list[str], workers: int) -> Cost:
    """Return the cost of the whole data set."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "round.smi"
        path.write_text("\n".join(smiles) + "\n")
        before, start = cpu_seconds(), time.perf_counter()
        smiles_set(
            path=str(path),
            smiles_column=None,
            n=None,
            min_heavy=1,
            max_heavy=512,
            fragments="largest",
            neutralise=False,
            workers=workers,
            seed=0,
            cache=folder,
            hydrogens="counts",
        )
        return Cost(len(smiles) / (time.perf_counter() - start), (cpu_seconds() - before) / len(smiles))


def main() -> None:
    """Measure both ways in turn and print the rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="of SMILES")
    parser.add_argument("--molecules", type=int, default=500, help="of a round")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    options = parser.parse_args()
    lines = [line.smiles for line in smiles_lines(options.file) if not line.problem]
    drawn = random.Random(options.seed).sample(lines, options.molecules * options.rounds)
    ratios = []
    print("| round | bare, per second | data=smiles, per second | ratio | CPU ratio |\n|---|---|---|---|---|")
    for number in range(options.rounds):
        smiles = drawn[number * options.molecules : (number + 1) * options.molecules]
        ways = [time_bare, time_set] if number % 2 else [time_set, time_bare]
        costs = {way: way(smiles, options.workers) for way in ways}
        plain, ours = costs[time_bare], costs[time_set]
        ratios.append((ours.rate / plain.rate, plain.cpu / ours.cpu))
        print(f"| {number + 1} | {plain.rate:.1f} | {ours.rate:.1f} | {ratios[-1][0]:.3f} | {ratios[-1][1]:.3f} |")
    rate, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"| median | | | {rate:.3f} | {cpu:.3f} |")


if __name__ == "__main__":
    main()
