"""PDB files (format 3.3) as rigid receptors: chains and metal ions with AutoDock types, hydrogens there or not.

A receptor is what a ligand shall be docked into, so what fills its pocket in the crystal is left out: waters, other
small molecules and ions. AutoDock types come from the tables of `residues`, and for other groups from their geometry.
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
    ATOMS,
    MAX_RECEPTOR_ATOMS,
    METALS,
    NUMBER,
    Structure,
    coordinate,
    naming,
    records,
)
from molrl.data.molecules.residues import AMINO_ACID, DONORS, MODIFIED, WATERS, accepts, donates

BOND = 2.0  # angstrom; heavy atoms closer than that are bonded
METAL_BOND = 2.6  # the same where one is a metal
HYDROGEN_BOND_LENGTH = 1.25  # angstrom; a hydrogen closer than that is bonded
LEAST_CX = {"O": 1.30, "N": 1.22}  # angstrom; shorter bonds with carbon are carbonyls and carboxylates, or nitriles
X_H = 1.0  # angstrom
SHOWN = 12  # names in a warning
TYPES = {
    **{"C": "C", "O": "OA", "S": "SA", "SE": "SA", "P": "P", "F": "F", "CL": "Cl", "BR": "Br", "I": "I", "SI": "Si"},
    **{metal.upper(): metal for metal in METALS},
}
"""AutoDock type by element, but for N and H; selenium, in selenomethionine, counts as sulfur."""


class Atom(NamedTuple):
    """An atom as the file has it; element in capitals."""

    name: str
    element: str
    position: tuple[float, float, float]


@dataclass(frozen=True)
class Group:
    """A residue of a chain, a molecule or an ion.

    Attributes:
        name: of the residue, such as ALA, STI or HOH.
        place: chain and number.
        hetero: whether the file calls it HETATM.
        atoms: with one location each.
    """

    name: str
    place: tuple[str, str]
    hetero: bool
    atoms: tuple[Atom, ...]

    @property
    def in_chain(self) -> bool:
        """Whether it is a part of a protein or a nucleic acid; an amino acid on its own is a ligand."""
        if self.name in MODIFIED or (self.name in DONORS and not self.hetero):
            return True
        return self.name not in DONORS and {atom.name for atom in self.atoms} >= AMINO_ACID

    @property
    def metal(self) -> bool:
        """Whether it is a metal ion."""
        return len(self.atoms) == 1 and metallic(self.atoms[0])


class Line(NamedTuple):
    """What an ATOM or HETATM line says."""

    atom: Atom
    residue: str
    place: tuple[str, str]
    hetero: bool
    alternate: str
    occupancy: float


def read_pdb(path: str | Path, keep: Collection[str] = ()) -> Structure:
    """Read the receptor of a PDB file: its chains, its metal ions, and the groups that are to be kept.

    What is left out is named in a warning, but for waters. Of alternate locations the most occupied is taken, of
    several models the first. Where nitrogens and oxygens that bear hydrogen have none in the file, each gets one: its
    place does not matter to Vina, that it is there makes a donor. Histidine is then protonated on NE2.

    Args:
        keep: residue names, such as HEM or HOH.

    Raises:
        ValueError: the file is missing, binary, too large or has no chain; an element in it is none of `TYPES`; nothing
            in it has a name that is to be kept.
    """
    groups = read_groups(path)
    if strange := set(keep) - {group.name for group in groups}:
        raise ValueError(f"{path}: nothing to keep has the name {', '.join(sorted(strange))}")
    kept = [group for group in groups if group.in_chain or group.metal or group.name in keep]
    left_out = Counter(group.name for group in groups if group not in kept and group.name not in WATERS)
    if not any(group.in_chain for group in kept):
        raise ValueError(f"{path}: no residue of a protein or nucleic acid")
    if left_out:
        names = ", ".join(f"{count} {name}" for name, count in left_out.most_common(SHOWN))
        more = f" and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
        warnings.warn(f"{path}: left out of the receptor: {names}{more}; keep=[NAME] keeps some", stacklevel=2)
    types: list[str] = []
    positions: list[tuple[float, float, float]] = []
    previous: Sequence[Atom] = ()
    metals = [atom for group in kept if group.metal for atom in group.atoms]
    with naming(str(path)):
        for group in kept:
            for kind, position in typed(group, (*previous, *metals)):
                types.append(kind)
                positions.append(position)
            previous = group.atoms
    zero = np.zeros(len(types))
    return Structure(tuple(types), np.array(positions, dtype=np.float64), zero, np.zeros((0, 2), dtype=np.int64))


def group_positions(path: str | Path, name: str) -> NDArray[np.float64]:
    """Where the heavy atoms of the first group of this name are, angstrom [n, 3].

    Raises:
        ValueError: there is none; names what there is besides chains and water.
    """
    groups = read_groups(path)
    for group in groups:
        if group.name == name:
            return np.array([atom.position for atom in group.atoms if atom.element != "H"])
    others = sorted({group.name for group in groups if not group.in_chain} - WATERS)
    raise ValueError(f"{path}: no group has the name {name}; besides chains there are {', '.join(others) or 'none'}")


def read_groups(path: str | Path) -> list[Group]:
    """The groups of the first model, in the order of the file."""
    lines: list[Line] = []
    for row, record, text in records(path):
        if record == "ENDMDL" and lines:
            break
        if record in ATOMS:
            with naming(f"{path}, line {row}"):
                lines.append(parsed(text))
                if len(lines) > MAX_RECEPTOR_ATOMS:
                    raise ValueError(f"more than {MAX_RECEPTOR_ATOMS} atoms")
    if not lines:
        raise ValueError(f"{path}: no atoms")
    return list(grouped(lines))


def parsed(text: str) -> Line:
    """Read the columns (from 1): name 13-16, alternate 17, residue 18-21, chain 22, number 23-27, x, y, z 31-54,
    occupancy 55-60, element 77-78.
    """
    x, y, z = (coordinate(text[start : start + 8], axis) for start, axis in ((30, "x"), (38, "y"), (46, "z")))
    name, occupancy = text[12:16].strip(), text[54:60].strip()
    hetero = text.startswith("HETATM")
    return Line(
        atom=Atom(name, element(text, hetero), (x, y, z)),
        residue=text[17:21].strip(),
        place=(text[21:22].strip(), text[22:27].strip()),
        hetero=hetero,
        alternate=text[16:17].strip(),
        occupancy=float(occupancy) if NUMBER.fullmatch(occupancy) else 1.0,
    )


def element(text: str, hetero: bool) -> str:
    """The element in capitals, from its own columns or from the name: calcium is `CA  `, the alpha carbon ` CA `."""
    given = text[76:78].strip().upper()
    if not given.isalpha():
        front = text[12:14].strip().upper()
        given = front if hetero and front in TYPES else text[12:16].strip(" 0123456789")[:1].upper()
    return "H" if given == "D" else given


def grouped(lines: Sequence[Line]) -> Iterator[Group]:
    """Residues, molecules and ions: of alternate locations the most occupied, of atoms of one name the first."""
    occupied: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for line in lines:
        occupied[line.place][line.alternate] += line.occupancy
    best = {
        place: max((name for name in found if name), key=lambda name: found[name], default="")
        for place, found in occupied.items()
    }
    chosen = (line for line in lines if line.alternate in ("", best[line.place]))
    for (residue, place, hetero), found in groupby(chosen, lambda line: (line.residue, line.place, line.hetero)):
        atoms = {line.atom.name: line.atom for line in reversed(list(found))}
        yield Group(residue, place, hetero, tuple(reversed(atoms.values())))


def typed(group: Group, others: Sequence[Atom]) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """AutoDock type and position of each atom of a group, with the hydrogens that donors lack.

    Args:
        others: what the group may be bonded to.
    """
    heavy = [atom for atom in group.atoms if atom.element != "H"]
    hydrogens = [atom for atom in group.atoms if atom.element == "H"]
    around = Surroundings([*heavy, *(atom for atom in others if atom.element != "H" and atom not in heavy)])
    protons = np.array([atom.position for atom in hydrogens]).reshape(-1, 3)
    for atom in heavy:
        bears = bool((np.linalg.norm(protons - atom.position, axis=-1) < HYDROGEN_BOND_LENGTH).any())
        near = around.bonded(atom)
        donor = atom.element in LEAST_CX and (bears or (untold(group, atom, hydrogens) and gives(group, atom, near)))
        yield autodock_type(group, atom, near, donor=donor), atom.position
        if donor and not bears:
            yield "HD", stand_in(atom, near)
    for atom in hydrogens:
        bearers = [other for other in heavy if distance(other, atom) < HYDROGEN_BOND_LENGTH]
        yield "HD" if any(other.element in ("N", "O", "S") for other in bearers) else "H", atom.position


class Surroundings:
    """Heavy atoms that an atom may be bonded to."""

    def __init__(self, atoms: Sequence[Atom]) -> None:
        self.atoms = atoms
        self.positions = np.array([atom.position for atom in atoms])
        self.reach = np.array([METAL_BOND if metallic(atom) else BOND for atom in atoms])

    def bonded(self, atom: Atom) -> list[Atom]:
        """Those that it is bonded to."""
        close = np.linalg.norm(self.positions - atom.position, axis=-1) < self.reach
        return [other for other, yes in zip(self.atoms, close, strict=True) if yes and other is not atom]


def untold(group: Group, atom: Atom, hydrogens: Sequence[Atom]) -> bool:
    """Whether the file does not say if an atom without hydrogen bears some.

    Where it has hydrogens, it has those of histidine; those of other residues may still be missing.
    """
    return not hydrogens or (group.name in DONORS and not accepts(group.name, atom.name))


def gives(group: Group, atom: Atom, near: Sequence[Atom]) -> bool:
    """Whether a nitrogen or oxygen without hydrogens in the file should have some."""
    if any(map(metallic, near)):
        return False
    if group.name in DONORS:
        return donates(group.name, atom.name)
    if group.name in WATERS:
        return True
    if group.in_chain and atom.name == "N":
        return sum(other in group.atoms for other in near) == 1
    if len(near) != 1:
        return False
    return near[0].element == "C" and distance(atom, near[0]) > LEAST_CX[atom.element]


def autodock_type(group: Group, atom: Atom, near: Sequence[Atom], *, donor: bool) -> str:
    """The AutoDock type of a heavy atom; carbons are C whether aromatic or not, which are the same to Vina.

    Raises:
        ValueError: there is none for the element.
    """
    if atom.element == "N":
        if donor or any(map(metallic, near)) or (group.in_chain and atom.name == "N"):
            return "N"
        free = accepts(group.name, atom.name) if group.name in DONORS else len(near) <= 2
        return "NA" if free else "N"
    if atom.element not in TYPES:
        known = ", ".join(("H", "N", *TYPES))
        raise ValueError(f"{group.name} {' '.join(group.place)}: element {atom.element}, known are {known}")
    return TYPES[atom.element]


def stand_in(atom: Atom, near: Sequence[Atom]) -> tuple[float, float, float]:
    """Where a hydrogen could be: away from the neighbours."""
    here = np.array(atom.position)
    away = len(near) * here - np.sum([other.position for other in near], axis=0)
    length = float(np.linalg.norm(away))
    x, y, z = here + X_H * (away / length if length > 1e-3 else np.array([0.0, 0.0, 1.0]))
    return float(x), float(y), float(z)


def metallic(atom: Atom) -> bool:
    """Whether an atom is one of the metals that Vina knows."""
    return atom.element.capitalize() in METALS


def distance(first: Atom, second: Atom) -> float:
    """Angstrom."""
    return float(np.linalg.norm(np.subtract(first.position, second.position)))
