"""Octanol-water partition coefficient (Wildman and Crippen 1999, J. Chem. Inf. Comput. Sci. 39, 868)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from rdkit.Chem import rdMolDescriptors

from molrl.rewards.graph import REMEMBERED, GraphReward, parse


@dataclass(frozen=True, kw_only=True)
class LogP(GraphReward):
    """Crippen's logP: a metric; -10, less than any drug has, for a bad sample.

    It has no upper bound and grows with every carbon, so a policy that maximises it makes long chains.
    Optimise `LogPWindow`.
    """

    floor: ClassVar[float] = -10.0

    def value(self, smiles: str) -> float:
        return crippen_logp(smiles)


@dataclass(frozen=True, kw_only=True)
class LogPWindow(GraphReward):
    """1 while logP is in [low, high], falling linearly to 0 at `slack` outside: a reward; 0 for a bad sample."""

    low: float
    high: float
    slack: float
    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"logP window: got low {self.low}, high {self.high}; low must not exceed high")
        if not self.slack > 0:
            raise ValueError(f"logP window: got slack {self.slack}, need a positive number")

    def value(self, smiles: str) -> float:
        logp = crippen_logp(smiles)
        outside = max(self.low - logp, logp - self.high, 0.0)
        return max(0.0, 1.0 - outside / self.slack)


@lru_cache(maxsize=REMEMBERED)
def crippen_logp(smiles: str) -> float:
    """Sum of atomic contributions, implicit hydrogens included."""
    return float(rdMolDescriptors.CalcCrippenDescriptors(parse(smiles))[0])
