"""Records of molecule files, read one at a time, before any processing that could hang or crash."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

from rdkit import Chem, rdBase

from molrl.data.files import Skipped, open_file, suffix
from molrl.data.molecules.embedding import embed, parse
from molrl.data.molecules.entries import MAX_HEAVY, NO_LIMIT, Entry
from molrl.data.molecules.files import stream
from molrl.data.molecules.graphs import from_graph
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.sdf import Block, blocks, parse_record
from molrl.data.molecules.smiles import Line, smiles_lines, treat_line
from molrl.data.molecules.standardise import AS_IT_IS, Treatment
from molrl.data.molecules.xyz import frames

Content: TypeAlias = Block | Line | Entry


class Record(NamedTuple):
    """One record of a file.

    Attributes:
        line: the number of its first line, from 1; 0 where a file has no lines.
        name: as far as it is known without parsing the record.
        content: the input of `molecule_of`.
    """

    line: int
    name: str
    content: Content


def records(path: str | Path, smiles_column: str | None = None) -> Iterator[Record]:
    """Yield the records of a molecule file in order, one in memory at a time (but all of an npz file).

    Args:
        smiles_column: of a .csv file; None takes smiles or canonical_smiles.

    Raises ValueError, at once, for an unknown suffix, a missing, empty or binary file and a missing column.
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
            return (Record(line, entry_name(entry), entry) for line, entry in frames(path))
        case ".smi" | ".txt" | ".csv":
            lines = smiles_lines(path, smiles_column, NO_LIMIT)
            first = list(islice(lines, 1))  # a file without the column fails now
            return (Record(line.number, line.name, line) for line in chain(first, lines))
        case _:
            return (Record(0, entry_name(entry), entry) for entry in stream(path))


def entry_name(entry: Entry) -> str:
    """Return the name of a molecule, or "" for a skipped record."""
    return entry.name if isinstance(entry, Molecule) else ""


def molecule_of(record: Record, *, embedded: bool, treatment: Treatment = AS_IT_IS) -> Entry:
    """Return the molecule of a record, or the reason why there is none.

    The atoms of a graph without a geometry (a SMILES or a 2D depiction) are all at the origin.

    Args:
        embedded: compute geometries for those, within the limits of `embed`.
        treatment: of molecules that come with bonds.
    """
    match record.content:
        case Block() as block:
            entry = parse_record(block, "file", MAX_HEAVY, treatment, flat=True)
            if isinstance(entry, Skipped) or not embedded or has_geometry(entry):
                return entry
            return embed_line(Line(block.where, Chem.MolToSmiles(entry.graph), entry.name))
        case Line() as line:
            treated = treat_line(line, treatment)
            return embed_line(treated) if embedded and not treated.problem else parse_line(treated)
        case entry:
            return entry


def has_geometry(molecule: Molecule) -> bool:
    """Tell whether the atoms are in more than one place."""
    return len(molecule) < 2 or bool(molecule.positions.any())


def embed_line(line: Line) -> Entry:
    """Return the molecule of a SMILES with a geometry."""
    mol = embed(line.smiles)
    return Skipped(line.where, mol) if isinstance(mol, str) else from_graph(mol, line.name, counted=False)


def parse_line(line: Line) -> Entry:
    """Return the molecule of a SMILES as a graph, its atoms at the origin."""
    mol = parse_graph(line)
    if isinstance(mol, Skipped):
        return mol
    mol.AddConformer(Chem.Conformer(mol.GetNumAtoms()))  # all atoms at the origin
    return from_graph(mol, line.name, counted=True)


def parse_graph(line: Line) -> Chem.Mol | Skipped:
    """Return the RDKit molecule of a SMILES, or the reason why there is none."""
    if line.problem or not line.smiles:
        return Skipped(line.where, line.problem or "no SMILES")
    with rdBase.BlockLogs():
        mol = parse(line.smiles)
    return Skipped(line.where, mol) if isinstance(mol, str) else mol
