"""A cache of values by canonical structure, for scorers that are slow and do not depend on the geometry."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from rdkit import Chem

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.graph import GraphReward, read_sound
from molrl.rewards.scores import PerSample, Scored, Scorer
from molrl.rewards.wrapping import explanation, innermost, parts_of, plain_reader


@dataclass(eq=False)
class Cached(PerSample[Molecule]):
    """A scorer that is called once for each canonical SMILES, hydrogens implicit and stereo marks included.

    Only for scorers of the graph alone, and combinations of these with one bond reader. Bad samples, which are cheap,
    and lost measurements, which may succeed the next time, are not cached. Each worker process has its own cache, so
    `hits` and `misses` count the calls of this object alone.

    Attributes:
        scorer: should be slow compared to reading the bonds, which the cache does not save.
        size: values in the cache; the least recently used one goes first.
    """

    scorer: Scorer[Any]
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size: got {self.size}, need at least 1")
        if geometric := [scorer for scorer in innermost(self.scorer) if not isinstance(scorer, GraphReward)]:
            name = type(geometric[0]).__name__
            raise ValueError(f"cached: {name} may depend on the geometry, which is not part of a SMILES")
        readers = {plain_reader(bond_reader(scorer)) for scorer in innermost(self.scorer)}
        if len(readers) != 1:
            raise ValueError(f"cached: the scorers inside have {len(readers)} different bond readers, need one")
        self.hits = self.misses = 0
        self._values: OrderedDict[str, Scored] = OrderedDict()

    @property
    def reader(self) -> BondReader:
        """Return the bond reader of the scorer."""
        return bond_reader(next(innermost(self.scorer)))

    @property
    def inner(self) -> tuple[Scorer[Any], ...]:
        """Return the scorer that is wrapped."""
        return (self.scorer,)

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the scorer's parts."""
        return tuple(getattr(self.scorer, "parts", ()))

    def score_one(self, sample: Molecule, /) -> Scored:
        mol, _ = read_sound(self.reader, sample)
        if mol is None:
            return self.scorer.score_one(sample)
        key = Chem.MolToSmiles(mol)
        if (cached := self._values.get(key)) is not None:
            self.hits += 1
            self._values.move_to_end(key)
            return cached
        self.misses += 1
        scored = self.scorer.score_one(sample)
        if not math.isnan(scored.value):
            self._values[key] = scored
            if len(self._values) > self.size:
                self._values.popitem(last=False)
        return scored

    def explain(self, sample: Molecule, /) -> dict[str, float]:
        """Return the parts of the scorer's value."""
        return explanation(self.parts, {}) | dict(parts_of(self.score_one(sample)))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, with an empty cache."""
        return {**vars(self), "hits": 0, "misses": 0, "_values": OrderedDict()}


def bond_reader(scorer: Any) -> BondReader:
    """Return the bond reader of a scorer of the graph."""
    reader: BondReader = scorer.reader
    return reader
