"""Quantitative estimate of drug-likeness (Bickerton et al. 2012, Nature Chemistry 4, 90)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from rdkit.Chem import QED as RDKIT_QED

from molrl.rewards.molecules.graph import CACHE_SIZE, GraphReward, parse


@dataclass(frozen=True, kw_only=True)
class QED(GraphReward):
    """The drug-likeness QED in [0, 1], larger is better; 0 for a bad sample."""

    floor: ClassVar[float] = 0.0

    def value(self, smiles: str) -> float:
        return drug_likeness(smiles)


@lru_cache(maxsize=CACHE_SIZE)
def drug_likeness(smiles: str) -> float:
    """Return the weighted geometric mean of eight desirabilities with the paper's mean weights (QED_w,mo)."""
    return float(RDKIT_QED.qed(parse(smiles)))
