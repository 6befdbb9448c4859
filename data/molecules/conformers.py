"""Conformers of many SMILES: worker processes, and a cache of finished blocks that survives a kill."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from rdkit import rdBase

from molrl.data.cache import digest, load_arrays, pack_texts, save_arrays, unpack_texts
from molrl.data.molecules.embedding import (
    EMBEDDING_ATTEMPTS,
    EMBEDDING_SECONDS,
    FORCE_FIELD,
    RELAXATION_STEPS,
    SEED,
    embed,
)
from molrl.data.molecules.entries import MAX_HEAVY
from molrl.data.molecules.graphs import from_graph
from molrl.data.molecules.molecule import Molecule, Molecules
from molrl.data.molecules.store import from_arrays, to_arrays
from molrl.machine.workers.local import Workers
from molrl.machine.workers.protocol import Lost

BLOCK_SIZE = 1000  # SMILES whose conformers are stored together
BATCH_SIZE = 8  # SMILES handed to a worker at a time

Conformer: TypeAlias = Molecule | str | Lost
"""A molecule without its graph, the reason why RDKit gives none, or how a worker lost it, which is not cached."""


def failure(conformer: str | Lost | None) -> str:
    """Return why there is no conformer."""
    return conformer.reason if isinstance(conformer, Lost) else conformer or "no embedding"


@dataclass(frozen=True)
class Embedder:
    """The function from a SMILES to its conformer; see `embed`."""

    max_heavy: int = MAX_HEAVY
    seed: int = SEED

    def __call__(self, smiles: str) -> Molecule | str:
        mol = embed(smiles, self.max_heavy, self.seed)
        return mol if isinstance(mol, str) else replace(from_graph(mol, "", counted=False), graph=None)

    def __str__(self) -> str:
        limits = f"{EMBEDDING_ATTEMPTS} {EMBEDDING_SECONDS} {RELAXATION_STEPS}"
        return f"ETKDGv3 {FORCE_FIELD} {self.max_heavy} {self.seed} {limits} RDKit {rdBase.rdkitVersion}"


@dataclass(eq=False)
class Block:
    """SMILES whose conformers are computed and stored together, so that a kill loses one block at most.

    Attributes:
        smiles: all of them, which name the block in the cache.
        rows: the row of each in its source.
        wanted: whether its conformer is asked for.
        conformers: one for each SMILES; None where there is none yet.
    """

    smiles: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    wanted: list[bool] = field(default_factory=list)
    conformers: list[Conformer | None] = field(default_factory=list)

    def append(self, smiles: str, row: int, *, wanted: bool = True) -> None:
        """Add a SMILES without a conformer."""
        self.smiles.append(smiles)
        self.rows.append(row)
        self.wanted.append(wanted)
        self.conformers.append(None)

    def missing(self) -> list[int]:
        """Return the places of wanted conformers that are not there yet."""
        return [place for place, found in enumerate(self.conformers) if found is None and self.wanted[place]]


def split(smiles: Sequence[str], size: int) -> Iterator[Block]:
    """Yield blocks of `size` SMILES."""
    for start in range(0, len(smiles), size):
        block = Block()
        for row, item in enumerate(smiles[start : start + size], start):
            block.append(item, row)
        yield block


def embed_blocks(
    blocks: Iterable[Block],
    embedder: Embedder,
    *,
    cache: Path | None,
    workers: int,
    advance: Callable[[int], object] = lambda _: None,
) -> Iterator[Block]:
    """Yield the blocks with the wanted conformers, in order, each stored in the cache before the next one is yielded.

    Args:
        cache: folder of a file for each block, named by the block's SMILES and the settings; None keeps nothing.
        workers: processes (spawned, so a script needs a main guard); 0 embeds in this one. A worker that crashes or
            hangs costs only its molecule.
        advance: called with the number of conformers that were just loaded or computed.
    """
    pool = Workers(embedder, workers=workers, timeout=2.0 * EMBEDDING_SECONDS, chunk=BATCH_SIZE)

    def path_of(block: Block) -> Path | None:
        return None if cache is None else cache / f"{digest(str(embedder), *block.smiles)}.npz"

    def load(block: Block) -> Block:
        if (path := path_of(block)) is not None:
            block.conformers = load_conformers(path, len(block.smiles)) or block.conformers
        advance(len(block.smiles) - len(block.missing()))
        return block

    with closing(pool):
        for incomplete, run in groupby(map(load, blocks), key=lambda block: bool(block.missing())):
            for block in compute(run, pool, advance) if incomplete else run:
                if incomplete and (path := path_of(block)) is not None:
                    save_conformers(path, block.conformers)
                yield block


def compute(blocks: Iterable[Block], pool: Workers, advance: Callable[[int], object]) -> Iterator[Block]:
    """Yield the blocks, each with at least one missing conformer, once all of those are there."""
    begun: deque[tuple[Block, deque[int]]] = deque()  # with the places still missing

    def smiles() -> Iterator[str]:
        for block in blocks:
            places = block.missing()
            begun.append((block, deque(places)))
            yield from [block.smiles[place] for place in places]

    for conformer in pool.stream(smiles()):
        block, places = begun[0]
        block.conformers[places.popleft()] = conformer
        advance(1)
        if not places:
            begun.popleft()
            yield block


def save_conformers(path: Path, conformers: Sequence[Conformer | None]) -> None:
    """Store conformers, and the reasons where there are none; "" where one was lost or is not there yet."""
    packed = Molecules.pack(conformer for conformer in conformers if isinstance(conformer, Molecule))
    arrays: dict[str, NDArray[np.generic]] = {
        "found": np.array([isinstance(conformer, Molecule) for conformer in conformers], dtype=np.bool_),
        "reasons": pack_texts(
            conformer if isinstance(conformer, str) else ""
            for conformer in conformers
            if not isinstance(conformer, Molecule)
        ),
    }
    save_arrays(path, arrays | to_arrays(packed))


def load_conformers(path: Path, count: int) -> list[Conformer | None] | None:
    """Load what `save_conformers` stored; return None if it is missing, damaged or of another number of SMILES."""
    arrays = load_arrays(path)
    if arrays is None or not {"found", "reasons"} <= arrays.keys():
        return None
    if arrays["found"].shape != (count,) or arrays["found"].dtype != np.bool_:
        return None
    found = arrays["found"].tolist()
    try:
        molecules = list(from_arrays(arrays, ("",) * sum(found)))
        reasons = unpack_texts(arrays["reasons"])
    except (TypeError, ValueError, IndexError):
        return None
    if len(reasons) != count - len(molecules):
        return None
    rest, others = iter(molecules), iter(reasons)
    return [next(rest) if there else next(others) or None for there in found]
