"""Bonds read back from geometries: `python benchmarks/bonds.py MOLECULES.smi.gz`, with one SMILES per line.

Embeds molecules of the file, chosen at random, and relaxes them with MMFF. Their heavy atoms, with hydrogen counts and
formal charges, are moved by Gaussian noise and read by `rdkit_bonds` and `valence_bonds`. A reading is right if it has
the canonical SMILES of the molecule, both with the stereo marks of the moved geometry.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from rdkit import Chem, rdBase

from molrl.data.molecules.bonds import BondReader, Reading, rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.smiles import read_smiles, smiles_lines
from molrl.data.molecules.valence import CONTRACTION, excess_lengths, valence_bonds

HEAD = "| noise (angstrom) | reader | right | right, charged | other graph | unreadable | ms, median | ms, 99 % |"


def rdkit_stereo(molecule: Molecule) -> Reading:
    """Read bonds by RDKit, and stereo marks from the geometry, which `rdkit_bonds` leaves out."""
    reading = rdkit_bonds(molecule)
    if reading.mol is not None:
        Chem.AssignStereochemistryFrom3D(reading.mol)
    return reading


READERS: dict[str, BondReader] = {"`rdkit_bonds`": rdkit_stereo, "`valence_bonds`": valence_bonds}


class Trial(NamedTuple):
    """The reading of one molecule: whether it is charged, what came of it and the seconds that it took."""

    charged: bool
    outcome: str
    seconds: float


def add_noise(molecule: Molecule, noise: float, rng: np.random.Generator) -> Molecule:
    """Return the molecule with noise of this standard deviation, in angstrom, on each coordinate."""
    moved = molecule.positions + noise * rng.normal(size=molecule.positions.shape)
    return replace(molecule, positions=moved.astype(np.float32))


def true_smiles(molecule: Molecule) -> str:
    """Return canonical SMILES of the graph that a molecule came with, its stereo marks from the geometry."""
    assert molecule.graph is not None
    mol = Chem.Mol(molecule.graph)
    mol.GetConformer().SetPositions(molecule.positions.astype(np.float64))
    Chem.AssignStereochemistryFrom3D(mol)
    return canonical_smiles(mol)


def canonical_smiles(mol: Chem.Mol) -> str:
    """Return canonical SMILES; parsing them once removes marks of what turns out to be no stereocentre."""
    return str(Chem.CanonSmiles(Chem.MolToSmiles(mol)))


def attempt(molecule: Molecule, reader: BondReader) -> Trial:
    """Read the bonds of a molecule without its graph, and compare."""
    bare = replace(molecule, graph=None)
    start = time.process_time()
    mol, _ = reader(bare)
    seconds = time.process_time() - start
    charged = molecule.charges is not None and bool(molecule.charges.any())
    if mol is None:
        return Trial(charged, "unreadable", seconds)
    return Trial(charged, "right" if canonical_smiles(mol) == true_smiles(molecule) else "other", seconds)


def margins(molecules: Sequence[Molecule]) -> str:
    """Describe how well distances tell which atoms are bonded, and with which order."""
    bonded, single, apart = [], [], []
    for molecule in molecules:
        mol = Chem.Mol(molecule.graph or Chem.Mol())
        Chem.Kekulize(mol, clearAromaticFlags=True)
        excess = excess_lengths(molecule)
        unbonded = np.triu(np.ones(excess.shape, dtype=np.bool_), 1)
        for bond in mol.GetBonds():
            ends, order = (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()), int(bond.GetBondTypeAsDouble())
            bonded.append(excess[ends] + CONTRACTION[order])
            single += [excess[ends]] if order == 1 else []
            unbonded[ends] = unbonded[ends[::-1]] = False
        apart.append(excess[unbonded].min(initial=np.inf))
    return (
        f"The lengths of bonds differ from the estimates by {min(bonded):.0f} to {max(bonded):.0f} pm. Single bonds "
        f"are at most {max(single):.0f} pm longer, atoms without a bond at least {min(apart):.0f} pm further apart."
    )


def row(noise: float, name: str, trials: Sequence[Trial]) -> str:
    """Return one row of the table."""
    outcomes = Counter(trial.outcome for trial in trials)
    charged = [trial.outcome == "right" for trial in trials if trial.charged]
    median, late = 1e3 * np.quantile([trial.seconds for trial in trials], [0.5, 0.99])
    shares = [f"{100 * outcomes[outcome] / len(trials):.2f} %" for outcome in ("right", "other", "unreadable")]
    shares.insert(1, f"{sum(charged)} of {len(charged)}")
    return f"| {noise:g} | {name} | {' | '.join(shares)} | {median:.2f} | {late:.2f} |"


def main() -> None:
    """Embed molecules, read them back under noise and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="a file of SMILES")
    parser.add_argument("--count", type=int, default=2000, help="molecules to embed")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of molecules and of the noise")
    parser.add_argument("--noise", type=float, nargs="*", default=[0.0, 0.05, 0.1, 0.2, 0.3], help="angstrom")
    options = parser.parse_args()
    smiles = [line.smiles for line in smiles_lines(options.path) if not line.problem]
    rng = np.random.default_rng(options.seed)
    chosen = rng.choice(len(smiles), min(options.count, len(smiles)), replace=False)
    molecules, report = read_smiles([smiles[place] for place in chosen.tolist()], "counts")
    print(f"{report}\n{margins(molecules)}\n\n{HEAD}\n{'|---' * (HEAD.count('|') - 1)}|", flush=True)
    with rdBase.BlockLogs():
        for noise in options.noise:
            moved = [add_noise(molecule, noise, rng) for molecule in molecules]
            for name, reader in READERS.items():
                print(row(noise, name, [attempt(molecule, reader) for molecule in moved]), flush=True)


if __name__ == "__main__":
    main()
