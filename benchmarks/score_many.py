"""How fast `molrl score` is and how much memory it takes: `python benchmarks/score_many.py` scores 100,000 molecules.

The file has one broken record in a hundred. With `--kill` the run is killed with SIGKILL when half of the rows are
there and started again, and the output must be that of an uninterrupted run. `--format`, `--reward`, `--molecules` and
`--workers` change the rest. Memory is the largest resident set of this process, and of the largest worker.
"""

import argparse
import multiprocessing
import resource
import signal
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from rdkit import Chem
from rdkit.Chem import rdDepictor

from molrl.config import build, compose
from molrl.rewards.score import score_file
from molrl.rewards.summary import Summary

HEADS = ("C", "N", "O", "F", "Cl", "CC", "C=C", "N#C", "OC", "CN", "C1CC1", "CS", "CC(=O)", "NC(=O)", "OCC")
RINGS = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "C1CCNCC1", "c1ccsc1", "c1cnc2ccccc2c1", "C1CCOCC1")
LINKS = ("", "C", "CC", "O", "NC(=O)", "C(=O)N", "CO", "S(=O)(=O)N")
BROKEN = 100  # one record in so many


def smiles(count: int) -> Iterator[str]:
    """Small drug-like molecules, repeated with longer tails as often as it takes."""
    made = 0
    for tail in range(1, 40):
        for head, link, ring, other in product(HEADS, LINKS, RINGS, RINGS):
            if made == count:
                return
            made += 1
            yield (
                f"{'C' * tail}{ring.replace('1', '3').replace('2', '4')}{link}{other}"
                if head == "C"
                else (f"{head}{'C' * tail}{link}{ring}")
            )


def write(path: Path, count: int) -> None:
    """A file of molecules, some of them broken."""
    with path.open("w", encoding="utf-8") as file:
        for row, text in enumerate(smiles(count)):
            if path.suffix == ".smi":
                file.write(f"{'C1CC' if row % BROKEN == BROKEN // 2 else text} m{row}\n")
                continue
            mol = Chem.MolFromSmiles(text)
            rdDepictor.Compute2DCoords(mol)
            mol.SetProp("_Name", f"m{row}")
            block = "garbage\n" if row % BROKEN == BROKEN // 2 else Chem.MolToMolBlock(mol)
            file.write(f"{block}>  <number>\n{row}\n\n$$$$\n")


def score(path: Path, out: Path, reward: str, workers: int) -> Summary:
    """What `molrl score` does."""
    config = compose("score", [f"file={path}", f"reward={reward}", f"reward.workers={workers}"])
    rewards = {reward: build(config["reward"], "reward")}
    return score_file(path, rewards, out, reader=build(config["reader"], "reader"))


def kill_half_way(path: Path, out: Path, reward: str, workers: int) -> None:
    """Start scoring in another process and kill it when half of the output is there."""
    process = multiprocessing.get_context("spawn").Process(target=score, args=(path, out, reward, workers))
    process.start()
    part, wanted = Path(f"{out}.part"), out.with_name(f"whole_{out.name}").stat().st_size / 2
    while process.is_alive() and (not part.exists() or part.stat().st_size < wanted):
        time.sleep(0.05)
    process.kill()
    process.join()
    print(f"killed ({process.exitcode == -signal.SIGKILL}) at {part.stat().st_size} bytes")


def main() -> None:
    """Score, print rate and memory, and kill it on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--molecules", type=int, default=100_000)
    parser.add_argument("--format", choices=["smi", "sdf"], default="smi")
    parser.add_argument("--reward", default="qed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, whole, again = (Path(folder, name) for name in (f"in.{arguments.format}", "whole_out.csv", "out.csv"))
        write(path, arguments.molecules)
        print(f"{path.stat().st_size / 2**20:.1f} MiB, resident before {resident():.0f} MiB")
        start = time.perf_counter()
        summary = score(path, whole, arguments.reward, arguments.workers)
        seconds = time.perf_counter() - start
        worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(summary)
        print(f"{summary.records / seconds:.0f} records per second, {seconds:.1f} s")
        print(f"peak memory {resident():.0f} MiB, of the largest worker {worker:.0f} MiB")
        if arguments.kill:
            kill_half_way(path, again, arguments.reward, arguments.workers)
            score(path, again, arguments.reward, arguments.workers)
            print(f"the same after a kill: {again.read_bytes() == whole.read_bytes()}")


def resident() -> float:
    """The largest resident set of this process so far, in MiB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
