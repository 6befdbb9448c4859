"""Poses per second of the Vina score: `python benchmarks/vina_speed.py`.

Scores with and without gradients for ligands of several sizes, and whole searches, in the pocket of the tests or in
that of a receptor file with a box.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from molrl.data.files import EXAMPLES
from molrl.data.molecules.pdbqt import read_ligand, read_receptor
from molrl.rewards.molecules.docking.atom_types import AtomTypes, Ligand, heavy, structure_ligand
from molrl.rewards.molecules.docking.placement import place
from molrl.rewards.molecules.docking.scoring_function import Box, Ligands, Pocket


def fastest(function: Callable[[], object], repeats: int) -> float:
    """Return the seconds of the fastest of some calls, after a warm-up."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def first(n: int, kinds: AtomTypes) -> AtomTypes:
    """Return the kinds of the first n atoms."""
    return AtomTypes(kinds.radius[:n], kinds.hydrophobic[:n], kinds.donor[:n], kinds.acceptor[:n])


def differentiate(pocket: Pocket, poses: torch.Tensor, ligands: Ligands) -> None:
    """Compute the scores of poses and their gradient."""
    free = poses.clone().requires_grad_(True)
    torch.autograd.grad(pocket.energy(free, ligands).sum(), free)


def main() -> None:
    """Time scores, gradients and searches, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receptor", type=Path, default=EXAMPLES / "1iep_pocket.pdbqt")
    parser.add_argument("--centre", type=float, nargs=3, default=(15.190, 53.903, 16.917))
    parser.add_argument("--size", type=float, nargs=3, default=(20.0, 20.0, 20.0))
    parser.add_argument("--poses", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pocket = Pocket(read_receptor(arguments.receptor), Box(arguments.centre, arguments.size), device=arguments.device)
    structure = read_ligand(EXAMPLES / "1iep_ligand.pdbqt")
    full = structure_ligand(structure)
    shape = torch.tensor(structure.positions[heavy(structure)] - np.mean(structure.positions, axis=0))
    generator = torch.Generator().manual_seed(0)
    print(f"{len(pocket)} receptor atoms near the box, {arguments.poses} poses, {arguments.threads} threads")
    print("atoms   scores/s   with gradient/s   searches/s (64 starts, 45 steps)")
    for n in (9, 15, 24, 37):
        ligand = Ligand(first(n, full.types), full.rotors)
        ligands = Ligands([ligand], device=arguments.device)
        middles = torch.randn(arguments.poses, 1, 3, generator=generator)
        poses = (shape[:n].float() + middles + torch.tensor(arguments.centre)).to(arguments.device)
        with torch.no_grad():
            score = fastest(lambda p=poses, li=ligands: pocket.score(p, li), arguments.repeats)  # type: ignore[misc]
        gradient = fastest(lambda p=poses, li=ligands: differentiate(pocket, p, li), arguments.repeats)  # type: ignore[misc]
        start = time.perf_counter()
        place(pocket, ligand, poses[0], starts=64, steps=45, seed=0)
        search = time.perf_counter() - start
        print(f"{n:5}{arguments.poses / score:11.0f}{arguments.poses / gradient:18.0f}{1 / search:13.2f}")


if __name__ == "__main__":
    main()
