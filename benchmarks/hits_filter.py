"""The property filter of Diverse Hits, which keeps a search among ordinary molecules (Renz et al. 2024).

A molecule passes whose mass and logP lie in the central 99 % of the GuacaMol set, and most of whose Morgan patterns of
radius 2 are known. The ranges are the published ones (ml-jku/diverse-hits, guacamol_thresholds.json). Its list of known
patterns comes from ChEMBL; ours is fitted in the same way to other molecules, and so is its threshold.
"""

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rdkit import Chem
from rdkit.Chem.rdMolDescriptors import CalcCrippenDescriptors, CalcExactMolWt

from molrl.data.molecules.circles import morgan_generator
from molrl.machine.files import read_bounded, replace_file

MASS = (157.11027872, 761.3414418201)  # monoisotopic, dalton
LOGP = (-2.0108, 8.8315115)
SHARE_BELOW = 0.01  # of molecules like those of the reference, which have fewer known patterns than the threshold
SEED = 0
MAX_BYTES = 1 << 28


@dataclass(frozen=True)
class PropertyFilter:
    """The ranges of mass and logP, and the patterns of a reference.

    Attributes:
        patterns: hashes of the known ones.
        least_known: share of a molecule's distinct patterns of which more must be known.
    """

    patterns: frozenset[int]
    least_known: float

    def problem(self, mol: Chem.Mol) -> str:
        """Return what a molecule fails by, or "" if it passes; the ends of the ranges are outside, as published."""
        if not MASS[0] < CalcExactMolWt(mol) < MASS[1]:
            return "mass"
        if not LOGP[0] < CalcCrippenDescriptors(mol)[0] < LOGP[1]:
            return "logP"
        return "" if known_share(patterns_of(mol), self.patterns) > self.least_known else "patterns"

    def save(self, path: Path) -> None:
        """Write the filter as arrays of numpy."""
        buffer = io.BytesIO()
        patterns = np.array(sorted(self.patterns), dtype=np.uint64)
        np.savez_compressed(buffer, patterns=patterns, least_known=self.least_known)
        replace_file(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "PropertyFilter":
        """Read a filter that `save` wrote."""
        with np.load(io.BytesIO(read_bounded(path, MAX_BYTES)), allow_pickle=False) as arrays:
            return cls(frozenset(arrays["patterns"].tolist()), float(arrays["least_known"]))


def patterns_of(mol: Chem.Mol) -> set[int]:
    """Return the hashes of the distinct Morgan patterns of a molecule, not folded."""
    return set(morgan_generator().GetSparseCountFingerprint(mol).GetNonzeroElements())


def known_share(patterns: set[int], known: frozenset[int]) -> float:
    """Return the share of patterns that are known; 0 for a molecule without any."""
    return len(patterns & known) / len(patterns) if patterns else 0.0


def fit_filter(smiles: Iterable[str]) -> PropertyFilter:
    """Learn the known patterns from one half of the molecules, and the threshold from the other.

    Raises:
        ValueError: fewer than two distinct molecules can be read.
    """
    texts = sorted(set(smiles))
    mols = map(Chem.MolFromSmiles, texts)
    found = [np.array(list(patterns_of(mol)), dtype=np.uint64) for mol in mols if mol is not None]  # small, unlike sets
    if len(found) < len(texts):
        warnings.warn(f"reference: {len(texts) - len(found)} of {len(texts)} SMILES left out, unreadable", stacklevel=2)
    if len(found) < 2:
        raise ValueError(f"reference: got {len(found)} molecules, need at least 2")
    order = np.random.default_rng(SEED).permutation(len(found))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    known = frozenset(np.concatenate([found[row] for row in first]).tolist())
    shares = [known_share(set(found[row].tolist()), known) for row in second]
    return PropertyFilter(known, float(np.quantile(shares, SHARE_BELOW)))
