"""Rewards that depend on the geometry of a molecule, which a sample given as a graph alone does not have."""

import hashlib
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from rdkit import Chem, rdBase

from molrl.data.molecules.bonds import BondReader, molecule_problem
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import has_geometry
from molrl.rewards.molecules.graph import read_sound, refused, size_problem
from molrl.rewards.scores import PerSample, Scored

NO_GEOMETRY = "no geometry; molrl score makes one with embed=true"


@dataclass(frozen=True, kw_only=True)
class GeometryReward(PerSample[Molecule]):
    """A value computed from positions and bonds, or a floor for a sample that is not one connected closed-shell
    molecule.

    NaN for a sample without positions ("no geometry") or with too many atoms: that is not the sample's fault.
    """

    reader: BondReader
    kind: ClassVar[str] = "molecules"
    floor: ClassVar[float]

    @abstractmethod
    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        """Return the value of a sound molecule.

        Args:
            mol: of the heavy atoms alone, in the order of the sample; it must not be changed.
        """

    def score_one(self, sample: Molecule, /) -> Scored:
        if not has_geometry(sample):
            return Scored(math.nan, NO_GEOMETRY)
        mol, reason = read_sound(self.reader, sample)
        return refused(reason, self.floor) if mol is None else self.measure(heavy_graph(mol), sample)

    def cache_key(self, sample: Molecule, /) -> str:
        """Return what tells a sample with these atoms at these positions from any other."""
        return geometry_key(sample)


def geometry_key(sample: Molecule) -> str:
    """Return the SHA-256 of all that a sample is made of, bit by bit, its name left out."""
    state = hashlib.sha256()
    for name in ("numbers", "positions", "hydrogens", "charges", "bonds"):
        array = getattr(sample, name)
        state.update(name.encode() + (b"-" if array is None else np.ascontiguousarray(array).tobytes()))
    if sample.graph is not None:
        state.update(Chem.MolToSmiles(sample.graph, canonical=False).encode())
    return state.hexdigest()


def without_positions(sample: Molecule, floor: float) -> Scored | None:
    """Return the score of a sample that no reward of positions can look at; None for all others."""
    if problem := size_problem(sample):
        return Scored(math.nan, problem)
    if reason := molecule_problem(sample):
        return Scored(floor, reason)
    return None if has_geometry(sample) else Scored(math.nan, NO_GEOMETRY)


def heavy_graph(mol: Chem.Mol) -> Chem.Mol:
    """Return a connected molecule without the hydrogens that are atoms of its graph, isotopes for instance."""
    if mol.GetNumHeavyAtoms() == mol.GetNumAtoms():
        return mol
    with rdBase.BlockLogs():
        return Chem.RemoveAllHs(mol)
