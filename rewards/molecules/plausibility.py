"""Physical plausibility of a geometry: its distances against the bounds of distance geometry.

A fast subset of PoseBusters (Buttenschoen et al. 2024, doi:10.1039/D3SC04185A): bond lengths, bond angles and clashes,
with its tolerances. Its checks of flat rings and of the energy are left out.
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

LENGTH_TOLERANCE, ANGLE_TOLERANCE, CLASH_TOLERANCE = 0.25, 0.25, 0.3  # beyond the bounds, relative


class Violations(NamedTuple):
    """The pairs of heavy atoms at impossible distances, each symmetric bool [n, n]."""

    lengths: NDArray[np.bool_]
    angles: NDArray[np.bool_]
    clashes: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Plausibility(GeometryReward):
    """The fraction of heavy atoms that take part in no impossible distance, in [0, 1]; 0 for a bad sample.

    The length of a bond, or the distance between the ends of an angle, is impossible more than 25 % outside its
    bounds, any other distance when it is more than 30 % below its lower bound. Hydrogens are ignored. The parts are the
    fractions by each check alone.
    """

    floor: ClassVar[float] = 0.0
    parts: ClassVar[tuple[str, ...]] = Violations._fields

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        checks = violations(mol, sample.positions[sample.numbers > 1])
        parts = {name: sound_fraction(pairs) for name, pairs in zip(self.parts, checks, strict=True)}
        return Explained(sound_fraction(np.logical_or.reduce(checks)), "", parts)

    def explain(self, sample: Molecule, /) -> dict[str, float]:
        """Return the fraction of heavy atoms that pass each check alone; NaN for a bad sample."""
        return explanation(self.parts, {}) | dict(parts_of(self.score_one(sample)))


def sound_fraction(pairs: NDArray[np.bool_]) -> float:
    """Return the fraction of atoms in none of the pairs."""
    return float(1.0 - pairs.any(1).mean())


def violations(mol: Chem.Mol, positions: NDArray[np.float32]) -> Violations:
    """Return the pairs of heavy atoms whose distance violates the bounds of distance geometry.

    Args:
        mol: its heavy atoms are in the order of the positions.
        positions: of the heavy atoms, angstrom [n, 3].
    """
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    rows = np.ix_(heavy, heavy)
    bounds = np.array(rdDistGeom.GetMoleculeBoundsMatrix(mol))[rows]  # upper bounds above the diagonal, lower below
    upper = np.triu(bounds, 1) + np.triu(bounds, 1).T
    lower = np.tril(bounds, -1) + np.tril(bounds, -1).T
    path_length = np.array(Chem.GetDistanceMatrix(mol))[rows]  # in bonds
    x = positions.astype(np.float64)
    distance = np.sqrt(np.square(x[:, None] - x[None]).sum(-1))
    return Violations(
        lengths=(path_length == 1) & outside(distance, lower, upper, LENGTH_TOLERANCE),
        angles=(path_length == 2) & outside(distance, lower, upper, ANGLE_TOLERANCE),
        clashes=(path_length > 2) & (distance < lower * (1.0 - CLASH_TOLERANCE)),
    )


def outside(
    distance: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64], tolerance: float
) -> NDArray[np.bool_]:
    """Return the mask of the distances that are beyond the bounds by more than the relative tolerance."""
    beyond: NDArray[np.bool_] = (distance < lower * (1.0 - tolerance)) | (distance > upper * (1.0 + tolerance))
    return beyond
