"""Whether `molrl score` keeps its word at full size: `python benchmarks/score_many.py` scores 100,000 molecules.

1. Speed: one worker on one core and two workers on two cores in turn, `--rounds` times. Efficiency is the rate on two
   cores over twice that on one: by wall time, of the best rounds, which others on the machine disturb, and by CPU
   seconds (of all processes, their start included), which show what is lost to handing out and taking in.
2. Faults: one record in a hundred is broken, one molecule hangs in bond perception, one crashes its worker, and one has
   a property that is no UTF-8. Each bad one must be named and every good one have the value of an undisturbed run.
3. Kill: the run is killed with SIGKILL in the middle and started again. The output must be the same byte for byte, and
   no row that was there may be scored again.

The exit code is 1 if the second or the third fails. Molecules are made up, or the first of a file with a SMILES at the
beginning of each line.
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
BROKEN = 100  # one record in so many
FAULTS = {"hang": "timeout: while reading it", "crash": "crash: SIGSEGV, while reading it"}  # and the reasons due


@dataclass(frozen=True)
class Perception:
    """RDKit's bond perception; a molecule with the name of a fault commits it.

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
        """What `molrl score` does."""
        settings = [f"reward={self.reward}", f"reward.workers={workers}", f"reward.timeout={self.timeout}"]
        config = compose("score", [f"file={path}", *settings])
        rewards = {self.reward: build(config["reward"], "reward")}
        source = MoleculeFiles(reader=Perception(log), embed=False, smiles_column=None)
        score_file(path, rewards, out, source, overwrite=not log)


class Cost(NamedTuple):
    """What a run took: seconds of wall time and of CPU time, and MiB of the largest process and the largest worker."""

    wall: float
    cpu: float
    memory: float
    worker: float


def made_up() -> Iterator[str]:
    """SMILES of small drug-like molecules, with longer tails as often as it takes."""
    for tail in range(1, 40):
        for head, link, ring, other in product(HEADS, LINKS, RINGS, RINGS):
            yield (
                f"{'C' * tail}{ring.replace('1', '3').replace('2', '4')}{link}{other}"
                if head == "C"
                else f"{head}{'C' * tail}{link}{ring}"
            )


def listed(path: str) -> Iterator[str]:
    """The SMILES in a file."""
    with gzip.open(path, "rt") if path.endswith(".gz") else Path(path).open() as file:
        yield from (line.split()[0] for line in file)


def write(path: Path, smiles: Sequence[str], *, faulty: bool) -> None:
    """A file of molecules, some of them broken; those that hang and crash only on request."""
    names = {len(smiles) // 3: "crash", 2 * len(smiles) // 3: "hang"} if faulty else {}
    with path.open("wb") as file:
        for row, text in enumerate(smiles):
            name, broken = names.get(row, f"m{row}"), row % BROKEN == BROKEN // 2
            odd = b" \xff\xfe" if row == len(smiles) // 2 + 1 else b""
            if path.suffix == ".smi":
                file.write(f"{'C1CC' if broken else text} {name}".encode() + odd + b"\n")
                continue
            block = f"{name}\ngarbage\n" if broken else drawn(text, name)
            file.write(f"{block}>  <number>\n{row}".encode() + odd + b"\n\n$$$$\n")


def drawn(smiles: str, name: str) -> str:
    """A drawing as the text of an SDF record."""
    mol = Chem.MolFromSmiles(smiles)
    rdDepictor.Compute2DCoords(mol)
    mol.SetProp("_Name", name)
    return str(Chem.MolToMolBlock(mol))


def timed(job: Job, path: Path, out: Path, workers: int, cores: int) -> Cost:
    """Score on so many cores, in a process of its own."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    start, before = time.perf_counter(), cpu_seconds()
    job(path, out, workers)
    wall, cpu = time.perf_counter() - start, cpu_seconds() - before
    memory = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Cost(wall, cpu, *memory)


def cpu_seconds() -> float:
    """Of this process and its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def speed(job: Job, path: Path, out: Path, records: int, rounds: int) -> None:
    """Print rates, efficiency and memory."""
    costs: dict[int, list[Cost]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, found in costs.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                found.append(pool.submit(timed, job, path, out, workers, workers).result())
    wall = {workers: min(cost.wall for cost in found) for workers, found in costs.items()}
    cpu = {workers: min(cost.cpu for cost in found) for workers, found in costs.items()}
    for workers in costs:
        seconds = f"{1e3 * wall[workers] / records:.3f} ms wall, {1e3 * cpu[workers] / records:.3f} ms CPU per record"
        print(f"speed  {workers} worker(s) on {workers} core(s): {records / wall[workers]:.0f} records/s, {seconds}")
    print(f"speed  efficiency of two: {wall[1] / wall[2] / 2:.0%} of wall time, {cpu[1] / cpu[2]:.0%} of CPU seconds")
    largest = costs[2][-1]
    print(f"memory {largest.memory:.0f} MiB at most, the largest worker {largest.worker:.0f} MiB")


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def faults(out: Path, undisturbed: Path) -> bool:
    """Whether every bad record is named as what it is, and every good one has the value it should have."""
    found, due = rows_of(out), rows_of(undisturbed)
    wrong = lost = bad = 0
    for row, (got, expected) in enumerate(zip(found, due, strict=True)):
        if reason := FAULTS.get(got["name"]) or ("unreadable" if row % BROKEN == BROKEN // 2 else ""):
            bad += 1
            wrong += not got["reason"].startswith(reason)
        else:
            lost += bool(got["reason"]) or got != expected
    print(f"faults {bad} bad records, {wrong} of them not named; {len(found) - bad} good ones, {lost} of them lost")
    return bad == len(found) // BROKEN + len(FAULTS) and not wrong and not lost


def killed(job: Job, path: Path, out: Path, whole: Path, workers: int) -> bool:
    """Whether a run that is killed when half of the output is there, and started again, gives the same."""
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=job, args=(path, out, workers))
    process.start()
    part, log = Path(f"{out}.part"), out.with_name("log")
    while process.is_alive() and (not part.exists() or part.stat().st_size < whole.stat().st_size / 2):
        time.sleep(0.05)
    process.kill()
    process.join()
    in_time = process.exitcode == -signal.SIGKILL and not out.exists()
    rows = part.read_bytes().count(b"\n") - 1
    kept = {row["name"] for row in rows_of(whole)[:rows]}
    again = spawn.Process(target=job, args=(path, out, workers, str(log)))
    again.start()
    again.join()
    twice = sum(name in kept for name in log.read_text("utf-8").splitlines())
    same = out.read_bytes() == whole.read_bytes()
    print(f"kill   after {rows} rows: {twice} of them scored again, the same bytes: {same}")
    return in_time and same and not twice


def main() -> int:
    """Make the files, and put it to the test."""
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
        smiles = list(islice(listed(options.smiles) if options.smiles else made_up(), options.records))
        write(plain, smiles, faulty=False)
        write(faulty, smiles, faulty=True)
        print(f"{len(smiles)} records of {options.format}, {plain.stat().st_size / 2**20:.1f} MiB")
        undisturbed, whole, again = (Path(folder, f"{name}.csv") for name in ("undisturbed", "whole", "again"))
        speed(job, plain, undisturbed, len(smiles), options.rounds)
        job(faulty, whole, 2)
        named = faults(whole, undisturbed)
        return 0 if killed(job, faulty, again, whole, 2) and named else 1


if __name__ == "__main__":
    sys.exit(main())
