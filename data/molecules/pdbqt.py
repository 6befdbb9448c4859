"""PDBQT files: atoms with AutoDock types and charges, of a rigid receptor or of a ligand with its rotatable bonds."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molrl.data.files import BrokenStreamError, text_lines
from molrl.data.molecules.entries import MAX_COORDINATE

MAX_BYTES = 64 << 20
MAX_RECEPTOR_ATOMS = 200_000
MAX_LIGAND_ATOMS = 2_000
METALS = ("Mg", "Mn", "Zn", "Ca", "Fe", "Cu", "Na", "K", "Hg", "Co", "U", "Cd", "Ni")
ELEMENTS = {
    **{"H": "H", "HD": "H", "C": "C", "A": "C", "N": "N", "NA": "N", "O": "O", "OA": "O", "S": "S", "SA": "S"},
    "Se": "S",  # as Vina 1.2.7 reads it
    **{symbol: symbol for symbol in ("P", "F", "Cl", "Br", "I", "Si", "At", *METALS)},
}
"""Element of each AutoDock type that is read. NA is a nitrogen that accepts hydrogen bonds, Na is sodium."""

# Records between the atoms of a receptor that are ignored
REMARKS = frozenset(
    (
        *"REMARK WARNING USER HEADER TITLE COMPND SOURCE KEYWDS EXPDTA AUTHOR REVDAT JRNL DBREF SEQRES SEQADV".split(),
        *"MODRES HET HETNAM HETSYN FORMUL HELIX SHEET SSBOND LINK CISPEP SITE CRYST1 ORIGX1 ORIGX2 ORIGX3".split(),
        *"SCALE1 SCALE2 SCALE3 ANISOU CONECT MASTER TER END".split(),  # codespell:ignore
    )
)
LIGAND_REMARKS = frozenset("ENDROOT REMARK WARNING USER TER END".split())
RING_CARBON = re.compile("CG[0-9]+")  # at an end of the bond where Meeko opens a large ring
PSEUDO_ATOM = re.compile("G[0-9]+|W")  # no atoms: the far end of that bond, and waters of hydrated docking
UNNAMED = ("UNK", "UNL", "UNX")  # of the wwPDB for what is not known; codespell:ignore
ATOM_RECORDS = ("ATOM", "HETATM")
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")


@dataclass(frozen=True, eq=False, slots=True)
class Structure:
    """The atoms of a PDBQT file, in the order of the file.

    Attributes:
        types: AutoDock type of each atom, a key of `ELEMENTS`.
        positions: angstrom, float64 [n, 3].
        charges: elementary charges, float64 [n].
        rotatable: atoms at the ends of each rotatable bond, int64 [bonds, 2]; empty for a receptor.
        residues: the residue of each atom, such as A:MET318, or "" where the file names none; () for a ligand.
    """

    types: tuple[str, ...]
    positions: NDArray[np.float64]
    charges: NDArray[np.float64]
    rotatable: NDArray[np.int64]
    residues: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.types)


@dataclass
class Atoms:
    """The atoms read so far, with the serial numbers by which branches refer to them."""

    limit: int
    types: list[str] = field(default_factory=list)
    positions: list[tuple[float, float, float]] = field(default_factory=list)
    charges: list[float] = field(default_factory=list)
    serials: list[str] = field(default_factory=list)
    residues: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Add the atom of a line: serial 7-11, x, y, z 31-54, charge 71-76, type from 78 (columns from 1).

        Of its residue, the name is in 18-21, the chain in 22, the number in 23-27.
        """
        if len(self.types) == self.limit:
            raise ValueError(f"more than {self.limit} atoms")
        x, y, z = (parse_coordinate(line[start : start + 8], axis) for start, axis in ((30, "x"), (38, "y"), (46, "z")))
        kind = RING_CARBON.sub("C", line[77:].strip())
        if kind not in ELEMENTS:
            raise ValueError(f"AutoDock type in column 78: got {kind!r}, known are {', '.join(ELEMENTS)}")
        self.types.append(kind)
        self.positions.append((x, y, z))
        self.charges.append(parse_number(line[69:76], "charge") if line[69:76].strip() else 0.0)
        self.serials.append(line[6:11].strip())
        self.residues.append(residue_label(line[21:22].strip(), line[17:21].strip(), line[22:27].strip()))

    def structure(self, rotatable: list[tuple[int, int]]) -> Structure:
        """Return the atoms as arrays, with these rotatable bonds."""
        if not self.types:
            raise ValueError("no atoms")
        return Structure(
            types=tuple(self.types),
            positions=np.array(self.positions, dtype=np.float64),
            charges=np.array(self.charges, dtype=np.float64),
            rotatable=np.array(rotatable, dtype=np.int64).reshape(-1, 2),
            residues=tuple(self.residues),
        )


@dataclass
class Branches:
    """The torsion tree of a ligand read so far: its root, and the bonds that branches turn about."""

    has_root: bool = False
    open: list[tuple[str, str]] = field(default_factory=list)
    closed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, record: str, line: str) -> None:
        """Add a line that is not an atom."""
        if record == "BRANCH":
            self.open.append(parse_branch(line))
        elif record == "ENDBRANCH":
            if not self.open or self.open[-1] != parse_branch(line):
                raise ValueError("ENDBRANCH does not end the branch opened last")
            self.closed.append(self.open.pop())
        elif record == "ROOT" and not self.has_root:
            self.has_root = True
        elif record not in LIGAND_REMARKS:
            raise ValueError(f"got the record {record!r}, expected one ligand: one ROOT and its branches")

    def bonds(self, serials: list[str]) -> list[tuple[int, int]]:
        """Return the indices of the atoms at the ends of the rotatable bonds."""
        if self.open:
            raise ValueError(f"BRANCH {' '.join(self.open[-1])} is not ended")
        if not self.has_root:
            raise ValueError("no ROOT record")
        return [branch_indices(branch, serials) for branch in self.closed]


def residue_label(chain: str, name: str, number: str) -> str:
    """Return the label of a residue, CHAIN:NAME and number, such as A:MET318; "" for one without a name.

    A file may leave out chains, and stand-ins such as UNK are no names.
    """
    if not name or name in UNNAMED or not name.isalnum():
        return ""
    return f"{chain}:{name}{number}" if chain else f"{name}{number}"


def read_receptor(path: str | Path) -> Structure:
    """Read a rigid receptor from a PDBQT file.

    Raises:
        ValueError: the file is missing, binary, too large or no rigid receptor; the message names the line.
    """
    atoms = Atoms(MAX_RECEPTOR_ATOMS)
    for row, record, line in records(path):
        with prefix_errors(f"{path}, line {row}"):
            if record in ATOM_RECORDS:
                atoms.add(line)
            elif record not in REMARKS:
                raise ValueError(f"got the record {record!r}, which no rigid receptor has")
    with prefix_errors(str(path)):
        return atoms.structure([])


def read_ligand(path: str | Path) -> Structure:
    """Read the first ligand of a PDBQT file, prepared or docked: a ROOT and the branches that turn about their bonds.

    Pseudo-atoms (of Meeko's large rings and of hydrated docking) and flexible residues of a receptor are left out.

    Raises:
        ValueError: the file is missing, binary, too large or has no ligand; the message names the line.
    """
    atoms, branches = Atoms(MAX_LIGAND_ATOMS), Branches()
    for row, record, line in ligand_records(path):
        with prefix_errors(f"{path}, line {row}"):
            if record in ATOM_RECORDS:
                if not PSEUDO_ATOM.fullmatch(line[77:].strip()):
                    atoms.add(line)
            else:
                branches.add(record, line)
    with prefix_errors(str(path)):
        return atoms.structure(branches.bonds(atoms.serials))


def ligand_records(path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Yield the records of the first ligand, which ends at TORSDOF, ENDMDL or the next MODEL."""
    has_atoms = in_receptor = False
    for row, record, line in records(path):
        if record in ("TORSDOF", "ENDMDL", "MODEL"):
            if has_atoms:
                return
        elif record in ("BEGIN_RES", "END_RES"):
            in_receptor = record == "BEGIN_RES"
        elif not in_receptor:
            has_atoms = has_atoms or record in ATOM_RECORDS
            yield row, record, line


def receptor_text(structure: Structure) -> str:
    """Return a rigid receptor as the text of a PDBQT file."""
    return "".join(
        f"ATOM  {row % 100_000:5} {ELEMENTS[kind]:>2}   UNK A   1    {x:8.3f}{y:8.3f}{z:8.3f}{1:6.2f}{0:6.2f}"
        f"    {charge:6.3f} {kind:<2}\n"
        for row, (kind, (x, y, z), charge) in enumerate(
            zip(structure.types, structure.positions.tolist(), structure.charges.tolist(), strict=True), 1
        )
    )


def records(path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Yield the number, the record name and the text of each line that is not blank."""
    try:
        for row, line in enumerate(text_lines(path, MAX_BYTES), 1):
            if line.strip():
                yield row, next(filter(line.startswith, ATOM_RECORDS), line.split()[0]), line
    except BrokenStreamError as error:
        raise ValueError(f"{path}: {error}") from None


@contextmanager
def prefix_errors(where: str) -> Iterator[None]:
    """Put the place of a ValueError before its message."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def parse_number(text: str, what: str) -> float:
    """Parse a decimal number; Python's `float` would also accept nan, 1e9 and 1_0."""
    if not DECIMAL.fullmatch(text.strip()):
        raise ValueError(f"{what}: got {text!r}, expected a decimal number")
    return float(text)


def parse_coordinate(text: str, axis: str) -> float:
    """Parse a coordinate in angstrom, and check its range."""
    value = parse_number(text, axis)
    if abs(value) > MAX_COORDINATE:
        raise ValueError(f"{axis}: got {value:g} angstrom, at most {MAX_COORDINATE:g}")
    return value


def parse_branch(line: str) -> tuple[str, str]:
    """Return the serial numbers of the atoms that a branch turns about."""
    words = line.split()
    if len(words) != 3:
        raise ValueError(f"got {line.strip()!r}, expected {words[0]} and two atom numbers")
    return words[1], words[2]


def branch_indices(branch: tuple[str, str], serials: list[str]) -> tuple[int, int]:
    """Return the indices of the atoms that a branch turns about."""
    for serial in branch:
        if serials.count(serial) != 1:
            raise ValueError(f"BRANCH {' '.join(branch)}: {serials.count(serial)} atoms have the number {serial}")
    return serials.index(branch[0]), serials.index(branch[1])
