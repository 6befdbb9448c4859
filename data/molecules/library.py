"""A library of SMILES as a training set: standardised, without duplicates, embedded block by block."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from rdkit import Chem

from molrl.data.files import Skipped
from molrl.data.molecules.conformers import BLOCK_SIZE, Block, Embedder, embed_blocks, failure
from molrl.data.molecules.entries import NO_LIMIT, make_entry
from molrl.data.molecules.molecule import Hydrogens, Molecule, Molecules
from molrl.data.molecules.smiles import Line, smiles_lines
from molrl.data.molecules.standardise import Treatment, standardise

MAX_LINES = 10_000_000  # held in memory, some 3 GB


def read_lines(path: str | Path, smiles_column: str | None) -> list[Line]:
    """Return the lines of a file of SMILES; see `smiles_lines`.

    Raises ValueError for more than `MAX_LINES`.
    """
    lines = list(islice(smiles_lines(path, smiles_column), MAX_LINES + 1))
    if len(lines) > MAX_LINES:
        raise ValueError(f"{path}: more than {MAX_LINES:,} records; split the file")
    return lines


def draw_lines(lines: Sequence[Line], n: int | None, seed: int) -> list[Line]:
    """Return `n` lines drawn at random, or all, in random order; a larger `n` continues the draws of a smaller one.

    Raises ValueError if there are fewer lines.
    """
    if n is not None and not 0 < n <= len(lines):
        raise ValueError(f"n: got {n}, allowed: 1 to {len(lines)}, the number of records, or null for all")
    return [lines[row] for row in np.random.default_rng(seed).permutation(len(lines))[:n].tolist()]


@dataclass(eq=False, kw_only=True)
class Library:
    """SMILES on their way to molecules, with an account of what became of each.

    Blocks are consecutive lines, whatever is left out of them, so that finished ones are found again in the cache
    with other limits on the size.

    Attributes:
        min_heavy, max_heavy: limits on the heavy atoms of a molecule.
        treatment: changes to every molecule.
        advance: called with a number of lines that have just been dealt with.
        duplicates: number of lines with the standardised SMILES of an earlier one.
        outside: number of molecules outside the limits.
        skipped: the reason why a line gave no molecule, by its row.
        smiles: standardised SMILES of the molecules so far.
        seen: standardised SMILES of the lines so far.
    """

    lines: Sequence[Line]
    min_heavy: int
    max_heavy: int
    treatment: Treatment
    advance: Callable[[int], object] = lambda _: None
    duplicates: int = 0
    outside: int = 0
    skipped: dict[int, str] = field(default_factory=dict)
    smiles: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def molecules(self, hydrogens: Hydrogens, *, cache: Path | None, workers: int) -> Molecules:
        """Return the molecules, of which `smiles` then lists the standardised SMILES; see `embed_blocks`."""
        blocks = embed_blocks(self.blocks(), Embedder(), cache=cache, workers=workers, advance=self.advance)
        return Molecules.join([Molecules.pack(self.embedded(block, hydrogens)) for block in blocks])

    def blocks(self) -> Iterator[Block]:
        """Yield the standardised SMILES of `BLOCK_SIZE` lines at a time."""
        for start in range(0, len(self.lines), BLOCK_SIZE):
            yield self.block(range(start, min(start + BLOCK_SIZE, len(self.lines))))

    def block(self, rows: range) -> Block:
        """Return the new molecules of some lines."""
        block = Block()
        for row in rows:
            line = self.lines[row]
            mol = line.problem or standardise(line.smiles, self.treatment)
            if isinstance(mol, str):
                self.skipped[row] = mol
                continue
            smiles = Chem.MolToSmiles(mol)
            if smiles in self.seen:
                self.duplicates += 1
                continue
            self.seen.add(smiles)
            block.append(smiles, row, wanted=self.min_heavy <= mol.GetNumHeavyAtoms() <= self.max_heavy)
        self.outside += block.wanted.count(False)
        self.advance(len(rows) - len(block.smiles))
        return block

    def embedded(self, block: Block, hydrogens: Hydrogens) -> Iterator[Molecule]:
        """Yield the molecules of a block with conformers, and note the reasons of the others."""
        for smiles, row, wanted, conformer in zip(
            block.smiles, block.rows, block.wanted, block.conformers, strict=True
        ):
            if not wanted:
                continue
            if not isinstance(conformer, Molecule):
                self.skipped[row] = failure(conformer)
                continue
            entry = make_entry(replace(conformer, name=self.lines[row].name), hydrogens, NO_LIMIT, "")
            if isinstance(entry, Skipped):
                self.skipped[row] = entry.reason
            else:
                self.smiles.append(smiles)
                yield entry

    def account(self) -> list[Skipped]:
        """Return the lines that gave no molecule, in the order of the file."""
        rows = sorted(self.skipped, key=lambda row: self.lines[row].number)
        return [Skipped(self.lines[row].where, self.skipped[row]) for row in rows]
