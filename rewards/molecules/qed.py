"""Quantitative estimate of drug-likeness (Bickerton et al. 2012, Nature Chemistry 4, 90)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from rdkit.Chem import QED as RDKIT_QED

from molrl.rewards.molecules.graph import REMEMBERED, GraphReward, parse


@dataclass(frozen=True, kw_only=True)
class QED(GraphReward):
    """Drug-likeness in [0, 1], larger is better; 0 for a bad sample."""

    floor: ClassVar[float] = 0.0

    def value(self, smiles: str) -> float:
        return drug_likeness(smiles)


@lru_cache(maxsize=REMEMBERED)
def drug_likeness(smiles: str) -> float:
    """Weighted geometric mean of eight desirabilities, with the paper's mean weights (QED_w,mo), as RDKit has it."""
    return float(RDKIT_QED.qed(parse(smiles)))
