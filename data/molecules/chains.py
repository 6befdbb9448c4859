"""Groups of macromolecules (residues, molecules, ions), and which of them belong to a chain.

That follows from what the file says (sequences, modified residues), from the names of the common residues, and from
peptide and phosphate bonds to a residue of a chain. The names of its atoms do not make a group part of a chain: SAH has
those of an amino acid and is a ligand.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import gemmi

from molrl.data.molecules.macromolecules import Macromolecule, read_macromolecule
from molrl.data.molecules.neighbours import Grid, Position
from molrl.data.molecules.pdbqt import METALS, prefix_errors
from molrl.data.molecules.residues import DONORS, MODIFIED_RESIDUES, WATERS

MAX_BOND = 2.0  # angstrom; heavy atoms closer than that are bonded
MAX_CARBONYL = 1.4  # angstrom; C=O is 1.23 long, C-O 1.43
MAX_BOND_TO_HYDROGEN = 1.25  # angstrom; a hydrogen closer than that is bonded
PARTNERS = {"C": "N", "N": "C", "P": "O", "O3'": "P", "O3*": "P"}  # of the ends of residues: elements of the next
NO_ALTERNATE = "\0"  # of gemmi
ORGANIC = frozenset(("H", "C", "N", "O", "P", "S", "SE"))  # elements of the common residues

Place: TypeAlias = tuple[str, str, str]
"""Chain, number and segment."""


class Atom(NamedTuple):
    """An atom as given in the file, its element in capitals; angstrom."""

    name: str
    element: str
    position: Position


@dataclass(frozen=True, eq=False)
class Group:
    """A residue of a chain, a molecule or an ion.

    Attributes:
        name: of the residue, such as ALA, STI or HOH.
        place: chain and number.
        in_chain: whether it is part of a protein or nucleic acid; an amino acid on its own is a ligand.
        atoms: one location of each.
        synonym: the name that the authors of an mmCIF file use, mostly the same.
        linked: whether a peptide or phosphate bond joins it to another part of a chain.
    """

    name: str
    place: tuple[str, str]
    in_chain: bool
    atoms: tuple[Atom, ...]
    synonym: str
    linked: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that it is known by."""
        return self.name, self.synonym

    @property
    def heavy(self) -> list[Atom]:
        """Return the atoms that are not hydrogens."""
        return [atom for atom in self.atoms if atom.element != "H"]

    @property
    def hydrogens(self) -> list[Atom]:
        """Return the atoms that are hydrogens."""
        return [atom for atom in self.atoms if atom.element == "H"]

    @property
    def is_metal(self) -> bool:
        """Return whether the group is a metal ion."""
        return len(self.atoms) == 1 and is_metal(self.atoms[0])


def is_metal(atom: Atom) -> bool:
    """Tell whether an atom is one of the metals that Vina knows."""
    return atom.element.capitalize() in METALS


def read_groups(path: str | Path) -> list[Group]:
    """Read the groups of the first frame of a PDB or mmCIF file, in its order.

    Of alternate locations the most occupied one of each residue is taken. Hydrogens belong to the group of the atom
    that they are bonded to, wherever they are in the file.

    Raises:
        ValueError: the file cannot be read; see `read_macromolecule`.
    """
    macromolecule = read_macromolecule(path)
    synonyms = dict(macromolecule.synonyms)
    groups = [
        Group(
            name=name,
            place=(chain, number),
            in_chain=any(says_in_chain(part, chain, name, macromolecule) for part in parts[name]),
            atoms=atoms,
            synonym=synonyms.get(name, name),
        )
        for (chain, number, _), parts in places_of(macromolecule.model).items()
        for name, atoms in choose_locations(parts).items()
    ]
    with prefix_errors(str(path)):
        return link_chains(move_hydrogens(groups))


def places_of(model: gemmi.Model) -> dict[Place, dict[str, list[gemmi.Residue]]]:
    """Return what is at each place (chain, number, segment) of a model: by residue name, its parts in the file."""
    places: dict[Place, dict[str, list[gemmi.Residue]]] = defaultdict(lambda: defaultdict(list))
    for chain in model:
        for residue in chain:
            places[chain.name, str(residue.seqid), residue.segment][residue.name].append(residue)
    return places


def choose_locations(parts: Mapping[str, Sequence[gemmi.Residue]]) -> dict[str, tuple[Atom, ...]]:
    """Return one location of each atom at a place, by residue name: that of the most occupied alternate.

    Heavy atoms that have none there have their own most occupied one, so that the residue is complete. Residues that
    have no atom there share the place with one that has, and are left out.
    """
    occupied: dict[str, float] = defaultdict(float)
    for atom in (atom for residues in parts.values() for residue in residues for atom in residue if atom.has_altloc()):
        occupied[atom.altloc] += atom.occ
    best = max(occupied, key=lambda letter: occupied[letter], default=NO_ALTERNATE)
    chosen = {}
    for name, residues in parts.items():
        atoms = [atom for residue in residues for atom in residue]
        if any(atom.altloc in (best, NO_ALTERNATE) for atom in atoms) or len(parts) == 1:
            chosen[name] = tuple(make_atom(atom, name) for atom in one_location(atoms, best))
    return chosen


def one_location(atoms: Sequence[gemmi.Atom], best: str) -> Iterator[gemmi.Atom]:
    """Yield one location of each atom of a residue, for hydrogens only that of the best alternate.

    Atoms without alternates are all taken, even if they have the same name.
    """
    locations: dict[str, list[int]] = defaultdict(list)
    for row, atom in enumerate(atoms):
        locations[atom.name].append(row)
    chosen: list[int] = []
    for rows in locations.values():
        split = any(atoms[row].has_altloc() for row in rows)
        chosen += [max(rows, key=lambda row: (atoms[row].altloc == best, atoms[row].occ))] if split else rows
    for row in sorted(chosen):
        if not atoms[row].is_hydrogen() or atoms[row].altloc in (best, NO_ALTERNATE):
            yield atoms[row]


def make_atom(atom: gemmi.Atom, residue: str) -> Atom:
    """Return an atom of gemmi as ours; in a common residue its element is one that occurs there.

    Names that are not in their columns look like metals: `CD  ` of proline.
    """
    element = "H" if atom.is_hydrogen() else atom.element.name.upper()
    if residue in DONORS and element not in ORGANIC:
        element = atom.name.lstrip("0123456789")[:1].upper()
    x, y, z = (round(value, 6) for value in atom.pos.tolist())
    return Atom(atom.name, element, (x, y, z))


def says_in_chain(residue: gemmi.Residue, chain: str, name: str, macromolecule: Macromolecule) -> bool:
    """Tell whether the file, or the name of a common residue in an ATOM record, says that it is part of a chain."""
    return (
        name in MODIFIED_RESIDUES
        or (name in DONORS and residue.het_flag != "H")
        or (name not in DONORS and (chain, name) in macromolecule.sequences)
        or residue.entity_id in macromolecule.polymers
        or (chain, str(residue.seqid), name) in macromolecule.modified
    )


def move_hydrogens(groups: Sequence[Group]) -> list[Group]:
    """Return the groups with the hydrogens that are bonded to their atoms, and those bonded to none where they were."""
    heavy = [(atom, row) for row, group in enumerate(groups) for atom in group.heavy]
    grid = Grid([atom.position for atom, _ in heavy], MAX_BOND_TO_HYDROGEN)
    members: list[list[Atom]] = [group.heavy for group in groups]
    for row, group in enumerate(groups):
        for hydrogen in group.hydrogens:
            near = grid.near(hydrogen.position, MAX_BOND_TO_HYDROGEN)
            closest = min(near, key=lambda i: math.dist(heavy[i][0].position, hydrogen.position), default=None)
            members[row if closest is None else heavy[closest][1]].append(hydrogen)
    return [replace(group, atoms=tuple(atoms)) for group, atoms in zip(groups, members, strict=True) if atoms]


def link_chains(groups: Sequence[Group]) -> list[Group]:
    """Return the groups, of which those that peptide and phosphate bonds link to a chain are part of it."""
    bonds = ChainBonds(groups)
    chain = {row for row, group in enumerate(groups) if group.in_chain}
    linked: set[int] = set()
    queue = sorted(chain)
    while queue:
        row = queue.pop()
        for other in bonds.next_residues(row):
            linked |= {row, other}
            if other not in chain:
                chain.add(other)
                queue.append(other)
    return [
        replace(group, in_chain=True, linked=row in linked) if row in chain else group
        for row, group in enumerate(groups)
    ]


class ChainBonds:
    """The peptide and phosphate bonds between groups."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.atoms = [
            (atom, row) for row, group in enumerate(groups) if group.name not in WATERS for atom in group.heavy
        ]
        self.grid = Grid([atom.position for atom, _ in self.atoms], MAX_BOND)
        self.carbonyls: dict[int, bool] = {}

    def next_residues(self, row: int) -> Iterator[int]:
        """Yield the rows of the groups that the ends of a residue are bonded to."""
        for end in (atom for atom in self.groups[row].heavy if atom.name in PARTNERS):
            for i in self.grid.near(end.position, MAX_BOND):
                other, owner = self.atoms[i]
                if owner != row and other.element == PARTNERS[end.name] and (end.name != "N" or self.is_carbonyl(i)):
                    yield owner

    def is_carbonyl(self, i: int) -> bool:
        """Tell whether a carbon has an oxygen of its group at the distance of a double bond."""
        if i not in self.carbonyls:
            atom, owner = self.atoms[i]
            around = (self.atoms[other] for other in self.grid.near(atom.position, MAX_CARBONYL))
            self.carbonyls[i] = any(other.element == "O" and place == owner for other, place in around)
        return self.carbonyls[i]
