"""Composition of a set of molecules against a reference, as total variation distances of their distributions."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rdkit import Chem

from molrl.data.molecules.groups import count_groups


@dataclass(frozen=True)
class Shift:
    """The difference of two distributions over the same outcomes.

    Attributes:
        distance: total variation distance, (1/2) sum |p - q|, in [0, 1]: 0 for equal ones, 1 without a common outcome.
        outcome: where p and q differ most.
        share: p of that outcome, in the samples.
        reference_share: q of it, in the reference.
    """

    distance: float
    outcome: str
    share: float
    reference_share: float


def count_elements(mols: Sequence[Chem.Mol]) -> Counter[str]:
    """Count the heavy atoms of each element."""
    return Counter(atom.GetSymbol() for mol in mols for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1)


def count_sizes(mols: Sequence[Chem.Mol]) -> Counter[int]:
    """Count the molecules of each number of heavy atoms."""
    return Counter(mol.GetNumHeavyAtoms() for mol in mols)


def count_rings(mols: Sequence[Chem.Mol]) -> Counter[int]:
    """Count the molecules of each number of rings, those of the smallest set of smallest rings."""
    return Counter(mol.GetRingInfo().NumRings() for mol in mols)


def count_ring_sizes(mols: Sequence[Chem.Mol]) -> Counter[int]:
    """Count the rings of each size."""
    return Counter(len(ring) for mol in mols for ring in mol.GetRingInfo().AtomRings())


DISTRIBUTIONS: Mapping[str, Callable[[Sequence[Chem.Mol]], Counter[Any]]] = {
    "elements": count_elements,
    "sizes": count_sizes,
    "rings": count_rings,
    "ring_sizes": count_ring_sizes,
    "groups": count_groups,
}


def compare_composition(samples: Sequence[Chem.Mol], reference: Sequence[Chem.Mol]) -> dict[str, Shift | None]:
    """Return the shift of each of `DISTRIBUTIONS` from the reference to the samples; None where one set has none."""
    return {name: shift(count(samples), count(reference)) for name, count in DISTRIBUTIONS.items()}


def shift(samples: Mapping[Any, int], reference: Mapping[Any, int]) -> Shift | None:
    """Return the difference of two distributions, given as counts; None where one has no counts."""
    n, m = sum(samples.values()), sum(reference.values())
    if not n or not m:
        return None
    outcomes = sorted({*samples, *reference}, key=str)
    pairs = {outcome: (samples.get(outcome, 0) / n, reference.get(outcome, 0) / m) for outcome in outcomes}
    most = max(outcomes, key=lambda outcome: abs(pairs[outcome][0] - pairs[outcome][1]))
    return Shift(sum(abs(p - q) for p, q in pairs.values()) / 2, str(most), *pairs[most])
