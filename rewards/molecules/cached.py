"""Values remembered by canonical structure, for what is slow to score and does not depend on the geometry."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from rdkit import Chem

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.graph import sound
from molrl.rewards.scores import PerSample, Scored, Scorer
from molrl.rewards.wrapping import explanation, innermost, parts_of, unshared, without_geometry


@dataclass(eq=False)
class Cached(PerSample[Molecule]):
    """A scorer that is asked once for each canonical SMILES, hydrogens implicit and stereo marks included.

    Only for scorers of the graph alone, and combinations of these with one bond reader. Bad samples, which are cheap,
    and lost measurements, which may succeed the next time, are not remembered. Each worker process remembers for
    itself, so `hits` and `misses` count what was asked of this object.

    Attributes:
        scorer: worth remembering: reading the bonds is not saved.
        size: values remembered; the one not asked for longest goes first.
    """

    scorer: Scorer[Any]
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size: got {self.size}, need at least 1")
        if not without_geometry(self.scorer):
            odd = next(measuring for measuring in innermost(self.scorer) if not without_geometry(measuring))
            raise ValueError(f"cached: {type(odd).__name__} may depend on the geometry, which a SMILES does not tell")
        readers = {unshared(reader_of(measuring)) for measuring in innermost(self.scorer)}
        if len(readers) != 1:
            raise ValueError(f"cached: the scorers inside have {len(readers)} different bond readers, need one")
        self.hits = self.misses = 0
        self._found: OrderedDict[str, Scored] = OrderedDict()

    @property
    def reader(self) -> BondReader:
        """The scorer's."""
        return reader_of(next(innermost(self.scorer)))

    @property
    def inner(self) -> tuple[Scorer[Any], ...]:
        """What is wrapped."""
        return (self.scorer,)

    @property
    def parts(self) -> tuple[str, ...]:
        """The scorer's."""
        return tuple(getattr(self.scorer, "parts", ()))

    def score_one(self, sample: Molecule, /) -> Scored:
        mol, _ = sound(self.reader, sample)
        if mol is None:
            return self.scorer.score_one(sample)
        key = Chem.MolToSmiles(mol)
        if (known := self._found.get(key)) is not None:
            self.hits += 1
            self._found.move_to_end(key)
            return known
        self.misses += 1
        scored = self.scorer.score_one(sample)
        if not math.isnan(scored.value):
            self._found[key] = scored
            if len(self._found) > self.size:
                self._found.popitem(last=False)
        return scored

    def explain(self, sample: Molecule, /) -> dict[str, float]:
        """The parts of the scorer's value."""
        return explanation(self.parts, {}) | dict(parts_of(self.score_one(sample)))

    def __getstate__(self) -> dict[str, Any]:
        """Sent to a worker empty."""
        return {**vars(self), "hits": 0, "misses": 0, "_found": OrderedDict()}


def reader_of(scorer: Any) -> BondReader:
    """What a scorer of the graph reads bonds with."""
    reader: BondReader = scorer.reader
    return reader
