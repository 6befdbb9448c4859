"""Interactions of a pose with named residues: hydrogen bonds and hydrophobic contacts, by the places of heavy atoms.

A hydrogen bond: donor and acceptor at most 3.5 angstrom apart (as in ProLIF, Bouysset and Fiorucci 2021,
doi:10.1186/s13321-021-00548-6), with every angle between it and a bond of either atom at least 90 degrees (McDonald and
Thornton 1994, doi:10.1006/jmbi.1994.1334). A hydrophobic contact: two carbons bonded to no hetero atom, at most 4
angstrom apart (PLIP, Salentin et al. 2015, doi:10.1093/nar/gkv315). Hydrogens are left out, for in a crystal structure
and in many samples they have no positions.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molrl.data.molecules.chains import MAX_BOND, Group, read_groups
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.residues import DONORS, accepts, donates
from molrl.rewards.molecules.docking.atom_types import graph_ligand
from molrl.rewards.molecules.geometry import GeometryReward
from molrl.rewards.scores import Explained, Scored

Kind: TypeAlias = Literal["hbond", "hydrophobic"]
Floats: TypeAlias = NDArray[np.float64]

LIMITS: dict[Kind, float] = {"hbond": 3.5, "hydrophobic": 4.0}  # angstrom
MIN_ANGLE = 90.0  # degrees
WANTED = re.compile(r"(?P<chain>\w+):(?P<name>[A-Z]{3})(?P<number>-?\d+[A-Z]?):(?P<kind>hbond|hydrophobic)")


class Roles(NamedTuple):
    """The heavy atoms of one side of an interaction.

    Attributes:
        positions: angstrom [n, 3].
        bonds: which atoms are bonded, symmetric bool [n, n].
        donor, acceptor, hydrophobic: bool [n].
    """

    positions: Floats
    bonds: NDArray[np.bool_]
    donor: NDArray[np.bool_]
    acceptor: NDArray[np.bool_]
    hydrophobic: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Interactions(GeometryReward):
    """The mean over the wanted interactions, each 1 where it is made, in [0, 1]; 0 for a bad sample.

    One that is not made counts 1 - (d - limit) / slack, at least 0, d being the distance of the nearest pair of atoms
    that could make it. The sample is taken where it lies, in the coordinates of the receptor. The parts say which are
    made.

    Attributes:
        receptor: a PDB or mmCIF file.
        residues: such as "A:MET318:hbond" or "A:LEU370:hydrophobic": chain, name and number, kind.
        slack: angstrom; 0 counts what is made alone.
    """

    receptor: str
    residues: Sequence[str]
    slack: float
    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.slack < math.inf:
            raise ValueError(f"slack: got {self.slack}, need at least 0 angstrom")
        if isinstance(self.residues, str) or not self.residues:
            raise ValueError(f"residues: got {self.residues!r}, need a list such as [A:MET318:hbond]")
        self.sites  # noqa: B018  # a wrong name fails here

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the interactions."""
        return tuple(text.replace(":", "_") for text in self.residues)

    @cached_property
    def sites(self) -> tuple[tuple[Kind, Roles], ...]:
        """Return the kind of each wanted interaction, and the atoms of its residue.

        Raises:
            ValueError: the file has no such residue.
        """
        groups = {(*group.place, group.name): group for group in read_groups(self.receptor)}
        return tuple(wanted_site(text, groups, self.receptor) for text in self.residues)

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        try:
            ligand = ligand_roles(mol, sample.positions[sample.numbers > 1].astype(np.float64))
        except ValueError as error:  # an element that has no role
            return Scored(self.floor, str(error))
        excess = [nearest(kind, residue, ligand) - LIMITS[kind] for kind, residue in self.sites]
        parts = {name: float(one <= 0) for name, one in zip(self.parts, excess, strict=True)}
        return Explained(float(np.mean([self.credit(one) for one in excess])), "", parts)

    def credit(self, excess: float) -> float:
        """Return what an interaction counts whose atoms are farther apart than its limit by so much, angstrom."""
        if excess <= 0:
            return 1.0
        return max(0.0, 1.0 - excess / self.slack) if self.slack else 0.0


def wanted_site(text: str, groups: dict[tuple[str, str, str], Group], file: str) -> tuple[Kind, Roles]:
    """Return the kind of a wanted interaction, and the atoms of its residue with the roles that they have."""
    if (match := WANTED.fullmatch(text)) is None:
        raise ValueError(f"residues: got {text!r}, need CHAIN:NAME and number:hbond or hydrophobic, as A:MET318:hbond")
    place, kind = (match["chain"], match["number"], match["name"]), cast(Kind, match["kind"])
    if place not in groups or match["name"] not in DONORS:
        there = [name for chain, number, name in groups if (chain, number) == place[:2]]
        raise ValueError(f"residues: {file} has no {text.rpartition(':')[0]}; at that place is {there or 'nothing'}")
    around = [atom for group in groups.values() for atom in group.heavy]
    roles = residue_roles(groups[place], np.array([atom.position for atom in around], dtype=np.float64))
    possible = roles.hydrophobic if kind == "hydrophobic" else roles.donor | roles.acceptor
    if not possible.any():
        raise ValueError(f"residues: {text}: no atom of {match['name']} can do that")
    return kind, roles


def residue_roles(group: Group, around: Floats) -> Roles:
    """Return the atoms of a residue, and behind them those that they are bonded to, which have no role.

    Args:
        group: the residue.
        around: positions of the receptor's heavy atoms, those of the residue among them, angstrom [m, 3].
    """
    own = np.array([atom.position for atom in group.heavy], dtype=np.float64)
    distance = np.linalg.norm(around[:, None] - own[None], axis=-1)
    others = around[(distance.min(1) < MAX_BOND) & (distance.min(1) > 0)]
    elements = np.array([atom.element for atom in group.heavy] + ["C"] * len(others))
    inside = np.arange(len(elements)) < len(own)
    positions = np.concatenate([own, others])
    bonds = np.linalg.norm(positions[:, None] - positions[None], axis=-1) < MAX_BOND
    np.fill_diagonal(bonds, val=False)
    names = [atom.name for atom in group.heavy] + [""] * len(others)
    donor = np.array([bool(name) and donates(group.name, name) for name in names])
    lone_pair = np.array([bool(name) and accepts(group.name, name) for name in names])
    polar = bonds @ (elements != "C")
    return Roles(positions, bonds, donor, (lone_pair | (elements == "O")) & inside, (elements == "C") & ~polar & inside)


def ligand_roles(mol: Chem.Mol, positions: Floats) -> Roles:
    """Return the heavy atoms of a molecule with their roles: Vina's, but for halogens, which are no carbons."""
    types = graph_ligand(mol).types
    carbon = np.array([atom.GetAtomicNum() == 6 for atom in mol.GetAtoms()])
    bonds = np.array(Chem.GetAdjacencyMatrix(mol), dtype=np.bool_)
    return Roles(positions, bonds, types.donor, types.acceptor, types.hydrophobic & carbon)


def nearest(kind: Kind, one: Roles, other: Roles) -> float:
    """Return the distance of the nearest two atoms that could make an interaction, angstrom; infinite if none can."""
    distance = np.linalg.norm(one.positions[:, None] - other.positions[None], axis=-1)
    if kind == "hydrophobic":
        able = one.hydrophobic[:, None] & other.hydrophobic[None]
    else:
        roles = one.donor[:, None] & other.acceptor[None] | one.acceptor[:, None] & other.donor[None]
        able = roles & ~hindered(one, other.positions) & ~hindered(other, one.positions).T
    return float(distance[able].min(initial=math.inf))


def hindered(atoms: Roles, partners: Floats) -> NDArray[np.bool_]:
    """Tell for atoms [n] and partners [k] whether a bond of the atom makes less than 90 degrees with the line between.

    bool [n, k].
    """
    to_partner = partners[None] - atoms.positions[:, None]  # [n, k, 3]
    to_bonded = atoms.positions[None] - atoms.positions[:, None]  # [n, n, 3]
    dot = np.einsum("ikc,ijc->ikj", to_partner, to_bonded)
    lengths = np.linalg.norm(to_partner, axis=-1)[:, :, None] * np.linalg.norm(to_bonded, axis=-1)[:, None]
    cosine = dot / np.maximum(lengths, 1e-9)
    sharp = cosine > math.cos(math.radians(MIN_ANGLE)) + 1e-9
    found: NDArray[np.bool_] = (sharp & atoms.bonds[:, None]).any(-1)
    return found
