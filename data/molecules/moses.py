"""Metrics of MOSES, of a set of molecules against a reference (Polykovskiy et al. 2020, doi:10.3389/fphar.2020.565644).

Each follows the authors' package, molsets 0.3.1, whose numbers papers quote. Papers take MOSES's test set as reference,
and 30,000 samples; several of these metrics depend on both numbers.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold

RADIUS, BITS = 2, 1024
MIN_RINGS = 2  # of a scaffold that counts
BLOCK = 1000  # molecules that are compared at a time


def fingerprints(mols: Sequence[Chem.Mol]) -> Float[np.ndarray, "m bits"]:
    """Return Morgan fingerprints of radius 2, hashed to 1024 bits, 0 or 1 as float32 [m, 1024]."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    prints = np.zeros((len(mols), BITS), dtype=np.float32)
    for row, mol in enumerate(mols):
        prints[row] = generator.GetFingerprintAsNumPy(mol)
    return prints


def similarities(
    first: Float[np.ndarray, "m bits"], second: Float[np.ndarray, "n bits"]
) -> Iterator[Float[np.ndarray, "block n"]]:
    """Yield the Tanimoto similarities of `BLOCK` fingerprints at a time to all of the second set; 1 for two empty."""
    for start in range(0, len(first), BLOCK):
        block = first[start : start + BLOCK]
        shared = block @ second.T
        either = block.sum(1)[:, None] + second.sum(1)[None] - shared
        yield np.divide(shared, either, out=np.ones_like(shared), where=either > 0)


def nearest_similarity(samples: Float[np.ndarray, "m bits"], reference: Float[np.ndarray, "n bits"]) -> float | None:
    """Return SNN, the mean over the samples of the Tanimoto similarity to the nearest molecule of the reference."""
    if not len(samples) or not len(reference):
        return None
    return float(np.concatenate([block.max(1) for block in similarities(samples, reference)]).mean(dtype=np.float64))


def internal_diversity(samples: Float[np.ndarray, "m bits"], power: int) -> float | None:
    """Return IntDiv_p = 1 - mean_i (mean_j T_ij^p)^(1/p) over all pairs of samples, each with itself included.

    The paper has the root outside both means; its numbers come from the package, which takes it for each molecule.
    """
    if not len(samples):
        return None
    means = np.concatenate([(block**power).mean(1, dtype=np.float64) for block in similarities(samples, samples)])
    return float(1.0 - (means ** (1.0 / power)).mean())


def brics_fragments(mols: Sequence[Chem.Mol]) -> Counter[str]:
    """Count the fragments that remain where all BRICS bonds are cut (Degen et al. 2008, doi:10.1002/cmdc.200800178)."""
    return Counter(text for mol in mols for text in Chem.MolToSmiles(Chem.FragmentOnBRICSBonds(mol)).split("."))


def ring_scaffolds(mols: Sequence[Chem.Mol]) -> Counter[str]:
    """Count the Bemis-Murcko scaffolds (1996, doi:10.1021/jm9602928) of at least two rings."""
    cores = map(MurckoScaffold.GetScaffoldForMol, mols)
    return Counter(Chem.MolToSmiles(core) for core in cores if core.GetRingInfo().NumRings() >= MIN_RINGS)


def cosine_similarity(samples: Counter[str], reference: Counter[str]) -> float | None:
    """Return the cosine of the angle between two vectors of counts; None where one of them is zero."""
    norms = [float(np.sqrt(sum(count**2 for count in counts.values()))) for counts in (samples, reference)]
    if not all(norms):
        return None
    return sum(count * reference[key] for key, count in samples.items()) / (norms[0] * norms[1])


def wasserstein_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Return the Wasserstein-1 distance of two samples of numbers, the area between their distribution functions."""
    if not len(first) or not len(second):
        return None
    values = np.sort(np.concatenate([first, second]))
    below = [np.searchsorted(np.sort(sample), values[:-1], side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(below[0] - below[1]) @ np.diff(values))


def frechet_chemnet_distance(samples: Sequence[str], reference: Sequence[str]) -> float | None:
    """Return FCD (Preuer et al. 2018, doi:10.1021/acs.jcim.8b00234) of two lists of canonical SMILES by package fcd.

    Raises ImportError where the package is missing.
    """
    package = import_module("fcd")
    if min(len(samples), len(reference)) < 2:  # there is no covariance
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(package.get_fcd(list(samples), list(reference), device="cpu"))
