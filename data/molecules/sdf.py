"""SDF files, streamed record by record: a bad record costs itself only."""

import gzip
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from molrl.data.files import MAX_BYTES, BrokenStreamError, Skipped, open_file, text_lines
from molrl.data.molecules.bonds import BondReader, assemble
from molrl.data.molecules.files import MAX_HEAVY, MAX_RECORDS, NO_LIMIT, Entry, ReadReport, collect, position_problem
from molrl.data.molecules.molecule import Hydrogens, Molecule, reach

MAX_RECORD_LINES = 100_000
MAX_RECORD_SIZE = 1 << 23  # characters


def read_sdf(path: str | Path, hydrogens: Hydrogens = "file") -> tuple[list[Molecule], ReadReport]:
    """Read every molecule of an SDF file; see `stream_sdf`."""
    return collect(stream_sdf(path, hydrogens), str(path))


def stream_sdf(
    path: str | Path,
    hydrogens: Hydrogens = "file",
    max_heavy: int = MAX_HEAVY,
    max_records: int = MAX_RECORDS,
    max_bytes: int = MAX_BYTES,
) -> Iterator[Entry]:
    """Yield a molecule with its graph, or why there is none, for each record of an .sdf, .sdf.gz or .mol file.

    Args:
        hydrogens: "atoms" wants every hydrogen in the file, "counts" folds them into counts, "file" takes a record
            with all its hydrogens as atoms and any other as counts.

    Raises ValueError, before the first record, for a file that is missing, empty or binary.
    """
    open_file(path).close()
    return stream_records(path, hydrogens, max_heavy, max_records, max_bytes)


class Block(NamedTuple):
    """One record of a file before anything is made of it.

    Attributes:
        record: its number, from 1.
        line: where it begins, from 1.
        text: its lines without the end mark.
        problem: why the text is not all there; "" when it is.
    """

    record: int
    line: int
    text: str
    problem: str = ""

    @property
    def where(self) -> str:
        return f"record {self.record}, line {self.line}"

    @property
    def title(self) -> str:
        """The first line, which names the molecule."""
        return self.text.partition("\n")[0].strip()


def stream_records(
    path: str | Path, hydrogens: Hydrogens, max_heavy: int, max_records: int, max_bytes: int
) -> Iterator[Entry]:
    """One entry per record of a file that can be opened."""
    for block in blocks(path, max_records, max_bytes):
        yield parse_record(block, hydrogens, max_heavy)


def blocks(path: str | Path, max_records: int = NO_LIMIT, max_bytes: int = NO_LIMIT) -> Iterator[Block]:
    """The records of a file that can be opened, one at a time; the last one may say why the rest is missing."""
    record, start, number = 1, 1, 0
    kept = Kept()
    try:
        for number, line in enumerate(text_lines(path, max_bytes), 1):
            if not line.startswith("$$$$"):
                kept.add(line)
                continue
            if record > max_records:
                yield Block(record, start, "", f"the rest is not read: more than {max_records} records")
                return
            yield Block(record, start, *kept.taken())
            record, start = record + 1, number + 1
    except BrokenStreamError as error:
        yield Block(record, number + 1, "", str(error))
        return
    text, problem = kept.taken()
    if problem or text.strip():
        yield Block(record, start, text, problem)


class Kept:
    """The lines of the record that is being read, as far as they are worth keeping."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.size = 0
        self.problem = ""

    def add(self, line: str) -> None:
        self.size += len(line)
        if len(self.lines) >= MAX_RECORD_LINES:
            self.problem = f"more than {MAX_RECORD_LINES} lines"
        elif self.size > MAX_RECORD_SIZE:
            self.problem = f"more than {MAX_RECORD_SIZE} characters"
        else:
            self.lines.append(line)

    def taken(self) -> tuple[str, str]:
        """Text and problem, and on to the next record."""
        text, problem = "\n".join(self.lines[:1] if self.problem else self.lines), self.problem
        self.lines, self.size, self.problem = [], 0, ""
        return text, problem


def parse_record(block: Block, hydrogens: Hydrogens, max_heavy: int, *, flat: bool = False) -> Entry:
    """The molecule of one record, or why there is none.

    Args:
        flat: take a graph without a geometry (2D) too, with all its atoms at the origin.
    """
    if block.problem:
        return Skipped(block.where, block.problem)
    lines = block.text.split("\n")
    if not any(line.startswith("M  END") for line in lines):
        return Skipped(block.where, "no M  END line")
    with rdBase.BlockLogs():
        mol = parse_block(block.text)
        if mol is None:
            return Skipped(block.where, "non-finite positions" if has_no_number(lines) else "not a readable mol block")
        if reason := unusable(mol, max_heavy):
            return Skipped(block.where, reason)
        if two_dimensional(mol, lines[1]):
            if not flat or (mol.GetNumBonds() == 0 and mol.GetNumAtoms() > 1):
                return Skipped(block.where, "no 3D coordinates")
            mol.GetConformer().SetPositions(np.zeros((mol.GetNumAtoms(), 3)))
        try:
            Chem.SanitizeMol(mol)
            return as_molecule(mol, block.where, block.title or block.where, hydrogens)
        except (ValueError, RuntimeError):
            return Skipped(block.where, "valence or aromaticity")


def has_no_number(lines: Sequence[str]) -> bool:
    """Whether a coordinate is nan or inf, which RDKit does not read."""
    words = {word.lower().lstrip("+-") for line in lines[4:] for word in line.split()[:3]}
    return not words.isdisjoint({"nan", "inf", "infinity"})


def parse_block(block: str) -> Chem.Mol | None:
    """RDKit's unsanitised molecule of a mol block; None where it cannot parse it."""
    try:
        return Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
    except (ValueError, RuntimeError):
        return None


def unusable(mol: Chem.Mol, max_heavy: int) -> str:
    """Why a record is no molecule, whatever its bonds; "" when it may be one."""
    if mol.GetNumAtoms() == 0:
        return "no atoms"
    if mol.GetNumHeavyAtoms() > max_heavy:
        return f"more than {max_heavy} heavy atoms"
    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        return "dummy or query atom"
    return position_problem(mol.GetConformer().GetPositions())


def two_dimensional(mol: Chem.Mol, program_line: str) -> bool:
    """Whether the positions are a drawing or missing: the record says so, or all atoms are in one place."""
    positions = mol.GetConformer().GetPositions()
    return program_line[20:22].upper() == "2D" or (len(positions) > 1 and bool(np.ptp(positions, axis=0).max() == 0))


def as_molecule(mol: Chem.Mol, where: str, name: str, hydrogens: Hydrogens) -> Entry:
    """A sanitised RDKit molecule with one conformer in the wanted setting."""
    complete = all(atom.GetTotalNumHs() == 0 for atom in mol.GetAtoms())  # no hydrogen that is not an atom
    if hydrogens == "atoms" and not complete:
        return Skipped(where, "hydrogens without positions")
    counts: NDArray[np.int64] | None = None
    if hydrogens == "counts" or not complete:
        mol = Chem.RemoveAllHs(mol)
        if mol.GetNumAtoms() == 0:
            return Skipped(where, "no heavy atoms")
        counts = np.array([atom.GetTotalNumHs() for atom in mol.GetAtoms()], dtype=np.int64)
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    positions = mol.GetConformer().GetPositions().astype(np.float32)
    graph = None if mol.GetNumBonds() == 0 and len(numbers) > 1 else mol  # atoms without bonds are to be perceived
    return Molecule(numbers, positions, counts, name, graph)


def write_sdf(
    molecules: Iterable[Molecule],
    path: str | Path,
    reader: BondReader,
    properties: Sequence[Mapping[str, object]] | None = None,
) -> int:
    """Write one record per molecule, whole file or none, and return how many bonds could be read for.

    A molecule that the reader cannot read is written as atoms without bonds with the reason in the property
    `unreadable`. Properties are one mapping per molecule.
    """
    items = list(molecules)
    if properties is not None and len(properties) != len(items):
        raise ValueError(f"properties: got {len(properties)}, expected one mapping for each of {len(items)} molecules")
    staging = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    readable = 0
    try:
        with gzip.open(staging, "wb") if str(path).lower().endswith(".gz") else staging.open("wb") as file:
            for row, molecule in enumerate(items):
                mol, reason = bonded(molecule, reader)
                readable += not reason
                fields = {**(properties[row] if properties else {}), **({"unreadable": reason} if reason else {})}
                file.write(record_text(mol, molecule.name, fields).encode("utf-8", errors="replace"))
        staging.replace(Path(path))
    finally:
        staging.unlink(missing_ok=True)
    return readable


def record_text(mol: Chem.Mol, name: str, fields: Mapping[str, object]) -> str:
    """One record with its properties and end mark."""
    mol.SetProp("_Name", one_line(name)[:80])
    block = Chem.MolToMolBlock(mol, includeStereo=False, kekulize=False)
    return f"{block}{properties(fields)}$$$$\n"


def with_fields(text: str, fields: Mapping[str, object]) -> str:
    """A record with these properties instead of its own of the same names, and its end mark; "" leaves one out."""
    lines = text.split("\n")
    end = next((row for row, line in enumerate(lines, 1) if line.startswith("M  END")), len(lines))
    own: list[str] = []
    replaced = False
    for line in lines[end:]:
        if line.startswith(">"):
            replaced = line.partition("<")[2].partition(">")[0] in fields
        if not replaced:
            own.append(line)
    data = "\n".join(own).strip("\n")
    given = {key: value for key, value in fields.items() if value != ""}
    return "\n".join(lines[:end]) + "\n" + (f"{data}\n\n" if data else "") + properties(given) + "$$$$\n"


def properties(fields: Mapping[str, object]) -> str:
    """The data items of a record."""
    return "".join(f">  <{one_line(key).replace('>', ' ')}>\n{one_line(value)}\n\n" for key, value in fields.items())


def one_line(value: object) -> str:
    """Text that cannot end a field or a record early."""
    text = " ".join(str(value).split())
    return f" {text}" if text.startswith(("$$$$", ">")) else text


def bonded(molecule: Molecule, reader: BondReader) -> tuple[Chem.Mol, str]:
    """All atoms of a molecule in their order with the bonds that the reader found, and why there are none."""
    atoms = np.nan_to_num(molecule.positions, nan=0.0, posinf=0.0, neginf=0.0)
    clean = Molecule(np.where((molecule.numbers < 0) | (molecule.numbers > 118), 0, molecule.numbers), atoms)
    bare = assemble(clean, None)
    bare.GetConformer().Set3D(True)
    for atom in bare.GetAtoms():
        atom.SetNoImplicit(True)
    mol, reason = reader(molecule)
    heavy = np.flatnonzero(molecule.numbers > 1).tolist()
    if mol is None:
        counts = np.zeros(len(molecule), np.int64) if molecule.hydrogens is None else molecule.hydrogens
        for atom, count in zip(bare.GetAtoms(), counts.tolist(), strict=True):
            atom.SetNumExplicitHs(count)
        return bare, reason
    graph = Chem.Mol(mol)
    Chem.Kekulize(graph, clearAromaticFlags=True)
    places = dict(zip([atom.GetIdx() for atom in graph.GetAtoms() if atom.GetAtomicNum() > 1], heavy, strict=True))
    full = Chem.RWMol(bare)
    missing = dict.fromkeys(heavy, 0)
    for atom in graph.GetAtoms():
        if atom.GetIdx() in places:
            place = places[atom.GetIdx()]
            full.GetAtomWithIdx(place).SetFormalCharge(atom.GetFormalCharge())
            missing[place] = atom.GetTotalNumHs(includeNeighbors=True)
    for bond in graph.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if all(end in places for end in ends):
            full.AddBond(places[ends[0]], places[ends[1]], bond.GetBondType())
    attach_hydrogens(full, molecule, missing)
    for place, count in missing.items():
        full.GetAtomWithIdx(place).SetNumExplicitHs(count)
    return full.GetMol(), ""


def attach_hydrogens(mol: Chem.RWMol, molecule: Molecule, missing: dict[int, int]) -> None:
    """Bond hydrogen atoms to their nearest heavy atoms, closest first, while those miss hydrogens; counts down."""
    heavy = np.flatnonzero(molecule.numbers > 1)
    light = np.flatnonzero(molecule.numbers == 1)
    if len(heavy) == 0 or len(light) == 0:
        return
    distance = np.linalg.norm(molecule.positions[light][:, None] - molecule.positions[heavy][None], axis=-1)
    nearest = distance.argmin(1)
    for row in distance.min(1).argsort(kind="stable").tolist():
        place = int(heavy[nearest[row]])
        if missing[place] > 0 and distance[row].min() <= reach(molecule.numbers[place : place + 1])[0]:
            mol.AddBond(place, int(light[row]), Chem.BondType.SINGLE)
            missing[place] -= 1
