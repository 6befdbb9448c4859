"""Files of SMILES: their lines, and the embedded molecules of those."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rdkit import Chem, rdBase

from molrl.data.files import (
    MAX_BYTES,
    BrokenStreamError,
    Progress,
    ReadReport,
    Skipped,
    open_file,
    suffix,
    text_lines,
)
from molrl.data.molecules.conformers import BLOCK_SIZE, Conformer, Embedder, embed_blocks, failure, split
from molrl.data.molecules.embedding import SEED, parse
from molrl.data.molecules.entries import MAX_HEAVY, MAX_RECORDS, NO_LIMIT, Entry, collect
from molrl.data.molecules.graphs import fold_all_hydrogens, from_graph
from molrl.data.molecules.molecule import Hydrogens, Molecule
from molrl.data.molecules.standardise import AS_IT_IS, Treatment

SMILES_SUFFIXES = (".smi", ".txt", ".csv")
SMILES_COLUMNS = ("smiles", "canonical_smiles")  # of a table, in upper or lower case
SEPARATORS = ",;\t"
QUOTED_CELL = re.compile(r'(^|[,;\t])"(?:[^"]|"")*"')


class Line(NamedTuple):
    """One SMILES of a source, before it is parsed.

    Attributes:
        where: its place in the source, for messages.
        number: of its line in the file, from 1; 0 in a list.
        problem: why there is no SMILES, or "".
    """

    where: str
    smiles: str
    name: str
    number: int = 0
    problem: str = ""


def read_smiles(
    source: str | Path | Sequence[str],
    hydrogens: Hydrogens = "atoms",
    *,
    cache: str | Path | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> tuple[list[Molecule], ReadReport]:
    """Read and embed every SMILES of a file or a list; see `stream_smiles`."""
    entries = stream_smiles(source, hydrogens, cache=cache, workers=workers, progress=progress)
    return collect(entries, str(source) if isinstance(source, str | Path) else f"{len(source)} SMILES")


def stream_smiles(
    source: str | Path | Sequence[str],
    hydrogens: Hydrogens = "atoms",
    max_heavy: int = MAX_HEAVY,
    max_records: int = MAX_RECORDS,
    *,
    treatment: Treatment = AS_IT_IS,
    seed: int = SEED,
    cache: str | Path | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> Iterator[Entry]:
    """Yield an embedded molecule with its graph, or the reason why there is none, for each SMILES, in order.

    Args:
        source: a .smi or .txt file (`SMILES name` per line), a .csv file with one of `SMILES_COLUMNS`, or a list.
        hydrogens: "counts" drops the hydrogens after the relaxation; "file" means "atoms".
        treatment: of every molecule; one that is still several fragments has no embedding.
        seed: of every embedding, so that a molecule does not depend on its neighbours in the file.
        cache: folder that keeps the results; see `embed_blocks`. None keeps nothing.
        workers: processes (spawned, so a script needs a main guard); 0 embeds in this one. A worker that crashes or
            hangs costs only its molecule.

    Raises ValueError, before the first molecule, for a file that is missing, empty or binary and for a CSV file
    without such a column.
    """
    lines = list(islice(smiles_lines(source), max_records + 1))
    tail = lines[max_records:]
    lines = lines[:max_records]
    if tail:
        lines.append(bad_line(tail[0].number, f"the rest is not read: more than {max_records} records"))
    lines = [treat_line(line, treatment) for line in lines]
    smiles = [line.smiles for line in lines if not line.problem]
    folder, size = (None, 1) if cache is None else (Path(cache), BLOCK_SIZE)
    done = embed_blocks(split(smiles, size), Embedder(max_heavy, seed), cache=folder, workers=workers)
    conformers = (conformer for block in done for conformer in block.conformers)
    return combine(lines, conformers, hydrogens == "counts", progress)


def smiles_lines(
    source: str | Path | Sequence[str], smiles_column: str | None = None, max_bytes: int = MAX_BYTES
) -> Iterator[Line]:
    """Yield the SMILES of a source, one at a time; the last one may say why the rest is missing.

    Args:
        smiles_column: of a .csv file; None takes the first of `SMILES_COLUMNS` that is there.

    Raises ValueError, at the first one, for a file that is missing, empty or binary or has no such column.
    """
    if not isinstance(source, str | Path):
        for row, smiles in enumerate(source, 1):
            yield Line(f"SMILES {row}", smiles.strip(), smiles.strip())
        return
    open_file(source).close()
    number = 0
    lines = enumerate(text_lines(source, max_bytes), 1)
    try:
        if suffix(source) == ".csv":
            for line in csv_lines(lines, str(source), smiles_column):
                number = line.number
                yield line
            return
        first = True
        for number, text in lines:
            words = text.split(maxsplit=1)
            if not words or text.startswith("#"):
                continue
            if not (first and is_header(words[0])):
                yield Line(f"line {number}", words[0], words[-1].strip(), number)
            first = False
    except BrokenStreamError as error:
        yield bad_line(number + 1, str(error))


def is_header(word: str) -> bool:
    """Tell whether a word names a column of SMILES, such as isomeric_smiles: no SMILES has smi outside brackets."""
    return "smi" in word.lower() and "[" not in word


def treat_line(line: Line, treatment: Treatment) -> Line:
    """Return a line with the SMILES of the treated molecule, or with the reason why that is refused."""
    if line.problem or not line.smiles or not treatment:
        return line
    with rdBase.BlockLogs():
        mol = parse(line.smiles, NO_LIMIT)
    mol = mol if isinstance(mol, str) else treatment(mol)
    return line._replace(problem=mol) if isinstance(mol, str) else line._replace(smiles=Chem.MolToSmiles(mol))


def bad_line(number: int, problem: str) -> Line:
    """Return a line that holds no SMILES, with the reason."""
    return Line(f"line {number}", "", "", number, problem)


def csv_lines(lines: Iterator[tuple[int, str]], path: str, smiles_column: str | None) -> Iterator[Line]:
    """Yield the SMILES of a table with a header, separated by commas, semicolons or tabs; no cell has a line end."""
    header = next((text for _, text in lines if text.strip()), "")
    separator, columns = split_header(header, path, smiles_column)
    place = smiles_index(columns, path, smiles_column)
    lower = [column.lower() for column in columns]
    name_place = next((lower.index(column) for column in ("name", "id") if column in lower), place)
    for number, text in lines:
        if not text.strip():
            continue
        try:
            cells = next(csv.reader([text], delimiter=separator))
        except csv.Error as error:
            yield bad_line(number, f"not a CSV row: {error}")
            continue
        if len(cells) <= place:
            yield bad_line(number, "not enough columns")
            continue
        name = cells[name_place] if name_place < len(cells) else cells[place]
        yield Line(f"line {number}", cells[place].strip(), name.strip(), number)


def split_header(header: str, path: str, wanted: str | None) -> tuple[str, list[str]]:
    """Return the separator of a table and its columns: one that gives the column of SMILES, then the most frequent.

    Separators in quoted cells do not count.

    Raises ValueError if none is possible.
    """
    rows: dict[str, list[str]] = {}
    problem = ""
    for separator in SEPARATORS:
        try:
            cells = next(csv.reader([header], delimiter=separator, strict=True))
            rows[separator] = [cell.strip() for cell in cells]
        except csv.Error as error:
            problem = str(error)
    if not rows:
        raise ValueError(f"{path}: the header is not a CSV row: {problem}")
    unquoted = QUOTED_CELL.sub(r"\1", header)
    best = max(rows, key=lambda mark: (find_column(rows[mark], wanted) is not None, unquoted.count(mark)))
    return best, rows[best]


def find_column(columns: Sequence[str], wanted: str | None) -> int | None:
    """Return the index of the column of SMILES; None where there is none of that name."""
    lower = [column.lower() for column in columns]
    if wanted in columns:
        return columns.index(wanted)
    names = SMILES_COLUMNS if wanted is None else (wanted.lower(),)
    return next((lower.index(name) for name in names if name in lower), None)


def smiles_index(columns: Sequence[str], path: str, wanted: str | None) -> int:
    """Return the index of the column of SMILES.

    Raises ValueError, which lists the columns, if it is not there.
    """
    if (place := find_column(columns, wanted)) is not None:
        return place
    expected = " or ".join(SMILES_COLUMNS) if wanted is None else repr(wanted)
    hint = "; name it with smiles_column=" if wanted is None else ""
    raise ValueError(f"{path}: no column named {expected}, got: {', '.join(columns)[:500]}{hint}")


def combine(
    lines: Sequence[Line], conformers: Iterator[Conformer | None], counted: bool, progress: Progress | None
) -> Iterator[Entry]:
    """Yield an entry for each line, with the conformers of those that are SMILES."""
    for row, line in enumerate(lines, 1):
        yield Skipped(line.where, line.problem) if line.problem else entry_of(line, next(conformers), counted)
        if progress is not None:
            progress(row, len(lines))


def entry_of(line: Line, conformer: Conformer | None, counted: bool) -> Entry:
    """Return the molecule of a SMILES at the positions of its conformer, with its graph, or why there is none."""
    if not isinstance(conformer, Molecule):
        return Skipped(line.where, failure(conformer))
    with rdBase.BlockLogs():
        graph = parse(line.smiles, NO_LIMIT)
    if isinstance(graph, str):
        return Skipped(line.where, graph)
    mol = Chem.AddHs(graph)
    geometry = Chem.Conformer(len(conformer))
    geometry.SetPositions(conformer.positions.astype(np.float64))
    mol.AddConformer(geometry)
    try:
        return from_graph(fold_all_hydrogens(mol) if counted else mol, line.name, counted=counted)
    except ValueError as error:
        return Skipped(line.where, str(error))
