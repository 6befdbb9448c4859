"""Octanol-water partition coefficient (Wildman and Crippen 1999, J. Chem. Inf. Comput. Sci. 39, 868)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from rdkit.Chem import rdMolDescriptors

from molrl.rewards.molecules.graph import CACHE_SIZE, GraphReward, parse


@dataclass(frozen=True, kw_only=True)
class LogP(GraphReward):
    """Crippen's logP as a metric; -10, less than any drug has, for a bad sample.

    It has no upper bound and grows with every carbon, so a policy that maximises it makes long chains.
    Optimise it through `Desirability`, with a window.
    """

    floor: ClassVar[float] = -10.0

    def value(self, smiles: str) -> float:
        return crippen_logp(smiles)


@lru_cache(maxsize=CACHE_SIZE)
def crippen_logp(smiles: str) -> float:
    """Return the sum of Crippen's atomic contributions, implicit hydrogens included."""
    return float(rdMolDescriptors.CalcCrippenDescriptors(parse(smiles))[0])
