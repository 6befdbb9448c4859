"""The types that Vina gives to atoms (radius, hydrophobic, donor, acceptor) and the number of rotors of a ligand.

From AutoDock types and distances, as the package does it (Trott and Olson 2010, J. Comput. Chem. 31, 455; Eberhardt et
al. 2021, J. Chem. Inf. Model. 61, 3891), or from a molecular graph, by the typing rules of the ligand preparation that
goes with it (Meeko).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molrl.data.molecules.pdbqt import ELEMENTS, METALS, Structure

# angstrom; the interaction radii of X-Score with Vina's additions
RADII = {
    **{"C": 1.9, "N": 1.8, "O": 1.7, "S": 2.0, "P": 2.1, "F": 1.5, "Cl": 1.8, "Br": 2.0, "I": 2.2, "Si": 2.2},
    **{"At": 2.3, **dict.fromkeys(METALS, 1.2)},
}
OTHER_METAL = 1.75
COVALENT_RADII = {
    **{"H": 0.37, "C": 0.77, "N": 0.75, "O": 0.73, "F": 0.71, "P": 1.06, "S": 1.02, "Cl": 0.99, "Br": 1.14, "I": 1.33},
    **{"Si": 1.11, "At": 1.44, **dict.fromkeys(METALS, OTHER_METAL)},
    **{"Mg": 1.30, "Mn": 1.39, "Zn": 1.31, "Ca": 1.74, "Fe": 1.25},
}
BOND_TOLERANCE = 1.1  # bonds are shorter than this times the sum of the covalent radii
HALOGENS = ("F", "Cl", "Br", "I")
CHUNK_SIZE = 64  # atoms whose neighbours are searched at a time

# Nitrogens that accept no hydrogen bond: pyrroles and anilines, amides and amidines, triazenes, cations
NO_ACCEPTORS = tuple(
    Chem.MolFromSmarts(pattern)
    for pattern in ("[#7X3v3][a]", "[#7X3v3][#6X3v4]", "[#7X3v3][NX2]=[*]", "[#7+1]")  # X and v count hydrogens
)
AMIDE = Chem.MolFromSmarts("[NX3]-[CX3]=[O,N,S]")  # amidines too
TRIPLE_END = Chem.MolFromSmarts("*-[*]#[*]")
POLAR_HYDROGEN_BEARERS = frozenset((7, 8, 9, 15, 16))


class AtomTypes(NamedTuple):
    """The types of n atoms for the scoring function: radius in angstrom, float64 [n]; the rest bool [n]."""

    radius: NDArray[np.float64]
    hydrophobic: NDArray[np.bool_]
    donor: NDArray[np.bool_]
    acceptor: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Ligand:
    """The heavy atoms of a molecule as the scoring function takes them.

    Attributes:
        types: of the heavy atoms.
        rotors: number of rotatable bonds; those to a terminal OH or NH2 count a half, those to a methyl nothing.
    """

    types: AtomTypes
    rotors: float

    def __len__(self) -> int:
        return len(self.types.radius)


def heavy(structure: Structure) -> NDArray[np.bool_]:
    """Return the mask of the heavy atoms of a structure, bool [n]."""
    return np.array([ELEMENTS[name] != "H" for name in structure.types], dtype=np.bool_)


def structure_types(structure: Structure) -> AtomTypes:
    """Return the types of the heavy atoms of a structure; its bonds follow from the distances."""
    elements = np.array([ELEMENTS[name] for name in structure.types])
    names = np.array(structure.types)
    bonds = find_bonds(structure.positions, np.array([COVALENT_RADII[element] for element in elements]))
    hetero = ~np.isin(elements, ["H", "C", *set(METALS) - {"Mg", "Mn", "Zn", "Ca", "Fe"}])
    beside_hetero = bonded_to(hetero, bonds)
    beside_polar_hydrogen = bonded_to(names == "HD", bonds)
    keep = elements != "H"
    return AtomTypes(
        radius=np.array([RADII.get(element, 0.0) for element in elements])[keep],
        hydrophobic=((elements == "C") & ~beside_hetero | np.isin(elements, HALOGENS))[keep],
        donor=(np.isin(elements, ["N", "O"]) & beside_polar_hydrogen | np.isin(elements, METALS))[keep],
        acceptor=np.isin(names, ["NA", "OA"])[keep],
    )


def structure_ligand(structure: Structure) -> Ligand:
    """Return the ligand of a PDBQT file, with rotors from its branches."""
    elements = [ELEMENTS[name] for name in structure.types]
    bonds = find_bonds(structure.positions, np.array([COVALENT_RADII[element] for element in elements]))
    is_heavy = heavy(structure)
    degrees = np.bincount(bonds[is_heavy[bonds].all(1)].ravel(), minlength=len(structure))
    rotatable = structure.rotatable[is_heavy[structure.rotatable].all(1)]
    return Ligand(structure_types(structure), float((degrees[rotatable] > 1).sum() / 2))


def find_bonds(positions: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the pairs of atoms closer than 1.1 times the sum of their covalent radii, int64 [pairs, 2]."""
    order = np.argsort(positions[:, 0], kind="stable")
    x, r = positions[order], radii[order]
    max_length = 2 * BOND_TOLERANCE * r.max(initial=0.0)
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for start in range(0, len(x), CHUNK_SIZE):
        stop = min(start + CHUNK_SIZE, len(x))
        end = int(np.searchsorted(x[:, 0], x[stop - 1, 0] + max_length, side="right"))
        distance = np.linalg.norm(x[start:stop, None] - x[None, start:end], axis=-1)
        near = distance < BOND_TOLERANCE * (r[start:stop, None] + r[None, start:end])
        pairs.append(np.argwhere(np.triu(near, 1)) + start)
    bonds: NDArray[np.int64] = order[np.concatenate(pairs)]
    return bonds


def bonded_to(atoms: NDArray[np.bool_], bonds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the mask of the atoms that are bonded to one in a mask, bool [n]."""
    neighbours = np.zeros_like(atoms)
    for one, other in ((0, 1), (1, 0)):
        neighbours[bonds[atoms[bonds[:, other]], one]] = True
    return neighbours


def graph_ligand(mol: Chem.Mol) -> Ligand:
    """Return the ligand of a molecular graph; hydrogens may be atoms of the graph or implicit.

    Rings are rigid, also large ones, which Meeko can open.

    Raises:
        ValueError: an element that Vina has no radius for, such as boron.
    """
    atoms = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    for atom in atoms:
        if atom.GetSymbol() not in RADII:
            raise ValueError(f"element: Vina has no radius for {atom.GetSymbol()}")
    no_acceptors = {match[0] for pattern in NO_ACCEPTORS for match in mol.GetSubstructMatches(pattern)}
    symbols = np.array([atom.GetSymbol() for atom in atoms])
    polar = np.array([any(near.GetAtomicNum() not in {1, 6} for near in atom.GetNeighbors()) for atom in atoms])
    hydrogens = np.array([atom.GetTotalNumHs(includeNeighbors=True) for atom in atoms])
    accepting = np.array([atom.GetIdx() not in no_acceptors for atom in atoms])
    types = AtomTypes(
        radius=np.array([RADII[symbol] for symbol in symbols]),
        hydrophobic=(symbols == "C") & ~polar | np.isin(symbols, HALOGENS),
        donor=np.isin(symbols, ["N", "O"]) & (hydrogens > 0) | np.isin(symbols, METALS),
        acceptor=(symbols == "N") & accepting | (symbols == "O"),
    )
    return Ligand(types, count_rotors(mol))


def count_rotors(mol: Chem.Mol) -> float:
    """Count a half for each end of a rotatable bond whose atom has another heavy neighbour."""
    ends = [mol.GetAtomWithIdx(end) for bond in rotatable_bonds(mol) for end in bond]
    return sum(heavy_degree(atom) > 1 for atom in ends) / 2


def rotatable_bonds(mol: Chem.Mol) -> list[tuple[int, int]]:
    """Return the atoms at the ends of each rotatable bond, those to a terminal OH or NH2 among them.

    Rotatable are single bonds outside rings, except amides (but not tertiary ones with two different substituents) and
    bonds beside a triple bond; an inner triple bond counts in their place.
    """
    rigid, rotatable = rigid_amides(mol), set()
    for end, first, second in mol.GetSubstructMatches(TRIPLE_END, uniquify=False):
        rigid.add(frozenset((end, first)))
        if has_other_heavy(mol.GetAtomWithIdx(second), first):
            rotatable.add(frozenset((first, second)))
    found = []
    for bond in mol.GetBonds():
        ends = (bond.GetBeginAtom(), bond.GetEndAtom())
        pair = frozenset(atom.GetIdx() for atom in ends)
        single = bond.GetBondType() == Chem.BondType.SINGLE and pair not in rigid
        if not bond.IsInRing() and (single or pair in rotatable) and all(visible_neighbours(atom) > 1 for atom in ends):
            found.append((ends[0].GetIdx(), ends[1].GetIdx()))
    return found


def rigid_amides(mol: Chem.Mol) -> set[frozenset[int]]:
    """Return the bonds from nitrogen to an amide-like carbon that are not rotatable."""
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    rigid = set()
    for nitrogen, carbon, _ in mol.GetSubstructMatches(AMIDE, uniquify=False):
        others = [
            near.GetIdx()
            for near in mol.GetAtomWithIdx(nitrogen).GetNeighbors()
            if near.GetAtomicNum() > 1 and near.GetIdx() != carbon
        ]
        if len(others) < 2 or ranks[others[0]] == ranks[others[1]]:
            rigid.add(frozenset((nitrogen, carbon)))
    return rigid


def has_other_heavy(atom: Chem.Atom, neighbour: int) -> bool:
    """Return True if the atom has a single bond to a heavy atom other than this neighbour."""
    return any(
        bond.GetBondType() == Chem.BondType.SINGLE
        and bond.GetOtherAtomIdx(atom.GetIdx()) != neighbour
        and bond.GetOtherAtom(atom).GetAtomicNum() > 1
        for bond in atom.GetBonds()
    )


def heavy_degree(atom: Chem.Atom) -> int:
    """Return the number of heavy neighbours of an atom."""
    return sum(near.GetAtomicNum() > 1 for near in atom.GetNeighbors())


def visible_neighbours(atom: Chem.Atom) -> int:
    """Return the number of neighbours of an atom, not counting hydrogens on carbon and silicon."""
    polar = atom.GetAtomicNum() in POLAR_HYDROGEN_BEARERS
    return heavy_degree(atom) + (atom.GetTotalNumHs(includeNeighbors=True) if polar else 0)
