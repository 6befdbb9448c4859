"""Descriptors of the molecular graph as RDKit computes them: weight, rings, donors, acceptors and the like."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, TypeAlias

from rdkit import Chem
from rdkit.Chem import Descriptors, rdMolDescriptors

from molrl.rewards.molecules.graph import CACHE_SIZE, GraphReward, parse

Name: TypeAlias = Literal[
    "molecular_weight",
    "tpsa",
    "rotatable_bonds",
    "rings",
    "aromatic_rings",
    "largest_ring",
    "hydrogen_donors",
    "hydrogen_acceptors",
    "heavy_atoms",
    "heteroatoms",
    "fraction_sp3",
]


def largest_ring(mol: Chem.Mol) -> int:
    """Return the number of atoms of the largest ring in the smallest set of smallest rings; 0 without a ring."""
    return max(map(len, mol.GetRingInfo().AtomRings()), default=0)


FUNCTIONS: Mapping[Name, Callable[[Chem.Mol], float]] = {
    "molecular_weight": Descriptors.MolWt,  # type: ignore[attr-defined]  # g/mol, natural isotopes
    "tpsa": rdMolDescriptors.CalcTPSA,  # square angstrom, N and O only (Ertl et al. 2000, doi:10.1021/jm000942e)
    "rotatable_bonds": rdMolDescriptors.CalcNumRotatableBonds,  # RDKit's strict definition: no amides
    "rings": rdMolDescriptors.CalcNumRings,
    "aromatic_rings": rdMolDescriptors.CalcNumAromaticRings,
    "largest_ring": largest_ring,
    "hydrogen_donors": rdMolDescriptors.CalcNumHBD,
    "hydrogen_acceptors": rdMolDescriptors.CalcNumHBA,
    "heavy_atoms": rdMolDescriptors.CalcNumHeavyAtoms,
    "heteroatoms": rdMolDescriptors.CalcNumHeteroatoms,
    "fraction_sp3": rdMolDescriptors.CalcFractionCSP3,  # of the carbons
}


@dataclass(frozen=True, kw_only=True)
class Descriptor(GraphReward):
    """A descriptor as a metric, one of `Name`; 0 for a bad sample.

    As a reward its best value is the largest; `Desirability` gives it another one.
    """

    name: Name
    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if self.name not in FUNCTIONS:
            raise ValueError(f"descriptor: got {self.name!r}, known are {', '.join(FUNCTIONS)}")

    def value(self, smiles: str) -> float:
        return descriptor(self.name, smiles)


@lru_cache(maxsize=CACHE_SIZE)
def descriptor(name: Name, smiles: str) -> float:
    """Return a descriptor of a molecule without explicit hydrogens."""
    return float(FUNCTIONS[name](parse(smiles)))
