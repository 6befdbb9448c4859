"""Rewards that depend on the molecular graph alone, and the check that a sample has a graph worth scoring."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from rdkit import Chem
from rdkit.Chem import Descriptors

from molrl.data.molecules.bonds import BondReader, Reading, is_connected
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.scores import PerSample, Scored, category

MAX_HEAVY = 500  # atoms; far above any drug, far below where descriptors and bond readers take seconds
TOO_LARGE = "too large"  # category of reasons
CACHE_SIZE = 2**16  # molecules per process; a policy that improves repeats itself


@dataclass(frozen=True, kw_only=True)
class GraphReward(PerSample[Molecule]):
    """A value computed from a canonical SMILES, or a floor for a sample that is not one connected closed-shell
    molecule; NaN for one of more than `MAX_HEAVY` heavy atoms.

    The SMILES in between makes the value independent of atom order, geometry and explicit hydrogens to the last bit,
    so that it may be cached.
    """

    reader: BondReader
    kind: ClassVar[str] = "molecules"
    is_discrete: ClassVar[bool] = True
    floor: ClassVar[float]

    @abstractmethod
    def value(self, smiles: str) -> float:
        """Return the value of a sound molecule."""

    def score_one(self, sample: Molecule, /) -> Scored:
        mol, reason = read_sound(self.reader, sample)
        if mol is None:
            return refused(reason, self.floor)
        smiles = Chem.MolToSmiles(mol)
        return Scored(self.value(smiles), "")

    def cache_key(self, sample: Molecule, /) -> str | None:
        """Return the canonical SMILES; None for a bad sample."""
        return graph_key(self.reader, sample)


def graph_key(reader: BondReader, sample: Molecule) -> str | None:
    """Return the canonical SMILES of a sample, stereo marks included; None where it is no sound molecule."""
    mol, _ = read_sound(reader, sample)
    return None if mol is None else str(Chem.MolToSmiles(mol))


def size_problem(sample: Molecule) -> str:
    """Return that a sample has too many heavy atoms to be scored, or "" if it has not; hydrogens may be no atoms."""
    heavy = int((sample.numbers > 1).sum())
    return f"{TOO_LARGE}: {heavy} heavy atoms, at most {MAX_HEAVY}" if heavy > MAX_HEAVY else ""


def refused(reason: str, floor: float) -> Scored:
    """Return the score of a sample that `read_sound` refuses: the floor, or NaN for a limit, which is not its fault."""
    return Scored(math.nan if category(reason) == TOO_LARGE else floor, reason)


def read_sound(reader: BondReader, sample: Molecule) -> Reading:
    """Read the molecule off a sample, or the reason why it must not be scored.

    RDKit's descriptors give plausible numbers for nonsense: QED is 0.34 for an empty molecule or a dummy atom, and
    counts the fragments of a disconnected one together. So the check comes before the descriptor.
    """
    if problem := size_problem(sample):
        return Reading(None, problem)
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
    """Parse a SMILES that RDKit itself wrote; ValueError if it cannot."""
    mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        raise ValueError(f"RDKit cannot read back its own SMILES {smiles!r}")
    return mol
