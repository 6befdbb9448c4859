"""#Circles: how many molecules of a set are all far from one another (Xie et al. 2023, arXiv:2112.02720)."""

import functools
from typing import Any

from rdkit.Chem import rdFingerprintGenerator
from rdkit.SimDivFilters import rdSimDivPickers

from molrl.data.molecules.unembedded import Graphs

RADIUS, BITS = 2, 2048
THRESHOLD = 0.7  # of the Tanimoto distance, as for diverse hits (Renz et al. 2024, code ml-jku/diverse-hits)
FIRST_PICK_SEED = 0


@functools.cache
def morgan_generator() -> Any:
    """Return the generator of Morgan fingerprints of radius 2, hashed to 2048 bits."""
    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)


def count_circles(graphs: Graphs, threshold: float = THRESHOLD) -> int:
    """Return the size of a set of molecules whose Tanimoto distances all exceed a threshold, as large as MaxMin finds.

    The largest such set is hard to find, so this is a lower bound. MaxMin (Ashton et al. 2002, Quant. Struct.-Act.
    Relat. 21, 598) picks the molecule that is farthest from those picked before, until none is far enough; the result
    depends on the order of the molecules by a few per cent. Distinct SMILES in alphabetical order and a fixed first
    pick make it a function of the set. Fingerprints are Morgan's of radius 2, hashed to 2048 bits.
    """
    generator = morgan_generator()
    mols = dict(zip(graphs.smiles, graphs.mols, strict=True))
    prints = [generator.GetFingerprint(mols[text]) for text in sorted(mols)]
    if not prints:
        return 0
    picker = rdSimDivPickers.MaxMinPicker()
    picks, _ = picker.LazyBitVectorPickWithThreshold(prints, len(prints), len(prints), threshold, seed=FIRST_PICK_SEED)
    return len(picks)
