"""Is a geometry physically possible? Distances against the bounds of distance geometry.

A fast subset of PoseBusters (Buttenschoen et al. 2024, doi:10.1039/D3SC04185A): bond lengths, bond angles and clashes,
with its tolerances. What PoseBusters also asks, flat rings and a low energy, is left out.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.geometry import GeometryReward
from molrl.rewards.scores import Explained, Scored
from molrl.rewards.wrapping import explanation, parts_of

LENGTH, ANGLE, CLASH = 0.25, 0.25, 0.3  # tolerated beyond the bounds, relative


class Violations(NamedTuple):
    """Pairs of heavy atoms at impossible distances, symmetric bool [n, n]."""

    lengths: NDArray[np.bool_]
    angles: NDArray[np.bool_]
    clashes: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Plausibility(GeometryReward):
    """Share of heavy atoms that take part in no impossible distance, in [0, 1]; 0 for a bad sample.

    A bond, or the two ends of an angle, is impossible more than 25 % outside its bounds, any other pair when it is
    more than 30 % closer than its lower bound. Hydrogens are ignored. The parts are the shares by each check alone.
    """

    floor: ClassVar[float] = 0.0
    parts: ClassVar[tuple[str, ...]] = Violations._fields

    def measured(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        found = violations(mol, sample.positions[sample.numbers > 1])
        parts = {name: share(pairs) for name, pairs in zip(self.parts, found, strict=True)}
        return Explained(share(np.logical_or.reduce(found)), "", parts)

    def explain(self, sample: Molecule, /) -> dict[str, float]:
        """The share of heavy atoms that each check alone finds possible; NaN for a bad sample."""
        return explanation(self.parts, {}) | dict(parts_of(self.score_one(sample)))


def share(pairs: NDArray[np.bool_]) -> float:
    """Share of atoms in none of the pairs."""
    return float(1.0 - pairs.any(1).mean())


def violations(mol: Chem.Mol, positions: NDArray[np.float32]) -> Violations:
    """Which pairs of heavy atoms are too far from where distance geometry allows them.

    Args:
        mol: its heavy atoms are in the order of the positions.
        positions: of the heavy atoms, angstrom [n, 3].
    """
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    place = np.ix_(heavy, heavy)
    bounds = np.array(rdDistGeom.GetMoleculeBoundsMatrix(mol))[place]  # upper bounds above the diagonal, lower below
    upper = np.triu(bounds, 1) + np.triu(bounds, 1).T
    lower = np.tril(bounds, -1) + np.tril(bounds, -1).T
    apart = np.array(Chem.GetDistanceMatrix(mol))[place]  # bonds on the shortest path
    x = positions.astype(np.float64)
    distance = np.sqrt(np.square(x[:, None] - x[None]).sum(-1))
    return Violations(
        lengths=(apart == 1) & outside(distance, lower, upper, LENGTH),
        angles=(apart == 2) & outside(distance, lower, upper, ANGLE),
        clashes=(apart > 2) & (distance < lower * (1.0 - CLASH)),
    )


def outside(
    distance: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64], tolerance: float
) -> NDArray[np.bool_]:
    """Whether distances are beyond bounds and tolerance."""
    beyond: NDArray[np.bool_] = (distance < lower * (1.0 - tolerance)) | (distance > upper * (1.0 + tolerance))
    return beyond
