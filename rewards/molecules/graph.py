"""Rewards that depend on the molecular graph alone, and which molecules have one worth scoring."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from rdkit import Chem
from rdkit.Chem import Descriptors

from molrl.data.molecules.bonds import BondReader, Reading, is_connected
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.scores import PerSample, Scored

LARGEST = 500  # atoms; far above any drug, far below where descriptors and bond readers take seconds
REMEMBERED = 2**16  # molecules per process; a policy that improves repeats itself


@dataclass(frozen=True, kw_only=True)
class GraphReward(PerSample[Molecule]):
    """A number worked out from a canonical SMILES, or a floor for whatever is not one whole closed-shell molecule.

    The SMILES in between makes the value independent of atom order, geometry and explicit hydrogens to the last bit,
    so that it may be remembered.
    """

    reader: BondReader
    floor: ClassVar[float]

    @abstractmethod
    def value(self, smiles: str) -> float:
        """The number for a sound molecule."""

    def score_one(self, sample: Molecule, /) -> Scored:
        mol, reason = sound(self.reader, sample)
        if mol is None:
            return Scored(self.floor, reason)
        smiles = Chem.MolToSmiles(mol)
        return Scored(self.value(smiles), "")


def sound(reader: BondReader, sample: Molecule) -> Reading:
    """The molecule read off a sample, or why it must not be scored.

    RDKit's descriptors give plausible numbers for nonsense: QED is 0.34 for an empty molecule or a dummy atom, and
    counts the fragments of a disconnected one together. So the decision comes before the descriptor.
    """
    if len(sample) > LARGEST:
        return Reading(None, f"too large: {len(sample)} atoms, at most {LARGEST}")
    if (sample.numbers == 0).any():
        return Reading(None, "dummy atom")
    mol, reason = reader(sample)
    if mol is None:
        return Reading(None, reason)
    if mol.GetNumHeavyAtoms() == 0:
        return Reading(None, "no heavy atoms")
    if not is_connected(mol):
        return Reading(None, f"disconnected: {len(Chem.GetMolFrags(mol))} fragments")
    if Descriptors.NumRadicalElectrons(mol):
        return Reading(None, f"radical: {Descriptors.NumRadicalElectrons(mol)} unpaired electrons")
    return Reading(mol, "")


def parse(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES that RDKit itself wrote."""
    mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        raise ValueError(f"RDKit cannot read back its own SMILES {smiles!r}")
    return mol
