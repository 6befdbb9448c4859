"""Synthetic accessibility (Ertl and Schuffenhauer 2009, Journal of Cheminformatics 1, 8)."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from rdkit import RDConfig

from molrl.rewards.molecules.graph import CACHE_SIZE, GraphReward, parse

EASIEST, HARDEST = 1.0, 10.0


def load_sascorer() -> ModuleType:
    """Load RDKit's contributed SA_Score, which some distributions of RDKit keep outside the package."""
    path = Path(RDConfig.RDContribDir, "SA_Score", "sascorer.py")
    spec = spec_from_file_location("sascorer", path)
    if spec is None or spec.loader is None or not path.exists():
        raise ImportError(f"this RDKit comes without its contributed SA_Score, expected at {path}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SASCORER = load_sascorer()


@dataclass(frozen=True, kw_only=True)
class SA(GraphReward):
    """The SA score as published, 1 (easy to make) to 10 (hard): a metric, smaller is better; 10 for a bad sample."""

    floor: ClassVar[float] = HARDEST

    def value(self, smiles: str) -> float:
        return sa_score(smiles)


@dataclass(frozen=True, kw_only=True)
class Synthesisability(GraphReward):
    """The SA score as a reward, (10 - SA) / 9 in [0, 1]: larger is easier to make; 0 for a bad sample."""

    floor: ClassVar[float] = 0.0

    def value(self, smiles: str) -> float:
        return (HARDEST - sa_score(smiles)) / (HARDEST - EASIEST)


@lru_cache(maxsize=CACHE_SIZE)
def sa_score(smiles: str) -> float:
    """Return fragment contributions minus complexity penalties, by RDKit's contributed implementation.

    It counts explicit hydrogens as fragments (aspirin 6.4 instead of 1.6); a parsed SMILES has none.
    """
    return float(SASCORER.calculateScore(parse(smiles)))
