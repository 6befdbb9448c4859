"""SMILES to geometries: ETKDG embedding and MMFF relaxation, bounded, seeded and cached."""

import concurrent.futures
import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from molrl.data.cache import digest, load_arrays, pack_texts, save_arrays, unpack_texts
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
from molrl.data.molecules.entries import MAX_HEAVY, MAX_RECORDS, Entry, collect
from molrl.data.molecules.molecule import Hydrogens, Molecule, graph_charges

SEED = 7
EMBEDDING_SECONDS = 10  # per molecule; reports of half an hour exist (rdkit issue 8259)
EMBEDDING_ATTEMPTS = 50
RELAXATION_STEPS = 500
MAX_LENGTH = 10_000  # characters of one SMILES
SMILES_COLUMNS = ("smiles", "canonical_smiles")  # of a table, in upper or lower case


Geometry: TypeAlias = NDArray[np.float32] | str
"""Positions of all atoms, angstrom [n, 3], or the reason why there are none."""


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
    seed: int = SEED,
    cache: str | Path | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> Iterator[Entry]:
    """Yield an embedded molecule with its graph, or the reason why there is none, for each SMILES, in order.

    Args:
        source: a .smi or .txt file (`SMILES name` per line), a .csv file with one of `SMILES_COLUMNS`, or a list.
        hydrogens: "counts" drops the hydrogens after the relaxation; "file" means "atoms".
        seed: of every embedding, so that a molecule does not depend on its neighbours in the file.
        cache: folder that keeps the result under a hash of the content and the settings; None keeps nothing.
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
    smiles = [line.smiles for line in lines if not line.problem]
    geometries = embed_all(smiles, max_heavy, seed, workers)
    if cache is not None:
        settings = f"{max_heavy} {seed} {rdBase.rdkitVersion} {RELAXATION_STEPS} {EMBEDDING_ATTEMPTS}"
        geometries = cache_geometries(Path(cache) / f"smiles-{digest(settings, *smiles)}.npz", len(smiles), geometries)
    return combine(lines, geometries, hydrogens == "counts", progress)


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
        for number, text in lines:
            words = text.split(maxsplit=1)
            if not words or text.startswith("#") or (number == 1 and words[0].lower() in ("smiles", "smi")):
                continue
            yield Line(f"line {number}", words[0], words[-1].strip(), number)
    except BrokenStreamError as error:
        yield bad_line(number + 1, str(error))


def bad_line(number: int, problem: str) -> Line:
    """Return a line that holds no SMILES, with the reason."""
    return Line(f"line {number}", "", "", number, problem)


def csv_lines(lines: Iterator[tuple[int, str]], path: str, smiles_column: str | None) -> Iterator[Line]:
    """Yield the SMILES of a table with a header, separated by commas, semicolons or tabs; no cell has a line end."""
    header = next((text for _, text in lines if text.strip()), "")
    separator = max(",;\t", key=header.count)
    try:
        columns = [column.strip() for column in next(csv.reader([header], delimiter=separator))]
    except csv.Error as error:
        raise ValueError(f"{path}: the header is not a CSV row: {error}") from None
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


def smiles_index(columns: Sequence[str], path: str, wanted: str | None) -> int:
    """Return the index of the column of SMILES.

    Raises ValueError, which lists the columns, if it is not there.
    """
    lower = [column.lower() for column in columns]
    if wanted is None:
        for name in SMILES_COLUMNS:
            if name in lower:
                return lower.index(name)
    elif wanted in columns:
        return columns.index(wanted)
    elif wanted.lower() in lower:
        return lower.index(wanted.lower())
    expected = " or ".join(SMILES_COLUMNS) if wanted is None else repr(wanted)
    hint = "; name it with smiles_column=" if wanted is None else ""
    raise ValueError(f"{path}: no column named {expected}, got: {', '.join(columns)[:500]}{hint}")


def combine(
    lines: Sequence[Line], geometries: Iterator[Geometry], counted: bool, progress: Progress | None
) -> Iterator[Entry]:
    """Yield an entry for each line, with the geometries of those that are SMILES."""
    for row, line in enumerate(lines, 1):
        if line.problem:
            yield Skipped(line.where, line.problem)
        else:
            geometry = next(geometries)
            yield Skipped(line.where, geometry) if isinstance(geometry, str) else molecule_at(line, geometry, counted)
        if progress is not None:
            progress(row, len(lines))
    next(geometries, None)  # tells the cache that this was the last


def embed_all(smiles: Sequence[str], max_heavy: int, seed: int, workers: int) -> Iterator[Geometry]:
    """Yield the geometry of each SMILES, in order; see `embed`."""
    if workers < 1:
        for item in smiles:
            yield embed(item, max_heavy, seed)
        return
    from multiprocessing import get_context

    from pebble import ProcessExpired, ProcessPool

    limit = 2.0 * EMBEDDING_SECONDS  # of a whole molecule; also covers the start of a worker
    with ProcessPool(max_workers=workers, max_tasks=1000, context=get_context("spawn")) as pool:
        n = len(smiles)
        results = pool.map(embed, smiles, [max_heavy] * n, [seed] * n, timeout=limit).result()
        for _ in smiles:
            try:
                yield next(results)
            except concurrent.futures.TimeoutError:
                yield "time limit"
            except ProcessExpired:
                yield "crash"


def parse(smiles: str, max_heavy: int) -> Chem.Mol | str:
    """Parse a SMILES to all its atoms, implicit hydrogens last, or return the reason why that is impossible."""
    if len(smiles) > MAX_LENGTH:
        return f"more than {MAX_LENGTH} characters"
    mol = Chem.MolFromSmiles(smiles) if smiles.isascii() else None  # RDKit would silently stop at other characters
    if mol is None or mol.GetNumAtoms() == 0:
        return "not a SMILES"
    if mol.GetNumHeavyAtoms() > max_heavy:
        return f"more than {max_heavy} heavy atoms"
    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        return "dummy atom"
    if len(Chem.GetMolFrags(mol)) > 1:
        return "several fragments"
    return Chem.AddHs(mol)


def embed(smiles: str, max_heavy: int = MAX_HEAVY, seed: int = SEED) -> Geometry:
    """Embed a SMILES with ETKDG and relax it with MMFF, or with UFF where MMFF lacks an atom type.

    Returns positions in angstrom [n, 3] in the order of `parse`, or the reason why there are none.
    """
    with rdBase.BlockLogs():
        mol = parse(smiles, max_heavy)
        if isinstance(mol, str):
            return mol
        settings: Any = rdDistGeom.ETKDGv3()  # RDKit declares its numbers as objects
        settings.randomSeed = seed
        settings.maxIterations = EMBEDDING_ATTEMPTS
        settings.timeout = EMBEDDING_SECONDS
        try:
            if rdDistGeom.EmbedMolecule(mol, settings) != 0:
                return "no embedding"
            if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
                rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=RELAXATION_STEPS)
            elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
                rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=RELAXATION_STEPS)
            else:
                return "no force field"
        except (ValueError, RuntimeError):
            return "no embedding"
        positions = mol.GetConformer().GetPositions().astype(np.float32)
    return positions if np.isfinite(positions).all() else "no embedding"


def molecule_at(line: Line, positions: NDArray[np.float32], counted: bool) -> Entry:
    """Return the molecule of a SMILES at these positions [n, 3], with its graph."""
    with rdBase.BlockLogs():
        mol = Chem.AddHs(Chem.MolFromSmiles(line.smiles))
        conformer = Chem.Conformer(len(positions))
        conformer.SetPositions(positions.astype(np.float64))
        mol.AddConformer(conformer)
        if counted:
            mol = Chem.RemoveAllHs(mol)
    if mol.GetNumAtoms() == 0:
        return Skipped(line.where, "no heavy atoms")
    atoms = list(mol.GetAtoms())
    return Molecule(
        numbers=np.array([atom.GetAtomicNum() for atom in atoms], dtype=np.int64),
        positions=mol.GetConformer().GetPositions().astype(np.float32),
        hydrogens=np.array([atom.GetTotalNumHs() for atom in atoms], dtype=np.int64) if counted else None,
        name=line.name,
        graph=mol,
        charges=graph_charges(mol),
    )


def cache_geometries(path: Path, count: int, fresh: Iterator[Geometry]) -> Iterator[Geometry]:
    """Yield the geometries stored under the path, or the fresh ones, which are stored once all have been yielded."""
    if (stored := load_geometries(path, count)) is not None:
        yield from stored
        return
    geometries: list[Geometry] = []
    for geometry in fresh:
        geometries.append(geometry)
        yield geometry
    lost = ("time limit", "crash")  # due to this machine at this moment: try again next time
    if not any(isinstance(geometry, str) and geometry in lost for geometry in geometries):
        save_geometries(path, geometries)


def save_geometries(path: Path, geometries: Sequence[Geometry]) -> None:
    """Store geometries, and the reasons of those that failed."""
    arrived = [geometry for geometry in geometries if not isinstance(geometry, str)]
    sizes = [0 if isinstance(geometry, str) else len(geometry) for geometry in geometries]
    arrays: dict[str, NDArray[np.generic]] = {
        "sizes": np.array(sizes, dtype=np.int64),
        "positions": np.concatenate([np.zeros((0, 3), np.float32), *arrived]),
        "reasons": pack_texts(geometry for geometry in geometries if isinstance(geometry, str)),
    }
    save_arrays(path, arrays)


def load_geometries(path: Path, count: int) -> list[Geometry] | None:
    """Load what `save_geometries` stored; return None if it is missing, damaged or of another number of molecules."""
    arrays = load_arrays(path)
    if arrays is None or arrays.keys() != {"sizes", "positions", "reasons"}:
        return None
    sizes, positions = arrays["sizes"].astype(np.int64), arrays["positions"].astype(np.float32)
    reasons = iter(unpack_texts(arrays["reasons"]))
    if len(sizes) != count or positions.shape != (sizes.sum(), 3):
        return None
    pieces = np.split(positions, np.cumsum(sizes)[:-1]) if count else []
    return [piece if len(piece) else next(reasons, "no embedding") for piece in pieces]
