"""Training sets of molecules, and where they come from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem, rdBase

from molrl.data.cache import CACHE
from molrl.data.files import Skipped, count_reasons, reading, suffix
from molrl.data.molecules.enumerated import enumerate_molecules
from molrl.data.molecules.files import read
from molrl.data.molecules.library import Library, draw_lines, read_lines
from molrl.data.molecules.molecule import Hydrogens, Molecule
from molrl.data.molecules.pyg import load_pyg
from molrl.data.molecules.qm9 import Half, load_qm9
from molrl.data.molecules.smiles import SMILES_SUFFIXES
from molrl.data.molecules.standardise import Fragments, Treatment
from molrl.progress import stage


@dataclass(frozen=True)
class MoleculeSet:
    """Molecules to learn from, with their hydrogens all as atoms or all as counts.

    Attributes:
        skipped: the records of the source that became no molecule, with reasons.
        smiles: canonical SMILES of each molecule; None where they are unknown.
        duplicates: number of records that repeat a molecule.
        outside: number of molecules that are smaller or larger than was asked for.
    """

    molecules: Sequence[Molecule]
    skipped: Sequence[Skipped] = ()
    smiles: Sequence[str] | None = None
    duplicates: int = 0
    outside: int = 0

    @property
    def considered(self) -> int:
        """Return the number of records of the source that were looked at."""
        return len(self.molecules) + len(self.skipped) + self.duplicates + self.outside

    @property
    def reasons(self) -> dict[str, int]:
        """Return how many records were skipped for each kind of reason, most frequent first."""
        return count_reasons(self.skipped)

    @property
    def elements(self) -> dict[str, int]:
        """Return how many molecules have each element, by symbol and in order of the atomic number."""
        counts = Counter(number for molecule in self.molecules for number in set(molecule.numbers.tolist()))
        symbol = Chem.GetPeriodicTable().GetElementSymbol
        return {symbol(number): counts[number] for number in sorted(counts)}

    @property
    def report(self) -> list[str]:
        """Return lines that say what was read, what was left out and why, and what the molecules are made of."""
        lines = [f"read {self.considered} records: {len(self.molecules)} molecules"]
        if self.duplicates or self.outside:
            lines.append(f"left out: {self.duplicates} duplicates, {self.outside} outside the limits on heavy atoms")
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())
            lines.append(f"skipped: {len(self.skipped)} ({reasons})")
        if self.molecules:
            sizes = np.array([len(molecule) for molecule in self.molecules])
            lines.append(f"atoms: {sizes.min()} to {sizes.max()}, median {np.median(sizes):g}")
            lines.append("molecules with " + ", ".join(f"{symbol} {count}" for symbol, count in self.elements.items()))
        return lines


def enumerated_set(*, n: int, max_heavy: int, seed: int, hydrogens: Hydrogens) -> MoleculeSet:
    """Return small molecules that are enumerated and embedded with RDKit."""
    molecules = enumerate_molecules(n, max_heavy, seed, counts=hydrogens == "counts", workers=2)
    return MoleculeSet(molecules, smiles=molecules.names)


def smiles_set(
    *,
    path: str,
    smiles_column: str | None,
    n: int | None,
    min_heavy: int,
    max_heavy: int,
    fragments: Fragments,
    neutralise: bool,
    workers: int | None,
    seed: int,
    cache: str | None,
    hydrogens: Hydrogens,
) -> MoleculeSet:
    """Return the molecules of a file of SMILES, standardised and embedded, each once.

    Args:
        smiles_column: of a .csv file; None takes smiles or canonical_smiles.
        n: records drawn at random; None draws all. The order is random as well.
        min_heavy, max_heavy: limits on the heavy atoms of a molecule.
        fragments: "largest" or "refuse"; see `choose_fragment`.
        neutralise: see `neutral`.
        workers: processes that embed; None takes as many as there are usable cores.
        seed: of the draw.
        cache: folder of finished conformers; None takes that of molrl.
    """
    if fragments not in ("largest", "refuse"):
        raise ValueError(f"fragments: got {fragments!r}, allowed: 'largest', 'refuse'")
    if not 0 < min_heavy <= max_heavy:
        raise ValueError(f"min_heavy: got {min_heavy}, max_heavy: got {max_heavy}, need 1 <= min_heavy <= max_heavy")
    with reading():
        lines = draw_lines(read_lines(path, smiles_column), n, seed)
    if workers is None:
        from molrl.machine.device import usable_cores

        workers = usable_cores()
    with stage("conformers", len(lines)) as advance:
        library = Library(
            lines=lines,
            min_heavy=min_heavy,
            max_heavy=max_heavy,
            treatment=Treatment(fragments, neutralise),
            advance=advance,
        )
        folder = CACHE / "smiles" if cache is None else Path(cache)
        molecules = library.molecules(hydrogens, cache=folder, workers=workers)
    return MoleculeSet(molecules, library.account(), library.smiles, library.duplicates, library.outside)


def qm9_set(*, path: str, hydrogens: Hydrogens, half: Half | None = None) -> MoleculeSet:
    """Return QM9, or one half of it, from a local npz file."""
    with reading():
        molecules, report = load_qm9(path, hydrogens, half)
    return MoleculeSet(molecules, report.skipped)


def pyg_set(*, dataset: str, root: str, arguments: Mapping[str, Any], hydrogens: Hydrogens) -> MoleculeSet:
    """Return a data set of PyTorch Geometric; see `load_pyg`."""
    molecules, report = load_pyg(dataset, root, arguments, hydrogens)
    return MoleculeSet(molecules, report.skipped)


def file_set(*, path: str, fragments: Fragments, neutralise: bool, hydrogens: Hydrogens) -> MoleculeSet:
    """Return the molecules of any file that `molrl.data.molecules.files` reads, every conformer of each.

    Args:
        fragments, neutralise: see `Treatment`.

    Raises ValueError for a file of SMILES.
    """
    if suffix(path) in SMILES_SUFFIXES:
        raise ValueError(f"data.path={path}: SMILES have no geometry; data=smiles computes one")
    with reading():
        molecules, report = read(path, hydrogens, treatment=Treatment(fragments, neutralise))
    with rdBase.BlockLogs():
        graphs = (molecule.graph for molecule in molecules if molecule.graph is not None)
        smiles = [Chem.MolToSmiles(Chem.RemoveHs(graph)) for graph in graphs]
    return MoleculeSet(molecules, report.skipped, smiles if len(smiles) == len(molecules) else None)
