"""The molecules that a set is compared with: those of a file, or the training set of a model."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from molrl.data.files import suffix
from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.edm_protocol import edm_smiles_set
from molrl.data.molecules.files import SUFFIXES
from molrl.data.molecules.molecule import Hydrogens, Molecule
from molrl.data.molecules.perception import without_bonds
from molrl.data.molecules.quality import fragment_smiles
from molrl.data.molecules.records import has_geometry
from molrl.data.molecules.smiles import SMILES_SUFFIXES
from molrl.data.molecules.smiles_hashes import SmilesHashes
from molrl.data.molecules.standardise import AS_IT_IS, Treatment
from molrl.data.molecules.unembedded import Graphs, read_canonical_smiles, read_unembedded
from molrl.models.molecules.model import read_training_set
from molrl.models.shipped import locate
from molrl.runs.errors import CheckpointError


@dataclass(frozen=True)
class Reference:
    """Molecules to compare with.

    Attributes:
        source: the file or the model.
        smiles: canonical SMILES of the largest fragments without stereo marks, one for each readable molecule.
        molecules: those of a file of geometries or drawings; empty for SMILES and for a model.
        hashes: those of a model that keeps no SMILES, which tell novelty only; None for others.
    """

    source: str
    smiles: Sequence[str]
    molecules: Sequence[Molecule] = ()
    hashes: SmilesHashes | None = None

    @cached_property
    def members(self) -> Container[str]:
        """Return what tells whether a SMILES is one of the reference."""
        return frozenset(self.smiles) if self.hashes is None else self.hashes

    @property
    def edm_smiles(self) -> frozenset[str] | None:
        """Return the SMILES by EDM's protocol, which needs geometries; None without any."""
        known = bool(self.molecules) and all(map(has_geometry, self.molecules))
        return edm_smiles_set(self.molecules) if known else None

    def choose(self, count: int | None) -> Graphs:
        """Return at most this many of the molecules, evenly chosen in their order; None: all."""
        n = len(self.smiles)
        rows = np.linspace(0, n - 1, n if count is None else min(count, n)).round().astype(int)
        return Graphs.parse([self.smiles[int(row)] for row in rows])


def load_reference(
    setting: str,
    source: str,
    reader: BondReader,
    hydrogens: Hydrogens,
    *,
    perceive: bool,
    treatment: Treatment = AS_IT_IS,
) -> Reference:
    """Load the molecules of a file, whose report is printed, or the training set of a model.

    Args:
        setting: its name, for messages.
        reader: reads the bonds of molecules without a graph.
        hydrogens: how geometries have them, best as the samples have them, so that both are read alike.
        perceive: ignore the graphs that come with geometries.
        treatment: of molecules that come with bonds.

    Raises:
        ValueError: `source` is neither a model with its training set nor a file of molecules.
    """
    if suffix(source) in SMILES_SUFFIXES:
        smiles, report = read_canonical_smiles(source, treatment)
        print(f"{setting}: {report}")
        return Reference(source, smiles)
    if suffix(source) in SUFFIXES:
        molecules, report = read_unembedded(source, hydrogens, treatment)
        print(f"{setting}: {report}")
        readings = (reader(without_bonds(item) if perceive else item) for item in molecules)
        return Reference(source, [text for text in map(fragment_smiles, readings) if text], molecules)
    try:
        trained = read_training_set(locate(source))
    except CheckpointError as error:
        raise ValueError(f"{setting}={source}: neither a model nor one of {', '.join(SUFFIXES)}") from error
    if trained is None:
        raise ValueError(f"{setting}={source}: this model came without its training set")
    if isinstance(trained, SmilesHashes):
        return Reference(source, (), hashes=trained)
    return Reference(source, sorted(trained))
