"""Speed of flexible docking: `python benchmarks/flexible_speed.py`.

Counts energies with their gradient, and steps of the minimisation, in CPU seconds of one core: imatinib of 37 heavy
atoms, in a conformer that is embedded without its pose, and the pocket of the tests. Then searches with several
numbers of steps, with their best score and its deviation from the crystal pose.
"""

import argparse
import time
from collections.abc import Callable

import torch
from rdkit import Chem

from molrl.data.files import EXAMPLES
from molrl.data.molecules.pdbqt import read_receptor
from molrl.rewards.molecules.docking.complexes import Complexes
from molrl.rewards.molecules.docking.maps import Maps
from molrl.rewards.molecules.docking.minimisation import minimise
from molrl.rewards.molecules.docking.monte_carlo import SOFT_REPULSION, MonteCarlo, dock
from molrl.rewards.molecules.docking.preparation import Preparation
from molrl.rewards.molecules.docking.scoring_function import Box, Pocket

CENTRE = (15.190, 53.903, 16.917)
EVALUATIONS = 20


def cpu_seconds(function: Callable[[], object]) -> float:
    """Return the CPU seconds of a call after a warm-up."""
    function()
    began = time.process_time()
    function()
    return time.process_time() - began


@torch.no_grad()
def main() -> None:
    """Time energies, minimisations and searches, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=float, default=20.0, help="of the box, angstrom")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    mol = Chem.RemoveAllHs(Chem.MolFromMolFile(str(EXAMPLES / "imatinib.sdf")))
    crystal = mol.GetConformer().GetPositions()
    (one, *_) = Preparation(ph=None, canonical_tautomer=False, conformers=1, seed=arguments.seed)(mol, crystal)
    maps = Maps(Pocket(read_receptor(EXAMPLES / "1iep_pocket.pdbqt"), Box(CENTRE, [arguments.side] * 3)))
    began = time.process_time()
    maps.rows_of(one.flexible.ligand.types)
    print(f"maps: {time.process_time() - began:.1f} s")
    system = Complexes(maps, [one.flexible])
    surface = system.soft(SOFT_REPULSION)
    print("| poses at once | energies with gradient/s | evaluations of a minimisation/s |")
    print("|---|---|---|")
    for poses in (16, 64, 256):
        at = system.random(poses, torch.Generator().manual_seed(arguments.seed))
        energy = cpu_seconds(lambda at=at: surface(at))  # type: ignore[misc]
        descent = cpu_seconds(lambda at=at: minimise(surface, at, system.scale, EVALUATIONS))  # type: ignore[misc]
        print(f"| {poses} | {poses / energy:.0f} | {poses * (EVALUATIONS + 1) / descent:.0f} |", flush=True)
    print("| steps | CPU seconds | score, kcal/mol | from the crystal pose, angstrom |")
    print("|---|---|---|---|")
    for steps in arguments.steps:
        search = MonteCarlo(chains=256, steps=steps, evaluations=EVALUATIONS, poses=1, seed=arguments.seed)
        began = time.process_time()
        ((best,),) = dock(maps, [one.flexible], search)
        seconds = time.process_time() - began
        deviation = (best.positions.double() - torch.from_numpy(crystal)).square().sum(-1).mean().sqrt().item()
        print(f"| {steps} | {seconds:.1f} | {best.score:.2f} | {deviation:.1f} |", flush=True)


if __name__ == "__main__":
    main()
