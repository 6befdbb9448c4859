"""Requests about molecules to another program: SMILES, and the geometry where that is what is scored."""

import math
from dataclasses import dataclass
from typing import ClassVar

from rdkit import Chem

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import has_geometry
from molrl.rewards.molecules.geometry import NO_GEOMETRY, geometry_key, heavy_graph
from molrl.rewards.molecules.graph import read_sound, refused
from molrl.rewards.molecules.strain import add_hydrogens
from molrl.rewards.scores import Scored
from molrl.rewards.workers.external_queue import Request


@dataclass(frozen=True, kw_only=True)
class MoleculeRequest:
    """The description of a molecule: {"smiles": ...}, of a geometry also {"mol": a block of MDL's format}.

    Attributes:
        geometry: ask about each geometry, with hydrogens, in place of each canonical SMILES.
        floor: of a bad sample, which is not asked about.
    """

    geometry: bool
    floor: float
    reader: BondReader
    kind: ClassVar[str] = "molecules"

    def __call__(self, sample: Molecule, /) -> Request | Scored:
        """Return the request for a molecule, or the floor of a bad sample."""
        mol, reason = read_sound(self.reader, sample)
        if mol is None:
            return refused(reason, self.floor)
        smiles = str(Chem.MolToSmiles(mol))
        if not self.geometry:
            return Request(smiles, {"smiles": smiles})
        if not has_geometry(sample):
            return Scored(math.nan, NO_GEOMETRY)
        complete, _ = add_hydrogens(heavy_graph(mol), sample)
        return Request(geometry_key(sample), {"smiles": smiles, "mol": Chem.MolToMolBlock(complete)})
