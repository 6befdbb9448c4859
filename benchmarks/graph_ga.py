"""The graph-based genetic algorithm (Jensen 2019, doi:10.1039/C8SC05372C), as Diverse Hits runs it.

A generation draws a mating pool by score, makes as many children as the population is large, and keeps the best of old
and new. With the diversity filter of Diverse Hits (Renz et al. 2024) a molecule near an earlier hit is worth nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from graph_operators import crossover, mutate
from hits_ledger import Ledger, canonical
from rdkit import Chem, DataStructs

from molrl.data.molecules.circles import THRESHOLD, morgan_generator

HIT = 0.5  # least score
MAX_IDLE = 200  # generations without a new molecule, after which the search ends


@dataclass(frozen=True, kw_only=True)
class GraphGA:
    """The settings of a search.

    Attributes:
        population: molecules that are kept, and children of a generation.
        pool: draws of the mating pool.
        mutation_rate: of a child, after crossover.
        filtered: whether molecules near earlier hits count as worthless.
    """

    population: int
    pool: int
    mutation_rate: float
    filtered: bool


@dataclass
class HitMemory:
    """The hits that are far from all earlier ones; whatever is near them, themselves included, is worth nothing."""

    centres: list[Any] = field(default_factory=list)
    near: set[str] = field(default_factory=set)

    def __call__(self, smiles: Sequence[str], scores: Sequence[float]) -> list[float]:
        """Return the scores that are left, and remember new hits."""
        for text, score in zip(smiles, scores, strict=True):
            if text in self.near:
                continue
            bits = morgan_generator().GetFingerprint(Chem.MolFromSmiles(text))
            if max(DataStructs.BulkTanimotoSimilarity(bits, self.centres), default=0.0) > 1 - THRESHOLD:
                self.near.add(text)
            elif score >= HIT:
                self.near.add(text)
                self.centres.append(bits)
        return [0.0 if text in self.near else score for text, score in zip(smiles, scores, strict=True)]


def evolve(ledger: Ledger, library: Sequence[str], settings: GraphGA, rng: np.random.Generator) -> None:
    """Search until the budget of a ledger is spent, from random molecules of a library.

    Children have no stereo marks, so those of the library are dropped as well.
    """
    memory, idle = HitMemory(), 0
    drawn = rng.choice(np.array(library, dtype=object), settings.population, replace=False)
    population = list(dict.fromkeys(filter(None, map(plain, drawn))))
    worth = worths(ledger, memory, population, settings)
    while not ledger.is_spent and idle < MAX_IDLE:
        known = len(ledger.answers)
        population = list(dict.fromkeys([*population, *children(population, worth, settings, rng)]))
        worth = worths(ledger, memory, population, settings)
        best = np.argsort(-np.array(worth), kind="stable")[: settings.population].tolist()
        population, worth = [population[row] for row in best], [worth[row] for row in best]
        idle = idle + 1 if len(ledger.answers) == known else 0


def worths(ledger: Ledger, memory: HitMemory, population: Sequence[str], settings: GraphGA) -> list[float]:
    """Return what a search goes by: the scores, without what is near an earlier hit if so set."""
    scores = ledger(population)
    return memory(population, scores) if settings.filtered else scores


def children(
    population: Sequence[str], worth: Sequence[float], settings: GraphGA, rng: np.random.Generator
) -> list[str]:
    """Return the canonical SMILES of the children of a generation; a pair that has none is passed over."""
    total = sum(worth)
    shares = np.array(worth) / total if total > 0 else None
    rows: list[int] = rng.choice(len(population), settings.pool, p=shares).tolist()
    pool = [Chem.MolFromSmiles(population[row]) for row in rows]
    made = []
    for _ in range(settings.population):
        left, right = map(int, rng.integers(len(pool), size=2))
        child = crossover(pool[left], pool[right], rng)
        if child is not None and rng.random() < settings.mutation_rate:
            child = mutate(child, rng)
        if child is not None:
            made.append(Chem.MolToSmiles(child))
    return made


def plain(smiles: str) -> str:
    """Return the canonical SMILES of a molecule without its stereo marks; "" if none can be read."""
    if not (text := canonical(smiles)):
        return ""
    mol = Chem.MolFromSmiles(text)
    Chem.RemoveStereochemistry(mol)
    return canonical(Chem.MolToSmiles(mol))
