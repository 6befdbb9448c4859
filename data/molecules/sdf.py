"""SDF files, read record by record: a bad record costs only itself."""

import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rdkit import Chem, rdBase

from molrl.data.files import MAX_BYTES, BrokenStreamError, ReadReport, Skipped, open_file, text_lines
from molrl.data.molecules.bonds import BondReader, attach_bonds
from molrl.data.molecules.entries import (
    MAX_HEAVY,
    MAX_RECORDS,
    NO_LIMIT,
    Entry,
    collect,
    make_entry,
    position_problem,
)
from molrl.data.molecules.graphs import clear_maps, fold_all_hydrogens, fold_hydrogens, from_graph, graph_problem
from molrl.data.molecules.molecule import Hydrogens, Molecule
from molrl.data.molecules.standardise import AS_IT_IS, Treatment
from molrl.machine.files import staged
from molrl.machine.printable import printable

EMBEDDED = "molrl_embedded"  # property of a record whose coordinates were computed from the graph
TYPED = "atom_types"  # property of a record without bonds whose charges are known
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
    treatment: Treatment = AS_IT_IS,
    *,
    flat: bool = False,
) -> Iterator[Entry]:
    """Yield a molecule with its graph, or the reason why there is none, per record of an .sdf, .sdf.gz or .mol file.

    Args:
        hydrogens: "atoms" requires every hydrogen to be in the file, "counts" turns them into counts, "file" keeps
            atoms if all hydrogens of a record are there, and otherwise turns them into counts.
        treatment: of every molecule.
        flat: see `parse_record`.

    Raises ValueError, before the first record, for a file that is missing, empty or binary.
    """
    open_file(path).close()
    return (
        parse_record(block, hydrogens, max_heavy, treatment, flat=flat)
        for block in blocks(path, max_records, max_bytes)
    )


class Block(NamedTuple):
    """The text of one record of a file, before it is parsed.

    Attributes:
        record: its number, from 1.
        line: the number of its first line, from 1.
        text: its lines without the end mark.
        problem: why the text is incomplete, or "".
    """

    record: int
    line: int
    text: str
    problem: str = ""

    @property
    def where(self) -> str:
        """Return the place of the record, for messages."""
        return f"record {self.record}, line {self.line}"

    @property
    def title(self) -> str:
        """Return the first line, which names the molecule."""
        return self.text.partition("\n")[0].strip()


def blocks(path: str | Path, max_records: int = NO_LIMIT, max_bytes: int = NO_LIMIT) -> Iterator[Block]:
    """Yield the records of a file that can be opened, one at a time; the last one may say why the rest is missing."""
    record, start, number = 1, 1, 0
    buffer = RecordBuffer()
    try:
        for number, line in enumerate(text_lines(path, max_bytes), 1):
            if not line.startswith("$$$$"):
                buffer.add(line)
                continue
            if record > max_records:
                yield Block(record, start, "", f"the rest is not read: more than {max_records} records")
                return
            yield Block(record, start, *buffer.pop())
            record, start = record + 1, number + 1
    except BrokenStreamError as error:
        yield Block(record, number + 1, "", str(error))
        return
    text, problem = buffer.pop()
    if problem or text.strip():
        yield Block(record, start, text, problem)


class RecordBuffer:
    """The lines of the record that is being read, within the limits of a record."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.size = 0
        self.problem = ""

    def add(self, line: str) -> None:
        """Keep a line, unless the record exceeds a limit."""
        self.size += len(line)
        if len(self.lines) >= MAX_RECORD_LINES:
            self.problem = f"more than {MAX_RECORD_LINES} lines"
        elif self.size > MAX_RECORD_SIZE:
            self.problem = f"more than {MAX_RECORD_SIZE} characters"
        else:
            self.lines.append(line)

    def pop(self) -> tuple[str, str]:
        """Return the text and the problem of the record, and start the next one."""
        text, problem = "\n".join(self.lines[:1] if self.problem else self.lines), self.problem
        self.lines, self.size, self.problem = [], 0, ""
        return text, problem


def parse_record(
    block: Block, hydrogens: Hydrogens, max_heavy: int, treatment: Treatment = AS_IT_IS, *, flat: bool = False
) -> Entry:
    """Return the molecule of one record, or the reason why there is none.

    Args:
        treatment: of the molecule; a record without bonds is refused where there is any.
        flat: also accept a graph without a geometry (2D), and place all its atoms at the origin.
    """
    if block.problem:
        return Skipped(block.where, block.problem)
    lines = block.text.split("\n")
    if not any(line.startswith("M  END") for line in lines):
        return Skipped(block.where, "no M  END line")
    with rdBase.BlockLogs():
        mol = parse_block(block.text)
        if mol is None:
            return Skipped(block.where, "non-finite positions" if has_non_finite(lines) else "not a readable mol block")
        if reason := record_problem(mol, max_heavy):
            return Skipped(block.where, reason)
        if is_flat(mol):
            if not flat:
                return Skipped(block.where, "no 3D coordinates")
            mol.GetConformer().SetPositions(np.zeros((mol.GetNumAtoms(), 3)))
        try:
            Chem.SanitizeMol(mol)
            clear_maps(mol)
            treated = treated_graph(mol, treatment)
            if isinstance(treated, str):
                return Skipped(block.where, treated)
            typed = f"<{TYPED}>" in block.text
            return as_molecule(treated, block.where, block.title or block.where, hydrogens, typed=typed)
        except (ValueError, RuntimeError):
            return Skipped(block.where, "valence or aromaticity")


def treated_graph(mol: Chem.Mol, treatment: Treatment) -> Chem.Mol | str:
    """Return a sanitised molecule as the treatment leaves it, or the reason why it is refused."""
    return "no bonds" if treatment and lacks_bonds(mol) else treatment(mol)


def lacks_bonds(mol: Chem.Mol) -> bool:
    """Tell whether a record is a geometry without bonds, to be perceived later; a drawing without bonds is of ions."""
    return mol.GetNumBonds() == 0 and mol.GetNumAtoms() > 1 and bool(mol.GetConformer().GetPositions().any())


def has_non_finite(lines: Sequence[str]) -> bool:
    """Tell whether a coordinate is nan or inf, which RDKit does not read."""
    words = {word.lower().lstrip("+-") for line in lines[4:] for word in line.split()[:3]}
    return not words.isdisjoint({"nan", "inf", "infinity"})


def parse_block(block: str) -> Chem.Mol | None:
    """Parse a mol block to an unsanitised RDKit molecule; return None if that is impossible."""
    try:
        return Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
    except (ValueError, RuntimeError):
        return None


def record_problem(mol: Chem.Mol, max_heavy: int) -> str:
    """Return why a record is no molecule, whatever its bonds, or "" if it may be one."""
    if mol.GetNumAtoms() == 0:
        return "no atoms"
    if mol.GetNumHeavyAtoms() > max_heavy:
        return f"more than {max_heavy} heavy atoms"
    return graph_problem(mol) or position_problem(mol.GetConformer().GetPositions())


def is_flat(mol: Chem.Mol) -> bool:
    """Tell whether the positions are a 2D drawing or missing: all z are 0 and the header does not say 3D, or no atom
    is apart from another.
    """
    positions = mol.GetConformer().GetPositions()
    return not mol.GetConformer().Is3D() or (len(positions) > 1 and bool(np.ptp(positions, axis=0).max() == 0))


def as_molecule(mol: Chem.Mol, where: str, name: str, hydrogens: Hydrogens, *, typed: bool) -> Entry:
    """Convert a sanitised RDKit molecule with one conformer to the requested hydrogen setting.

    Args:
        typed: the charges of atoms without bonds are known, so that their bonds are perceived from types.
    """
    complete = all(atom.GetTotalNumHs() == 0 for atom in mol.GetAtoms())  # no hydrogen that is not an atom
    if hydrogens == "atoms" and not complete:
        return Skipped(where, "hydrogens without positions")
    if lacks_bonds(mol):
        molecule = from_graph(mol, name, counted=not complete)
        bare = replace(molecule, graph=None, charges=molecule.charges if typed else None, bonds=None)
        return make_entry(bare, hydrogens, NO_LIMIT, where)
    if hydrogens != "counts":
        return from_graph(mol if complete else fold_hydrogens(mol), name, counted=not complete)
    try:
        return from_graph(fold_all_hydrogens(mol), name, counted=True)
    except ValueError as error:
        return Skipped(where, str(error))


def write_sdf(
    molecules: Iterable[Molecule],
    path: str | Path,
    reader: BondReader,
    properties: Sequence[Mapping[str, object]] | None = None,
) -> int:
    """Write one record per molecule, the complete file or none, and return for how many the bonds could be read.

    A molecule that the reader cannot read is written as atoms without bonds, with the reason in the property
    `unreadable`; where its charges are known, the property `atom_types` says so.

    Args:
        properties: one mapping per molecule.

    Raises ValueError for another number of properties than of molecules.
    """
    items = list(molecules)
    if properties is not None and len(properties) != len(items):
        raise ValueError(f"properties: got {len(properties)}, expected one mapping for each of {len(items)} molecules")
    packed, readable = str(path).lower().endswith(".gz"), 0
    with staged(path) as whole, gzip.GzipFile("", "wb", fileobj=whole) if packed else nullcontext(whole) as file:
        for row, molecule in enumerate(items):
            mol, reason = attach_bonds(molecule, reader)
            readable += not reason
            marks = {"unreadable": reason} if reason else {}
            marks |= {TYPED: "known"} if reason and molecule.charges is not None else {}
            fields = {**(properties[row] if properties else {}), **marks}
            file.write(record_text(mol, molecule.name, fields).encode("utf-8", errors="replace"))
    return readable


def record_text(mol: Chem.Mol, name: str, fields: Mapping[str, object]) -> str:
    """Return one record with its properties and end mark."""
    mol.SetProp("_Name", one_line(name)[:80])
    block = Chem.MolToMolBlock(mol, includeStereo=False, kekulize=False)
    return f"{block}{property_text(fields)}$$$$\n"


def replace_properties(text: str, fields: Mapping[str, object]) -> str:
    """Return a record with these properties in place of those of the same names, and its end mark; "" removes one."""
    lines = text.split("\n")
    end = next((row for row, line in enumerate(lines, 1) if line.startswith("M  END")), len(lines))
    kept: list[str] = []
    replaced = False
    for line in lines[end:]:
        if line.startswith(">"):
            replaced = line.partition("<")[2].partition(">")[0] in fields
        if not replaced:
            kept.append(line)
    data = "\n".join(kept).strip("\n")
    given = {key: value for key, value in fields.items() if value != ""}
    return "\n".join(lines[:end]) + "\n" + (f"{data}\n\n" if data else "") + property_text(given) + "$$$$\n"


def property_text(fields: Mapping[str, object]) -> str:
    """Return properties as the data items of a record."""
    return "".join(f">  <{one_line(key).replace('>', ' ')}>\n{one_line(value)}\n\n" for key, value in fields.items())


def one_line(value: object) -> str:
    """Return a value as text that cannot end a field or a record early."""
    text = printable(" ".join(str(value).split()))
    return f" {text}" if text.startswith(("$$$$", ">")) else text
