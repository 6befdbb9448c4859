"""The makeup and variety of samples before and after a run, and the changes that a reader should know.

A reward on QED or docking can be raised by giving up nitrogen, by growing, or by repeating one scaffold; the mean
reward shows none of it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from rdkit import Chem

from molrl.data.molecules.bonds import Reading
from molrl.data.molecules.circles import count_circles
from molrl.data.molecules.elements import symbol
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.quality import fragment_smiles, scaffolds
from molrl.data.molecules.unembedded import Graphs

MAX_SHIFT = 0.2  # relative change that needs no word
MIN_VARIETY = 0.8  # part of the variety that must be left
MIN_Z = 3.0  # standard errors, below which the change of a share may be chance
SHARE = "molecules_with_"  # prefix of the shares of valid molecules with an element or with charges
MEANS = {"rings": "rings per molecule", "mean_heavy_atoms": "heavy atoms per molecule"}
VARIETY = {"distinct_scaffolds": "different scaffolds", "circles": "molecules far from each other (#Circles)"}


def measure_makeup(molecules: Sequence[Molecule], readings: Sequence[Reading]) -> dict[str, float]:
    """Return shares of valid molecules with each element and with charges, rings per molecule, scaffolds and circles.

    Elements are those that any sample has, valid or not.
    """
    mols = [reading.mol for reading in readings if reading.mol is not None]
    numbers = sorted({number for molecule in molecules for number in molecule.numbers.tolist() if number > 1})
    smiles = {text for reading in readings if (text := fragment_smiles(reading))}
    return {
        **{f"{SHARE}{symbol(number)}": fraction_with(mols, partial(is_element, number)) for number in numbers},
        f"{SHARE}charges": fraction_with(mols, is_charged),
        "rings": float(np.mean([mol.GetRingInfo().NumRings() for mol in mols])) if mols else math.nan,
        "distinct_scaffolds": float(len(scaffolds(smiles))),
        "circles": float(count_circles(Graphs.parse(sorted(smiles)))),
    }


def is_element(number: int, atom: Chem.Atom) -> bool:
    """Tell whether an atom is of an element."""
    return bool(atom.GetAtomicNum() == number)


def is_charged(atom: Chem.Atom) -> bool:
    """Tell whether an atom has a formal charge."""
    return bool(atom.GetFormalCharge() != 0)


def fraction_with(mols: Sequence[Chem.Mol], test: Callable[[Chem.Atom], bool]) -> float:
    """Return the fraction of molecules with an atom that passes a test; NaN of none."""
    return sum(any(map(test, mol.GetAtoms())) for mol in mols) / len(mols) if mols else math.nan


def describe_changes(before: Mapping[str, float], after: Mapping[str, float], n: int) -> list[str]:
    """Return a sentence for each figure that moved by more than a fifth and, of a share, by more than chance.

    Args:
        before, after: metrics of `n` samples, those of `measure_makeup` among them.
    """
    counts = [n * metrics.get("validity", math.nan) for metrics in (before, after)]
    lines = []
    for name in (*(name for name in before if name.startswith(SHARE)), "aromatic"):
        old, new = before.get(name, math.nan), after.get(name, 0.0)
        if is_large(old, new) and abs(new - old) > MIN_Z * standard_error(old, new, counts):
            label = "aromatic molecules" if name == "aromatic" else name.replace("_", " ")
            lines.append(f"{label}: {old:.0%} before, {new:.0%} after")
    for name, label in MEANS.items():
        old, new = before.get(name, math.nan), after.get(name, math.nan)
        if is_large(old, new):
            lines.append(f"{label}: {old:.3g} before, {new:.3g} after")
    for name, label in VARIETY.items():
        old, new = before.get(name, math.nan), after.get(name, math.nan)
        if new < MIN_VARIETY * old:
            lines.append(f"{label} among {n} samples: {old:.0f} before, {new:.0f} after")
    return lines


def is_large(old: float, new: float) -> bool:
    """Tell whether a figure moved by more than a fifth of itself."""
    return abs(new - old) > MAX_SHIFT * abs(old)


def standard_error(old: float, new: float, counts: Sequence[float]) -> float:
    """Return the standard error of the difference of two shares of so many samples, if both estimate one share."""
    pooled = (old * counts[0] + new * counts[1]) / max(1.0, sum(counts))
    return math.sqrt(pooled * (1 - pooled) * sum(1 / max(1.0, count) for count in counts))
