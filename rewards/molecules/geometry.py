"""Rewards that depend on the geometry of a molecule, which a sample given as a graph alone does not have."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from rdkit import Chem

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import has_geometry
from molrl.rewards.molecules.graph import read_sound
from molrl.rewards.scores import PerSample, Scored

NO_GEOMETRY = "no geometry"


@dataclass(frozen=True, kw_only=True)
class GeometryReward(PerSample[Molecule]):
    """A value computed from positions and bonds, or a floor for a sample that is not one connected closed-shell
    molecule.

    NaN ("no geometry") for a sample without positions: that is not the sample's fault.
    """

    reader: BondReader
    kind: ClassVar[str] = "molecules"
    floor: ClassVar[float]

    @abstractmethod
    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        """Return the value of a sound molecule; `mol` is as the reader made it and must not be changed."""

    def score_one(self, sample: Molecule, /) -> Scored:
        if not has_geometry(sample):
            return Scored(math.nan, NO_GEOMETRY)
        mol, reason = read_sound(self.reader, sample)
        return Scored(self.floor, reason) if mol is None else self.measure(mol, sample)
