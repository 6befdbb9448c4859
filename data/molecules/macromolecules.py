"""Macromolecules of PDB (format 3.3) and mmCIF files, parsed by gemmi (Wojdyr 2022, doi:10.21105/joss.04200).

gemmi has no limits: sizes are checked before it sees a file, and it sees the first frame and the sequences alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import gemmi

from molrl.data.files import BrokenStreamError, suffix, text_lines
from molrl.data.molecules.entries import MAX_COORDINATE
from molrl.data.molecules.pdbqt import (
    ATOM_RECORDS,
    MAX_BYTES,
    MAX_RECEPTOR_ATOMS,
    METALS,
    parse_coordinate,
    prefix_errors,
    records,
)
from molrl.data.molecules.residues import DONORS, FOUR_LETTERS

PDB, MMCIF = (".pdb", ".ent"), (".cif", ".mmcif")  # suffixes
MAX_RESIDUES = 50_000  # or lines about sequences; gemmi's time grows with their square
MAX_VALUES = 8_000_000  # of an mmCIF file, some 300 MB; 200,000 atoms of the wwPDB have 4,200,000
MAX_LINE = 65_536  # characters of a line of an mmCIF file; the format allows 2,048
MAX_LONG_NAMES = 100  # residue names of four letters in a PDB file
MAX_BLOCKS = 1_000  # of an mmCIF file; gemmi's time grows with their square
SEQUENCES = ("SEQRES", "MODRES")
FRAME_ENDS = ("MODEL", "ENDMDL", "END")
TWO_LETTERS = frozenset(symbol.upper() for symbol in (*METALS, "Cl", "Br", "Se", "Si") if len(symbol) == 2)
COORDINATES = ("Cartn_x", "Cartn_y", "Cartn_z")
ATOM_SITE = {
    "type_symbol": ("type_symbol",),
    "label_atom_id": ("label_atom_id", "auth_atom_id"),
    "label_comp_id": ("label_comp_id", "auth_comp_id"),
    "label_asym_id": ("auth_asym_id", "label_asym_id"),
    "auth_seq_id": ("auth_seq_id", "label_seq_id"),
    **{name: (name,) for name in COORDINATES},
    **{name: (name,) for name in ("group_PDB", "label_alt_id", "label_entity_id", "pdbx_PDB_ins_code", "occupancy")},
}
"""Columns of atoms in mmCIF files that gemmi is given, and those they are taken from: the first that is there.

Names of residues are then those of the Chemical Component Dictionary, chains and numbers those of the authors.
"""
OPTIONAL = ("group_PDB", "label_alt_id", "label_entity_id", "pdbx_PDB_ins_code", "occupancy", "auth_seq_id")
MODIFIED = ("auth_asym_id", "auth_seq_id", "auth_comp_id")


Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Macromolecule:
    """The first frame of a file, and what the file says about its chains.

    Attributes:
        model: the atoms, with all alternate locations.
        polymers: the entities of an mmCIF file that are polymers.
        sequences: chain and residue name of the sequences of a PDB file (SEQRES).
        modified: chain, number and name of the residues that are called modified ones (MODRES).
        synonyms: residue names of the dictionary, and those that the authors use.
    """

    model: gemmi.Model
    polymers: frozenset[str] = frozenset()
    sequences: frozenset[tuple[str, str]] = frozenset()
    modified: frozenset[tuple[str, str, str]] = frozenset()
    synonyms: tuple[tuple[str, str], ...] = ()


def read_macromolecule(path: str | Path) -> Macromolecule:
    """Read the first frame of a PDB or mmCIF file.

    Raises:
        ValueError: the file is missing, binary, damaged or too large, or has no atoms; the message names the place.
    """
    return read_mmcif(path) if suffix(path) in MMCIF else read_pdb_frame(path)


def read_pdb_frame(path: str | Path) -> Macromolecule:
    """Read the first frame of a PDB file, which ends at ENDMDL, END or the next MODEL."""
    lines = list(frame_lines(path))
    with prefix_errors(str(path)):
        short = short_names(lines)
        text = "\n".join(map(partial(with_short_name, short=short), lines)).encode("ascii", "replace")
        structure = parsed(lambda: gemmi.read_pdb_string(text))
        full = {stand_in: name.strip() for name, stand_in in short.items()}
        for residue in (residue for model in structure for chain in model for residue in chain):
            residue.name = full.get(residue.name, residue.name)
        return Macromolecule(
            model=first_model(structure),
            sequences=frozenset((entity.name, name) for entity in structure.entities for name in entity.full_sequence),
            modified=frozenset(
                (one.chain_name, str(one.res_id.seqid), one.res_id.name) for one in structure.mod_residues
            ),
        )


def frame_lines(path: str | Path) -> Iterator[str]:
    """Yield the lines of the sequences and of the atoms of the first frame, each atom with its element.

    Coordinates are parsed here too, as gemmi takes what is no number for 0.
    """
    atoms = sequences = residues = 0
    place = ""
    for row, record, line in records(path):
        if record in FRAME_ENDS and atoms:
            return
        if record in SEQUENCES:
            sequences += 1
            yield line
        elif record in ATOM_RECORDS:
            with prefix_errors(f"{path}, line {row}"):
                for start, axis in ((30, "x"), (38, "y"), (46, "z")):
                    parse_coordinate(line[start : start + 8], axis)
                atoms, residues, place = atoms + 1, residues + (line[17:27] != place), line[17:27]
                check_counts(atoms, max(residues, sequences))
            yield f"{line[:76]:76}{element_of(line):>2}"


def short_names(lines: Sequence[str]) -> dict[str, str]:
    """Return a stand-in of three letters for each residue name of four, which gemmi would read as three and a chain.

    There are none in files whose chains have two letters: where the fourth makes the name of a common residue that of
    none.
    """
    names = {line[17:21] for line in lines if line.startswith(ATOM_RECORDS) and line[20] != " "}
    if any(name[:3].strip() in DONORS and name not in FOUR_LETTERS for name in names):
        return {}
    if len(names) > MAX_LONG_NAMES:
        raise ValueError(f"more than {MAX_LONG_NAMES} residue names of four letters")
    return {name: f"~{row:02}" for row, name in enumerate(sorted(names))}


def with_short_name(line: str, short: dict[str, str]) -> str:
    """Return the line of an atom with the stand-in for its residue name of four letters, if it has one."""
    name = short.get(line[17:21]) if line.startswith(ATOM_RECORDS) else None
    return line if name is None else f"{line[:17]}{name} {line[21:]}"


def element_of(line: str) -> str:
    """Return the element of an atom, from its columns (77-78) or its name: calcium is `CA  `, alpha carbon ` CA `."""
    given = line[76:78].strip()
    if given.isalpha():
        return given
    front = line[12:14].strip().upper()
    return front if line.startswith("HETATM") and front in TWO_LETTERS else line[12:16].strip(" 0123456789")[:1]


def read_mmcif(path: str | Path) -> Macromolecule:
    """Read the first model of the first block of an mmCIF file that has atoms."""
    text = cif_text(path)
    with prefix_errors(str(path)):
        document = parsed(lambda: gemmi.cif.read_string(text))
        block = next((block for block in document if any(column(block, name) for name in ATOM_SITE)), None)
        if block is None:
            raise ValueError("no atoms (_atom_site)")
        sites = atom_sites(block)
        names = zip(column(block, "label_comp_id"), column(block, "auth_comp_id"), strict=False)
        return Macromolecule(
            model=first_model(parsed(lambda: gemmi.make_structure_from_block(site_block(sites)))),
            polymers=frozenset(polymers(block)) & frozenset(sites.get("label_entity_id", ())),
            modified=frozenset(
                (row.str(0), row.str(1), row.str(2)) for row in block.find("_pdbx_struct_mod_residue.", MODIFIED)
            ),
            synonyms=tuple(sorted({pair for pair in names if pair[0] != pair[1]})),
        )


def polymers(block: gemmi.cif.Block) -> Iterator[str]:
    """Yield the entities that a block calls polymers or gives a sequence of."""
    for row in block.find("_entity.", ["id", "type"]):
        if row.str(1).lower() == "polymer":
            yield row[0]
    for row in block.find("_entity_poly_seq.", ["entity_id"]):
        yield row[0]


def cif_text(path: str | Path) -> str:
    """Return the text of an mmCIF file of bounded size."""
    lines: list[str] = []
    values = blocks = 0
    try:
        for row, line in enumerate(text_lines(path, MAX_BYTES), 1):
            values, blocks = values + len(line.split()), blocks + line.lower().count("data_")
            for count, limit, what in (
                (len(line), MAX_LINE, "characters"),
                (values, MAX_VALUES, "values"),
                (blocks, MAX_BLOCKS, "blocks"),
            ):
                if count > limit:
                    raise ValueError(f"{path}, line {row}: more than {limit} {what}")
            lines.append(line)
    except BrokenStreamError as error:
        raise ValueError(f"{path}: {error}") from None
    return "\n".join(lines)


def atom_sites(block: gemmi.cif.Block) -> dict[str, list[str]]:
    """Return the columns of `ATOM_SITE` for the first model.

    Raises:
        ValueError: a column is missing, atoms or residues are too many, or a coordinate is no number in range.
    """
    sites = {}
    for name, sources in ATOM_SITE.items():
        found = next(filter(None, (column(block, source) for source in sources)), [])
        if found:
            sites[name] = found
        elif name not in OPTIONAL:
            raise ValueError(f"no column _atom_site.{name}")
    models = column(block, "pdbx_PDB_model_num") or ["1"] * len(sites["type_symbol"])
    if {len(values) for values in sites.values()} != {len(models)}:
        raise ValueError("columns of _atom_site differ in length")
    rows = [row for row, model in enumerate(models) if model == models[0]]
    sites = {name: [values[row] for row in rows] for name, values in sites.items()}
    places = list(zip(sites["label_asym_id"], sites.get("auth_seq_id", rows), sites["label_comp_id"], strict=True))
    check_counts(len(rows), 1 + sum(one != other for one, other in pairwise(places)))
    for axis in COORDINATES:
        for row, text in zip(rows, sites[axis], strict=True):
            if not abs(gemmi.cif.as_number(text)) <= MAX_COORDINATE:
                raise ValueError(
                    f"atom {row + 1}: {axis}: got {text!r}, need a number up to {MAX_COORDINATE:g} angstrom"
                )
    return sites


def column(block: gemmi.cif.Block, name: str) -> list[str]:
    """Return a column of the atoms; empty if there is none."""
    return list(block.find_values(f"_atom_site.{name}"))


def site_block(sites: dict[str, list[str]]) -> gemmi.cif.Block:
    """Return a block with nothing but atoms: gemmi also reads other categories, and slowly where they are large."""
    n = len(sites["type_symbol"])
    table = {
        "label_alt_id": ["."] * n,
        **sites,
        "id": [str(row + 1) for row in range(n)],
        "pdbx_PDB_model_num": ["1"] * n,
    }
    block = gemmi.cif.Block("atoms")
    block.init_loop("_atom_site.", list(table)).set_all_values(list(table.values()))
    return block


def check_counts(atoms: int, residues: int) -> None:
    """Raise ValueError for more atoms or residues than gemmi should see."""
    for count, limit, what in ((atoms, MAX_RECEPTOR_ATOMS, "atoms"), (residues, MAX_RESIDUES, "residues")):
        if count > limit:
            raise ValueError(f"more than {limit} {what}")


def first_model(structure: gemmi.Structure) -> gemmi.Model:
    """Return the first model of a structure.

    Raises:
        ValueError: it has no atoms.
    """
    if not len(structure) or not structure[0].count_atom_sites():
        raise ValueError("no atoms")
    return structure[0].clone()


def parsed(parse: Callable[[], Parsed]) -> Parsed:
    """Return what gemmi parses; its errors become a ValueError with their first line."""
    try:
        return parse()
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(str(error).partition("\n")[0]) from None
