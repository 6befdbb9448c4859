"""A reward for molecules without rings of unwanted sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from molrl.rewards.molecules.graph import GraphReward, parse


@dataclass(frozen=True, kw_only=True)
class AllowedRings(GraphReward):
    """1 if every ring has an allowed size, 0 otherwise and for a bad sample; a molecule without rings has 1.

    Small data sets such as QM9 are full of strained rings of three and four atoms, which are hard to synthesise.

    Attributes:
        sizes: allowed numbers of atoms, of the rings in RDKit's smallest set of smallest rings.
    """

    sizes: Sequence[int]
    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if not all(type(size) is int and size >= 3 for size in self.sizes):
            raise ValueError(f"sizes: got {list(self.sizes)}, need whole numbers from 3")

    def value(self, smiles: str) -> float:
        mol = parse(smiles)  # has to outlive its RingInfo, which is otherwise a pointer into freed memory
        return float(all(len(ring) in self.sizes for ring in mol.GetRingInfo().AtomRings()))
