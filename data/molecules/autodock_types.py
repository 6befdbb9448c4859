"""AutoDock types of the atoms of a receptor, with or without hydrogens in its file (Morris et al. 2009).

They come from the tables of `residues`, and for other groups from their geometry.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from molrl.data.molecules.chains import MAX_BOND, MAX_BOND_TO_HYDROGEN, Atom, Group, is_metal
from molrl.data.molecules.neighbours import Grid, Position
from molrl.data.molecules.pdbqt import METALS
from molrl.data.molecules.residues import DONORS, WATERS, accepts, donates

MAX_METAL_BOND = 2.6  # angstrom; atoms closer than that to a metal are bonded to it
MIN_DISTANCE = 0.5  # angstrom between two heavy atoms
MIN_SINGLE_BOND = {"O": 1.30, "N": 1.22}  # angstrom, with carbon; shorter are carbonyls, carboxylates and nitriles
HYDROGEN_DISTANCE = 1.0  # angstrom, of an added hydrogen
POLAR = ("N", "O", "S")
TYPES = {
    **{"C": "C", "O": "OA", "S": "SA", "SE": "SA", "P": "P", "F": "F", "CL": "Cl", "BR": "Br", "I": "I", "SI": "Si"},
    **{metal.upper(): metal for metal in METALS},
}
"""AutoDock type by element, except N and H; selenium, in selenomethionine, counts as sulfur."""


class Bonds(NamedTuple):
    """The heavy atoms that a heavy atom is bonded to, and how many of these belong to its group."""

    near: Sequence[Atom]
    inner: int


class TypedAtom(NamedTuple):
    """An atom of a receptor: its AutoDock type, its position in angstrom, and its group."""

    kind: str
    position: Position
    group: Group


def assign_types(groups: Sequence[Group]) -> Iterator[TypedAtom]:
    """Yield the atoms of a receptor with their types, and the hydrogens that donors lack.

    Raises:
        ValueError: two heavy atoms coincide, or an element has no type.
    """
    heavy = [(group, atom) for group in groups for atom in group.heavy]
    hydrogens = [atom for group in groups for atom in group.hydrogens]
    grid = Grid([atom.position for _, atom in heavy], MAX_METAL_BOND)
    protons = Grid([atom.position for atom in hydrogens], MAX_BOND_TO_HYDROGEN)
    for group in groups:
        complete = bool(group.hydrogens)
        for atom in group.heavy:
            bonds = find_bonds(group, atom, [heavy[row] for row in grid.near(atom.position, MAX_METAL_BOND)])
            has_hydrogen = bool(protons.near(atom.position, MAX_BOND_TO_HYDROGEN))
            lacks_hydrogen = not has_hydrogen and may_lack_hydrogen(group, atom, complete=complete)
            added = lacks_hydrogen and should_bear_hydrogen(group, atom, bonds)
            donor = atom.element in MIN_SINGLE_BOND and (has_hydrogen or added)
            yield TypedAtom(autodock_type(group, atom, bonds.near, donor=donor), atom.position, group)
            if donor and added:
                yield TypedAtom("HD", place_hydrogen(atom, bonds.near), group)
        for atom in group.hydrogens:
            bearers = (heavy[row][1] for row in grid.near(atom.position, MAX_BOND_TO_HYDROGEN))
            polar = any(bearer.element in POLAR for bearer in bearers)
            yield TypedAtom("HD" if polar else "H", atom.position, group)


def find_bonds(group: Group, atom: Atom, around: Sequence[tuple[Group, Atom]]) -> Bonds:
    """Return the bonds of an atom to those around it, which may include itself.

    Raises:
        ValueError: one of them is where the atom is.
    """
    bonded = []
    for owner, other in around:
        length = distance(atom, other)
        if other is not atom and length < MIN_DISTANCE:
            raise ValueError(f"{label(group, atom)} and {label(owner, other)} coincide: {length:.3f} angstrom apart")
        if other is not atom and length < (MAX_METAL_BOND if is_metal(other) else MAX_BOND):
            bonded.append((owner, other))
    return Bonds([other for _, other in bonded], sum(owner is group for owner, _ in bonded))


def label(group: Group, atom: Atom) -> str:
    """Return an atom's name with its group and place, for messages."""
    return f"{atom.name} of {group.name} {' '.join(group.place)}"


def may_lack_hydrogen(group: Group, atom: Atom, *, complete: bool) -> bool:
    """Tell whether the file may omit hydrogens of an atom that has none.

    A file with hydrogens has those of histidine; those of other residues may still be missing.

    Args:
        complete: whether the file has hydrogens of the group.
    """
    return not complete or (group.name in DONORS and not accepts(group.name, atom.name))


def should_bear_hydrogen(group: Group, atom: Atom, bonds: Bonds) -> bool:
    """Tell whether a nitrogen or oxygen without hydrogens in the file should have some."""
    if atom.element not in MIN_SINGLE_BOND or any(map(is_metal, bonds.near)):
        return False
    if group.name in DONORS:
        return donates(group.name, atom.name)
    if group.name in WATERS:
        return True
    if group.in_chain and atom.name == "N":
        return bonds.inner == 1
    if len(bonds.near) != 1:
        return False
    return bonds.near[0].element == "C" and distance(atom, bonds.near[0]) > MIN_SINGLE_BOND[atom.element]


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


def place_hydrogen(atom: Atom, near: Sequence[Atom]) -> Position:
    """Return a possible position of a hydrogen: away from the neighbours."""
    position = np.array(atom.position)
    away = len(near) * position - np.sum([other.position for other in near], axis=0)
    length = float(np.linalg.norm(away))
    x, y, z = position + HYDROGEN_DISTANCE * (away / length if length > 1e-3 else np.array([0.0, 0.0, 1.0]))
    return float(x), float(y), float(z)


def distance(first: Atom, second: Atom) -> float:
    """Return the distance of two atoms in angstrom."""
    return math.dist(first.position, second.position)
