"""Measure what a rigid placement loses by the rotors of a ligand: `python benchmarks/rotors.py FOLDER`.

The folder, searched through, has pairs of files NAME_ligands.sdf.gz, poses with bonds and hydrogens, and
NAME_pocket10.pdb.gz, their receptor. Each pose is scored as it lies, its conformer is placed anew by `reward=docking`,
and so is one that RDKit embeds without knowing the receptor, as `molrl score embed=true` does. What the last is worth
less than the better of the others is lost by not turning rotors.
"""

import argparse
import gzip
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rdkit import Chem, RDLogger
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.convert import from_rdkit
from molrl.rewards.molecules.docking.atom_types import graph_ligand
from molrl.rewards.molecules.docking.proxy import MAX_ROTORS, DockingProxy
from molrl.rewards.molecules.docking.scoring_function import Ligands
from molrl.rewards.molecules.docking.site import Site

BINS = (
    (0, 1.5),
    (2, 3.5),
    (4, 5.5),
    (6, 7.5),
    (8, 99),
    (0, MAX_ROTORS),
    (MAX_ROTORS + 0.5, 99),
)  # rotors; halves are those to OH and NH2


def molecules(path: Path, n: int) -> Iterator[Chem.Mol]:
    """Yield some of the molecules of a file, evenly from its whole length."""
    with gzip.open(path) as file:
        found = [mol for mol in Chem.ForwardSDMolSupplier(file, removeHs=False) if mol is not None]
    yield from found[:: max(len(found) // n, 1)][:n]


def embedded(mol: Chem.Mol) -> Chem.Mol | None:
    """Return the molecule in a conformer of its own, relaxed with MMFF94s; None if there is none."""
    copy = Chem.Mol(mol)
    parameters: Any = rdDistGeom.ETKDGv3()  # RDKit declares its numbers as objects
    parameters.randomSeed = 0
    if rdDistGeom.EmbedMolecule(copy, parameters) != 0:
        return None
    rdForceFieldHelpers.MMFFOptimizeMolecule(copy, mmffVariant="MMFF94s")
    return copy


def in_place(reward: DockingProxy, mol: Chem.Mol) -> float:
    """Return the score of a pose as it lies."""
    sample, ligand = from_rdkit(mol), Ligands([graph_ligand(mol)])
    positions = torch.from_numpy(sample.positions[sample.numbers > 1])
    return -reward.pocket.score(positions[None], ligand).item()


def placed(reward: DockingProxy, mol: Chem.Mol) -> float:
    """Return the score of a conformer; NaN for a floor."""
    scored = reward.measure(mol, from_rdkit(mol))
    return np.nan if scored.reason else scored.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ligands", type=int, default=1, help="of each receptor")
    arguments = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    warnings.simplefilter("ignore")
    rows = []
    for path in sorted(arguments.folder.rglob("*_ligands.sdf.gz")):
        receptor = path.with_name(path.name.replace("_ligands.sdf.gz", "_pocket10.pdb.gz"))
        site = Site(receptor=str(receptor), ligand=str(path), margin=6.0)
        reward = DockingProxy(site=site, starts=64, steps=45, seed=0, reader=rdkit_bonds)
        for mol in molecules(path, arguments.ligands):
            free = embedded(mol)
            if free is not None:
                scores = (in_place(reward, mol), placed(reward, mol), placed(reward, free))
                rows.append((graph_ligand(mol).rotors, *scores))
                print(path.name, *(f"{number:.2f}" for number in rows[-1]), flush=True)
    table = np.array(rows)
    table = table[np.isfinite(table).all(1)]
    print("| rotors | ligands | pose | its conformer placed | embedded, placed | lost, mean | median |")
    print("|---|---|---|---|---|---|---|")
    for low, high in BINS:
        some = table[(table[:, 0] >= low) & (table[:, 0] <= high)]
        if len(some):
            lost = some[:, 1:3].max(1) - some[:, 3]
            means = " | ".join(f"{number:.2f}" for number in (*some[:, 1:].mean(0), lost.mean(), np.median(lost)))
            print(f"| {low:g} to {high:g} | {len(some)} | {means} |")


if __name__ == "__main__":
    main()
