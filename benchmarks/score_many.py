"""The guarantees of `molrl score` at full size: `python benchmarks/score_many.py` scores 100,000 molecules.

1. Speed: one worker on one core and two workers on two cores in turn, `--rounds` times. Efficiency is the rate on two
   cores over twice that on one: by wall time of the best rounds, which other processes disturb, and by CPU seconds (of
   all processes, their start included), which show the overhead of communication.
2. Faults: one record in a hundred is broken, one molecule hangs in bond perception, one crashes its worker, and one has
   a property that is not UTF-8. Each bad one must be named, and every good one have the value of an undisturbed run.
3. Kill: the run is killed with SIGKILL in the middle and started again. The output must be the same byte for byte, and
   no complete row may be scored again.

The exit code is 1 if the second or the third fails. Molecules are generated, or the first of a file with a SMILES at
the beginning of each line.
"""

import argparse
import csv
import gzip
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

from rdkit import Chem
from rdkit.Chem import rdDepictor

from molrl.building import build
from molrl.composition import compose
from molrl.data.molecules.bonds import Reading, rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.files import MoleculeFiles
from molrl.rewards.scoring.command import score_file

HEADS = ("C", "N", "O", "F", "Cl", "CC", "C=C", "N#C", "OC", "CN", "C1CC1", "CS", "CC(=O)", "NC(=O)", "OCC")
RINGS = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "C1CCNCC1", "c1ccsc1", "c1cnc2ccccc2c1", "C1CCOCC1")
LINKS = ("", "C", "CC", "O", "NC(=O)", "C(=O)N", "CO", "S(=O)(=O)N")
BROKEN_EVERY = 100  # records, one of which is broken
FAULTS = {"hang": "timeout: while reading it", "crash": "crash: SIGSEGV, while reading it"}  # and the reasons expected


@dataclass(frozen=True)
class Perception:
    """RDKit's bond perception; a molecule with the name of a fault causes it.

    Attributes:
        log: file that gets the name of every molecule; "" for none.
    """

    log: str = field(default="", compare=False)

    def __call__(self, molecule: Molecule) -> Reading:
        if self.log:
            with Path(self.log).open("a", encoding="utf-8") as file:
                file.write(f"{molecule.name}\n")
        if molecule.name == "hang":
            time.sleep(3600)
        if molecule.name == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        return rdkit_bonds(molecule)


@dataclass(frozen=True)
class Job:
    """A way of scoring files."""

    reward: str
    timeout: float

    def __call__(self, path: Path, out: Path, workers: int, log: str = "") -> None:
        """Score a file as `molrl score` does."""
        settings = [f"reward={self.reward}", f"reward.workers={workers}", f"reward.timeout={self.timeout}"]
        config = compose("score", [f"file={path}", *settings])
        rewards = {self.reward: build(config["reward"], "reward")}
        source = MoleculeFiles(reader=Perception(log), embed=False, smiles_column=None)
        score_file(path, rewards, out, source, overwrite=not log)


class Cost(NamedTuple):
    """The cost of a run: seconds of wall and CPU time, and MiB of the largest process and the largest worker."""

    wall: float
    cpu: float
    memory: float
    worker: float


def generate_smiles() -> Iterator[str]:
    """Yield SMILES of small drug-like molecules, with ever longer tails."""
    for tail in range(1, 40):
        for head, link, ring, other in product(HEADS, LINKS, RINGS, RINGS):
            yield (
                f"{'C' * tail}{ring.replace('1', '3').replace('2', '4')}{link}{other}"
                if head == "C"
                else f"{head}{'C' * tail}{link}{ring}"
            )


def read_smiles(path: str) -> Iterator[str]:
    """Yield the SMILES in a file."""
    with gzip.open(path, "rt") if path.endswith(".gz") else Path(path).open() as file:
        yield from (line.split()[0] for line in file)


def write(path: Path, smiles: Sequence[str], *, faulty: bool) -> None:
    """Write a file of molecules, some of them broken, and with faults on request."""
    names = {len(smiles) // 3: "crash", 2 * len(smiles) // 3: "hang"} if faulty else {}
    with path.open("wb") as file:
        for row, text in enumerate(smiles):
            name, broken = names.get(row, f"m{row}"), row % BROKEN_EVERY == BROKEN_EVERY // 2
            odd = b" \xff\xfe" if row == len(smiles) // 2 + 1 else b""
            if path.suffix == ".smi":
                file.write(f"{'C1CC' if broken else text} {name}".encode() + odd + b"\n")
                continue
            block = f"{name}\ngarbage\n" if broken else depict(text, name)
            file.write(f"{block}>  <number>\n{row}".encode() + odd + b"\n\n$$$$\n")


def depict(smiles: str, name: str) -> str:
    """Return a 2D depiction as the text of an SDF record."""
    mol = Chem.MolFromSmiles(smiles)
    rdDepictor.Compute2DCoords(mol)
    mol.SetProp("_Name", name)
    return str(Chem.MolToMolBlock(mol))


def time_job(job: Job, path: Path, out: Path, workers: int, cores: int) -> Cost:
    """Score on so many cores, and return the cost; call it in a process of its own."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    start, before = time.perf_counter(), cpu_seconds()
    job(path, out, workers)
    wall, cpu = time.perf_counter() - start, cpu_seconds() - before
    memory = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Cost(wall, cpu, *memory)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure_speed(job: Job, path: Path, out: Path, records: int, rounds: int) -> None:
    """Measure and print rates, efficiency and memory."""
    costs: dict[int, list[Cost]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, runs in costs.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                runs.append(pool.submit(time_job, job, path, out, workers, workers).result())
    wall = {workers: min(cost.wall for cost in runs) for workers, runs in costs.items()}
    cpu = {workers: min(cost.cpu for cost in runs) for workers, runs in costs.items()}
    for workers in costs:
        seconds = f"{1e3 * wall[workers] / records:.3f} ms wall, {1e3 * cpu[workers] / records:.3f} ms CPU per record"
        print(f"speed  {workers} worker(s) on {workers} core(s): {records / wall[workers]:.0f} records/s, {seconds}")
    print(f"speed  efficiency of two: {wall[1] / wall[2] / 2:.0%} of wall time, {cpu[1] / cpu[2]:.0%} of CPU seconds")
    largest = costs[2][-1]
    print(f"memory {largest.memory:.0f} MiB at most, the largest worker {largest.worker:.0f} MiB")


def rows_of(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check_faults(out: Path, undisturbed: Path) -> bool:
    """Check that every bad record is named by its fault, and every good one has its undisturbed value."""
    rows, expected_rows = rows_of(out), rows_of(undisturbed)
    wrong = lost = bad = 0
    for row, (got, expected) in enumerate(zip(rows, expected_rows, strict=True)):
        if reason := FAULTS.get(got["name"]) or ("unreadable" if row % BROKEN_EVERY == BROKEN_EVERY // 2 else ""):
            bad += 1
            wrong += not got["reason"].startswith(reason)
        else:
            lost += bool(got["reason"]) or got != expected
    print(f"faults {bad} bad records, {wrong} of them not named; {len(rows) - bad} good ones, {lost} of them lost")
    return bad == len(rows) // BROKEN_EVERY + len(FAULTS) and not wrong and not lost


def check_kill(job: Job, path: Path, out: Path, complete: Path, workers: int) -> bool:
    """Check that a run that is killed halfway and started again gives the same output."""
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=job, args=(path, out, workers))
    process.start()
    part, log = Path(f"{out}.part"), out.with_name("log")
    while process.is_alive() and (not part.exists() or part.stat().st_size < complete.stat().st_size / 2):
        time.sleep(0.05)
    process.kill()
    process.join()
    in_time = process.exitcode == -signal.SIGKILL and not out.exists()
    rows = part.read_bytes().count(b"\n") - 1
    kept = {row["name"] for row in rows_of(complete)[:rows]}
    again = spawn.Process(target=job, args=(path, out, workers, str(log)))
    again.start()
    again.join()
    twice = sum(name in kept for name in log.read_text("utf-8").splitlines())
    same = out.read_bytes() == complete.read_bytes()
    print(f"kill   after {rows} rows: {twice} of them scored again, the same bytes: {same}")
    return in_time and same and not twice


def main() -> int:
    """Write the files and run the three checks; return 1 if the second or the third fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--format", choices=["smi", "sdf"], default="sdf")
    parser.add_argument("--smiles", help="a file of SMILES, one at the beginning of each line, or the same with .gz")
    parser.add_argument("--reward", default="qed")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds for each molecule")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    job = Job(options.reward, options.timeout)
    with tempfile.TemporaryDirectory() as folder:
        plain, faulty = (Path(folder, f"{name}.{options.format}") for name in ("plain", "faulty"))
        smiles = list(islice(read_smiles(options.smiles) if options.smiles else generate_smiles(), options.records))
        write(plain, smiles, faulty=False)
        write(faulty, smiles, faulty=True)
        print(f"{len(smiles)} records of {options.format}, {plain.stat().st_size / 2**20:.1f} MiB")
        undisturbed, complete, again = (Path(folder, f"{name}.csv") for name in ("undisturbed", "complete", "again"))
        measure_speed(job, plain, undisturbed, len(smiles), options.rounds)
        job(faulty, complete, 2)
        named = check_faults(complete, undisturbed)
        return 0 if check_kill(job, faulty, again, complete, 2) and named else 1


if __name__ == "__main__":
    sys.exit(main())
