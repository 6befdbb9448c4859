"""PDB files (format 3.3) as rigid receptors: chains and metal ions with AutoDock types, with or without hydrogens.

A ligand is docked into a receptor, so what fills its pocket in the crystal is left out: waters, other small molecules
and ions. AutoDock types come from the tables of `residues`, and for other groups from their geometry.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from molrl.data.molecules.pdbqt import (
    ATOM_RECORDS,
    DECIMAL,
    MAX_RECEPTOR_ATOMS,
    METALS,
    Structure,
    parse_coordinate,
    prefix_errors,
    records,
)
from molrl.data.molecules.residues import BACKBONE_ATOMS, DONORS, MODIFIED_RESIDUES, WATERS, accepts, donates

MAX_BOND = 2.0  # angstrom; heavy atoms closer than that are attach_bonds
MAX_METAL_BOND = 2.6  # the same where one is a metal
MAX_BOND_TO_HYDROGEN = 1.25  # angstrom; a hydrogen closer than that is attach_bonds
MIN_SINGLE_BOND = {"O": 1.30, "N": 1.22}  # angstrom, with carbon; shorter are carbonyls, carboxylates and nitriles
HYDROGEN_DISTANCE = 1.0  # angstrom, of an added hydrogen
MAX_NAMES = 12  # in a warning
TYPES = {
    **{"C": "C", "O": "OA", "S": "SA", "SE": "SA", "P": "P", "F": "F", "CL": "Cl", "BR": "Br", "I": "I", "SI": "Si"},
    **{metal.upper(): metal for metal in METALS},
}
"""AutoDock type by element, except N and H; selenium, in selenomethionine, counts as sulfur."""


class Atom(NamedTuple):
    """An atom as given in the file, its element in capitals; angstrom."""

    name: str
    element: str
    position: tuple[float, float, float]


@dataclass(frozen=True)
class Group:
    """A residue of a chain, a molecule or an ion.

    Attributes:
        name: of the residue, such as ALA, STI or HOH.
        place: chain and number.
        hetero: whether its records are HETATM.
        atoms: one location of each.
    """

    name: str
    place: tuple[str, str]
    hetero: bool
    atoms: tuple[Atom, ...]

    @property
    def in_chain(self) -> bool:
        """Return whether it is part of a protein or nucleic acid; an amino acid on its own is a ligand."""
        if self.name in MODIFIED_RESIDUES or (self.name in DONORS and not self.hetero):
            return True
        return self.name not in DONORS and {atom.name for atom in self.atoms} >= BACKBONE_ATOMS

    @property
    def is_metal(self) -> bool:
        """Return whether the group is a metal ion."""
        return len(self.atoms) == 1 and is_metal(self.atoms[0])


class Line(NamedTuple):
    """The content of an ATOM or HETATM line."""

    atom: Atom
    residue: str
    place: tuple[str, str]
    hetero: bool
    alternate: str
    occupancy: float


def read_pdb(path: str | Path, keep: Collection[str] = ()) -> Structure:
    """Read the receptor of a PDB file: its chains, its metal ions, and the groups to be kept.

    A warning names what is left out, except waters. The most occupied of alternate locations is used, and the first of
    several models. Nitrogens and oxygens that bear hydrogen but have none in the file get one each: Vina ignores its
    place, but its presence makes a donor. Histidine is then protonated on NE2.

    Args:
        keep: names of residues to keep, such as HEM or HOH.

    Raises:
        ValueError: the file is missing, binary, too large or has no chain; an element is not in `TYPES`; no group has
            a name that is to be kept.
    """
    groups = read_groups(path)
    if unknown := set(keep) - {group.name for group in groups}:
        raise ValueError(f"{path}: nothing to keep has the name {', '.join(sorted(unknown))}")
    kept = [group for group in groups if group.in_chain or group.is_metal or group.name in keep]
    left_out = Counter(group.name for group in groups if group not in kept and group.name not in WATERS)
    if not any(group.in_chain for group in kept):
        raise ValueError(f"{path}: no residue of a protein or nucleic acid")
    if left_out:
        names = ", ".join(f"{count} {name}" for name, count in left_out.most_common(MAX_NAMES))
        more = f" and {len(left_out) - MAX_NAMES} more" if len(left_out) > MAX_NAMES else ""
        warnings.warn(f"{path}: left out of the receptor: {names}{more}; keep=[NAME] keeps some", stacklevel=2)
    types: list[str] = []
    positions: list[tuple[float, float, float]] = []
    previous: Sequence[Atom] = ()
    metals = [atom for group in kept if group.is_metal for atom in group.atoms]
    with prefix_errors(str(path)):
        for group in kept:
            for kind, position in assign_types(group, (*previous, *metals)):
                types.append(kind)
                positions.append(position)
            previous = group.atoms
    zero = np.zeros(len(types))
    return Structure(tuple(types), np.array(positions, dtype=np.float64), zero, np.zeros((0, 2), dtype=np.int64))


def group_positions(path: str | Path, name: str) -> NDArray[np.float64]:
    """Return the positions of the heavy atoms of the first group of this name, angstrom [n, 3].

    Raises:
        ValueError: there is none; the message lists the groups besides chains and water.
    """
    groups = read_groups(path)
    for group in groups:
        if group.name == name:
            return np.array([atom.position for atom in group.atoms if atom.element != "H"])
    others = sorted({group.name for group in groups if not group.in_chain} - WATERS)
    raise ValueError(f"{path}: no group has the name {name}; besides chains there are {', '.join(others) or 'none'}")


def read_groups(path: str | Path) -> list[Group]:
    """Read the groups of the first model, in the order of the file."""
    lines: list[Line] = []
    for row, record, text in records(path):
        if record == "ENDMDL" and lines:
            break
        if record in ATOM_RECORDS:
            with prefix_errors(f"{path}, line {row}"):
                lines.append(parse_line(text))
                if len(lines) > MAX_RECEPTOR_ATOMS:
                    raise ValueError(f"more than {MAX_RECEPTOR_ATOMS} atoms")
    if not lines:
        raise ValueError(f"{path}: no atoms")
    return list(group_lines(lines))


def parse_line(text: str) -> Line:
    """Parse an ATOM or HETATM line.

    Columns (from 1): name 13-16, alternate 17, residue 18-21, chain 22, number 23-27, x, y, z 31-54, occupancy 55-60,
    element 77-78.
    """
    x, y, z = (parse_coordinate(text[start : start + 8], axis) for start, axis in ((30, "x"), (38, "y"), (46, "z")))
    name, occupancy = text[12:16].strip(), text[54:60].strip()
    hetero = text.startswith("HETATM")
    return Line(
        atom=Atom(name, parse_element(text, hetero), (x, y, z)),
        residue=text[17:21].strip(),
        place=(text[21:22].strip(), text[22:27].strip()),
        hetero=hetero,
        alternate=text[16:17].strip(),
        occupancy=float(occupancy) if DECIMAL.fullmatch(occupancy) else 1.0,
    )


def parse_element(text: str, hetero: bool) -> str:
    """Return the element in capitals, from its columns or from the name: calcium is `CA  `, alpha carbon ` CA `."""
    given = text[76:78].strip().upper()
    if not given.isalpha():
        front = text[12:14].strip().upper()
        given = front if hetero and front in TYPES else text[12:16].strip(" 0123456789")[:1].upper()
    return "H" if given == "D" else given


def group_lines(lines: Sequence[Line]) -> Iterator[Group]:
    """Yield residues, molecules and ions, with the most occupied alternate location and the first atom of each name."""
    occupied: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for line in lines:
        occupied[line.place][line.alternate] += line.occupancy
    best = {
        place: max((name for name in alternates if name), key=lambda name: alternates[name], default="")
        for place, alternates in occupied.items()
    }
    chosen = (line for line in lines if line.alternate in ("", best[line.place]))
    for (residue, place, hetero), members in groupby(chosen, lambda line: (line.residue, line.place, line.hetero)):
        atoms = {line.atom.name: line.atom for line in reversed(list(members))}
        yield Group(residue, place, hetero, tuple(reversed(atoms.values())))


def assign_types(group: Group, others: Sequence[Atom]) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Yield AutoDock type and position of each atom of a group, and of the hydrogens that donors lack.

    Args:
        others: atoms of other groups that it may be attach_bonds to.
    """
    heavy = [atom for atom in group.atoms if atom.element != "H"]
    hydrogens = [atom for atom in group.atoms if atom.element == "H"]
    around = Neighbourhood([*heavy, *(atom for atom in others if atom.element != "H" and atom not in heavy)])
    protons = np.array([atom.position for atom in hydrogens]).reshape(-1, 3)
    for atom in heavy:
        has_hydrogen = bool((np.linalg.norm(protons - atom.position, axis=-1) < MAX_BOND_TO_HYDROGEN).any())
        near = around.bonded_to(atom)
        donor = atom.element in MIN_SINGLE_BOND and (
            has_hydrogen or (may_lack_hydrogen(group, atom, hydrogens) and should_bear_hydrogen(group, atom, near))
        )
        yield autodock_type(group, atom, near, donor=donor), atom.position
        if donor and not has_hydrogen:
            yield "HD", place_hydrogen(atom, near)
    for atom in hydrogens:
        bearers = [other for other in heavy if distance(other, atom) < MAX_BOND_TO_HYDROGEN]
        yield "HD" if any(other.element in ("N", "O", "S") for other in bearers) else "H", atom.position


class Neighbourhood:
    """The heavy atoms that an atom may be attach_bonds to."""

    def __init__(self, atoms: Sequence[Atom]) -> None:
        self.atoms = atoms
        self.positions = np.array([atom.position for atom in atoms])
        self.max_bonds = np.array([MAX_METAL_BOND if is_metal(atom) else MAX_BOND for atom in atoms])

    def bonded_to(self, atom: Atom) -> list[Atom]:
        """Return the atoms that one is attach_bonds to."""
        close = np.linalg.norm(self.positions - atom.position, axis=-1) < self.max_bonds
        return [other for other, yes in zip(self.atoms, close, strict=True) if yes and other is not atom]


def may_lack_hydrogen(group: Group, atom: Atom, hydrogens: Sequence[Atom]) -> bool:
    """Tell whether the file may omit hydrogens of an atom that has none.

    A file with hydrogens has those of histidine; those of other residues may still be missing.
    """
    return not hydrogens or (group.name in DONORS and not accepts(group.name, atom.name))


def should_bear_hydrogen(group: Group, atom: Atom, near: Sequence[Atom]) -> bool:
    """Tell whether a nitrogen or oxygen without hydrogens in the file should have some.

    Args:
        near: the heavy atoms that it is attach_bonds to.
    """
    if any(map(is_metal, near)):
        return False
    if group.name in DONORS:
        return donates(group.name, atom.name)
    if group.name in WATERS:
        return True
    if group.in_chain and atom.name == "N":
        return sum(other in group.atoms for other in near) == 1
    if len(near) != 1:
        return False
    return near[0].element == "C" and distance(atom, near[0]) > MIN_SINGLE_BOND[atom.element]


def autodock_type(group: Group, atom: Atom, near: Sequence[Atom], *, donor: bool) -> str:
    """Return the AutoDock type of a heavy atom; all carbons are C, since Vina treats aromatic ones alike.

    Raises:
        ValueError: the element has no type.
    """
    if atom.element == "N":
        if donor or any(map(is_metal, near)) or (group.in_chain and atom.name == "N"):
            return "N"
        has_lone_pair = accepts(group.name, atom.name) if group.name in DONORS else len(near) <= 2
        return "NA" if has_lone_pair else "N"
    if atom.element not in TYPES:
        elements = ", ".join(("H", "N", *TYPES))
        raise ValueError(f"{group.name} {' '.join(group.place)}: element {atom.element}, known are {elements}")
    return TYPES[atom.element]


def place_hydrogen(atom: Atom, near: Sequence[Atom]) -> tuple[float, float, float]:
    """Return a possible position of a hydrogen: away from the neighbours."""
    position = np.array(atom.position)
    away = len(near) * position - np.sum([other.position for other in near], axis=0)
    length = float(np.linalg.norm(away))
    x, y, z = position + HYDROGEN_DISTANCE * (away / length if length > 1e-3 else np.array([0.0, 0.0, 1.0]))
    return float(x), float(y), float(z)


def is_metal(atom: Atom) -> bool:
    """Tell whether an atom is one of the metals that Vina knows."""
    return atom.element.capitalize() in METALS


def distance(first: Atom, second: Atom) -> float:
    """Return the distance of two atoms in angstrom."""
    return float(np.linalg.norm(np.subtract(first.position, second.position)))
