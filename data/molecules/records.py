"""The records of a molecule file, one at a time, before anything is made of them that could hang or crash."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from rdkit import Chem, rdBase

from molrl.data.files import Skipped, open_file, suffix
from molrl.data.molecules.files import MAX_HEAVY, NO_LIMIT, Entry, stream
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.sdf import Block, blocks, parse_record
from molrl.data.molecules.smiles import MAX_LENGTH, Line, embed, listed
from molrl.data.molecules.smiles import as_molecule as placed
from molrl.data.molecules.xyz import frames

Content: TypeAlias = Block | Line | Entry


class Record(NamedTuple):
    """One record of a file.

    Attributes:
        line: where it begins in the file, from 1; 0 where a file has no lines.
        name: as far as it is known without reading on.
        content: what `molecule_of` makes a molecule of.
    """

    line: int
    name: str
    content: Content


def records(path: str | Path, smiles_column: str | None = None) -> Iterator[Record]:
    """The records of a molecule file in order, with one of them in memory at a time (but all of an npz file).

    Args:
        smiles_column: of a .csv file; None takes smiles or canonical_smiles.

    Raises ValueError, at once, for an unknown suffix, a missing, empty or binary file and a column that is not there.
    """
    kind = suffix(path)
    if smiles_column is not None and kind != ".csv":
        raise ValueError(f"smiles_column={smiles_column}: only a .csv file has columns, got {path}")
    match kind:
        case ".sdf" | ".mol":
            open_file(path).close()
            return (Record(block.line, block.title, block) for block in blocks(path))
        case ".xyz":
            open_file(path).close()
            return (Record(line, name_of(entry), entry) for line, entry in frames(path))
        case ".smi" | ".txt" | ".csv":
            lines = listed(path, smiles_column, NO_LIMIT)
            first = list(next_of(lines))  # so that a file without the column fails now
            return (Record(line.number, line.name, line) for line in chain(first, lines))
        case _:
            return (Record(0, name_of(entry), entry) for entry in stream(path))


def next_of(lines: Iterator[Line]) -> Iterator[Line]:
    """The next line, if there is one."""
    for line in lines:
        yield line
        return


def name_of(entry: Entry) -> str:
    """The name of a molecule that has one."""
    return entry.name if isinstance(entry, Molecule) else ""


def molecule_of(record: Record, *, embedded: bool) -> Entry:
    """The molecule of a record, or why there is none.

    A graph without a geometry, a SMILES or a 2D drawing, has all its atoms at the origin.

    Args:
        embedded: make a geometry for those, which then lie in `embed`'s bounds.
    """
    match record.content:
        case Block() as block:
            entry = parse_record(block, "file", MAX_HEAVY, flat=True)
            if isinstance(entry, Skipped) or not embedded or has_geometry(entry):
                return entry
            return embedded_line(Line(block.where, Chem.MolToSmiles(entry.graph), entry.name))
        case Line() as line:
            return embedded_line(line) if embedded and not line.problem else graph_of(line)
        case entry:
            return entry


def has_geometry(molecule: Molecule) -> bool:
    """Whether the atoms are in more than one place."""
    return len(molecule) < 2 or bool(molecule.positions.any())


def embedded_line(line: Line) -> Entry:
    """The molecule of a SMILES in three dimensions."""
    geometry = embed(line.smiles)
    return Skipped(line.where, geometry) if isinstance(geometry, str) else placed(line, geometry, counted=False)


def graph_of(line: Line) -> Entry:
    """The molecule of a SMILES as a graph; its atoms are at the origin."""
    if line.problem or not line.smiles:
        return Skipped(line.where, line.problem or "no SMILES")
    if len(line.smiles) > MAX_LENGTH:
        return Skipped(line.where, f"more than {MAX_LENGTH} characters")
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(line.smiles) if line.smiles.isascii() else None  # RDKit stops at others unasked
    if mol is None:
        return Skipped(line.where, "not a valid SMILES")
    if mol.GetNumHeavyAtoms() > MAX_HEAVY:
        return Skipped(line.where, f"more than {MAX_HEAVY} heavy atoms")
    atoms = list(mol.GetAtoms())
    return Molecule(
        numbers=np.array([atom.GetAtomicNum() for atom in atoms], dtype=np.int64),
        positions=np.zeros((len(atoms), 3), dtype=np.float32),
        hydrogens=np.array([atom.GetTotalNumHs() for atom in atoms], dtype=np.int64),
        name=line.name,
        graph=mol,
    )
