"""Rewards of the geometry itself, which a sample given as a graph alone does not have."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from rdkit import Chem

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import has_geometry
from molrl.rewards.molecules.graph import sound
from molrl.rewards.scores import PerSample, Scored

NO_GEOMETRY = "no geometry"


@dataclass(frozen=True, kw_only=True)
class GeometryReward(PerSample[Molecule]):
    """A number worked out from positions and bonds, or a floor for what is not one whole closed-shell molecule.

    NaN ("no geometry") for a sample without positions: that is not the sample's fault.
    """

    reader: BondReader
    floor: ClassVar[float]

    @abstractmethod
    def measured(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        """The number for a sound molecule; `mol` is as the reader made it and must not be changed."""

    def score_one(self, sample: Molecule, /) -> Scored:
        if not has_geometry(sample):
            return Scored(math.nan, NO_GEOMETRY)
        mol, reason = sound(self.reader, sample)
        return Scored(self.floor, reason) if mol is None else self.measured(mol, sample)
