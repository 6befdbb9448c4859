"""What Vina knows of an atom: radius, hydrophobic, donor, acceptor; and how many rotors a ligand has.

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
BOND_ALLOWANCE = 1.1  # bonds are shorter than this times the sum of the covalent radii
HALOGENS = ("F", "Cl", "Br", "I")
CHUNK = 64  # atoms whose neighbours are looked for at a time

# Nitrogens that accept no hydrogen bond: pyrroles and anilines, amides and amidines, triazenes, cations
NO_ACCEPTORS = tuple(
    Chem.MolFromSmarts(pattern)
    for pattern in ("[#7X3v3][a]", "[#7X3v3][#6X3v4]", "[#7X3v3][NX2]=[*]", "[#7+1]")  # X and v count hydrogens
)
AMIDE = Chem.MolFromSmarts("[NX3]-[CX3]=[O,N,S]")  # amidines too
TRIPLE_END = Chem.MolFromSmarts("*-[*]#[*]")
POLAR_HYDROGEN_BEARERS = frozenset((7, 8, 9, 15, 16))


class Kinds(NamedTuple):
    """What the scoring function asks of n atoms: radius in angstrom, float64 [n]; the rest bool [n]."""

    radius: NDArray[np.float64]
    hydrophobic: NDArray[np.bool_]
    donor: NDArray[np.bool_]
    acceptor: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Ligand:
    """The heavy atoms of a molecule as the scoring function sees them.

    Attributes:
        kinds: of the heavy atoms.
        rotors: how many bonds turn; those to a terminal OH or NH2 count a half, those to a methyl nothing.
    """

    kinds: Kinds
    rotors: float

    def __len__(self) -> int:
        return len(self.kinds.radius)


def heavy(structure: Structure) -> NDArray[np.bool_]:
    """Which atoms of a structure are no hydrogens, bool [n]."""
    return np.array([ELEMENTS[kind] != "H" for kind in structure.types], dtype=np.bool_)


def structure_kinds(structure: Structure) -> Kinds:
    """The kinds of the heavy atoms of a structure; what is attach_bonds is read off the distances."""
    elements = np.array([ELEMENTS[kind] for kind in structure.types])
    types = np.array(structure.types)
    bonds = attach_bonds(structure.positions, np.array([COVALENT_RADII[element] for element in elements]))
    hetero = ~np.isin(elements, ["H", "C", *set(METALS) - {"Mg", "Mn", "Zn", "Ca", "Fe"}])
    beside_hetero = beside(hetero, bonds)
    beside_polar_hydrogen = beside(types == "HD", bonds)
    keep = elements != "H"
    return Kinds(
        radius=np.array([RADII.get(element, 0.0) for element in elements])[keep],
        hydrophobic=((elements == "C") & ~beside_hetero | np.isin(elements, HALOGENS))[keep],
        donor=(np.isin(elements, ["N", "O"]) & beside_polar_hydrogen | np.isin(elements, METALS))[keep],
        acceptor=np.isin(types, ["NA", "OA"])[keep],
    )


def structure_ligand(structure: Structure) -> Ligand:
    """A ligand as its PDBQT file has it, rotors from its branches."""
    elements = [ELEMENTS[kind] for kind in structure.types]
    bonds = attach_bonds(structure.positions, np.array([COVALENT_RADII[element] for element in elements]))
    is_heavy = heavy(structure)
    partners = np.bincount(bonds[is_heavy[bonds].all(1)].ravel(), minlength=len(structure))
    turning = structure.rotatable[is_heavy[structure.rotatable].all(1)]
    return Ligand(structure_kinds(structure), float((partners[turning] > 1).sum() / 2))


def attach_bonds(positions: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pairs of atoms closer than 1.1 times the sum of their covalent radii, int64 [pairs, 2]."""
    order = np.argsort(positions[:, 0], kind="stable")
    x, r = positions[order], radii[order]
    reach = 2 * BOND_ALLOWANCE * r.max(initial=0.0)
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for start in range(0, len(x), CHUNK):
        stop = min(start + CHUNK, len(x))
        end = int(np.searchsorted(x[:, 0], x[stop - 1, 0] + reach, side="right"))
        distance = np.linalg.norm(x[start:stop, None] - x[None, start:end], axis=-1)
        near = distance < BOND_ALLOWANCE * (r[start:stop, None] + r[None, start:end])
        pairs.append(np.argwhere(np.triu(near, 1)) + start)
    found: NDArray[np.int64] = order[np.concatenate(pairs)]
    return found


def beside(wanted: NDArray[np.bool_], bonds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which atoms are attach_bonds to a wanted one, bool [n]."""
    found = np.zeros_like(wanted)
    for here, there in ((0, 1), (1, 0)):
        found[bonds[wanted[bonds[:, there]], here]] = True
    return found


def graph_ligand(mol: Chem.Mol) -> Ligand:
    """A ligand as its molecular graph has it; hydrogens may be atoms of the graph or implicit.

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
    kinds = Kinds(
        radius=np.array([RADII[symbol] for symbol in symbols]),
        hydrophobic=(symbols == "C") & ~polar | np.isin(symbols, HALOGENS),
        donor=np.isin(symbols, ["N", "O"]) & (hydrogens > 0) | np.isin(symbols, METALS),
        acceptor=(symbols == "N") & accepting | (symbols == "O"),
    )
    return Ligand(kinds, rotors(mol))


def rotors(mol: Chem.Mol) -> float:
    """Half an end of a rotatable bond for each that leads to an atom with another heavy neighbour.

    Rotatable are single bonds outside rings, except amides (but not tertiary ones with two different substituents) and
    bonds beside a triple bond; an inner triple bond turns in their place.
    """
    stiff, turning = rigid_amides(mol), set()
    for end, first, second in mol.GetSubstructMatches(TRIPLE_END, uniquify=False):
        stiff.add(frozenset((end, first)))
        if continues(mol.GetAtomWithIdx(second), first):
            turning.add(frozenset((first, second)))
    total = 0.0
    for bond in mol.GetBonds():
        pair = frozenset((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        single = bond.GetBondType() == Chem.BondType.SINGLE and pair not in stiff
        if bond.IsInRing() or not (single or pair in turning):
            continue
        ends = (bond.GetBeginAtom(), bond.GetEndAtom())
        if all(visible_neighbours(atom) > 1 for atom in ends):
            total += sum(heavy_degree(atom) > 1 for atom in ends) / 2
    return total


def rigid_amides(mol: Chem.Mol) -> set[frozenset[int]]:
    """Bonds from nitrogen to an amide-like carbon that do not turn."""
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    stiff = set()
    for nitrogen, carbon, _ in mol.GetSubstructMatches(AMIDE, uniquify=False):
        others = [
            near.GetIdx()
            for near in mol.GetAtomWithIdx(nitrogen).GetNeighbors()
            if near.GetAtomicNum() > 1 and near.GetIdx() != carbon
        ]
        if len(others) < 2 or ranks[others[0]] == ranks[others[1]]:
            stiff.add(frozenset((nitrogen, carbon)))
    return stiff


def continues(atom: Chem.Atom, before: int) -> bool:
    """Whether the atom is singly attach_bonds to a heavy one that it was not reached from."""
    return any(
        bond.GetBondType() == Chem.BondType.SINGLE
        and bond.GetOtherAtomIdx(atom.GetIdx()) != before
        and bond.GetOtherAtom(atom).GetAtomicNum() > 1
        for bond in atom.GetBonds()
    )


def heavy_degree(atom: Chem.Atom) -> int:
    """Heavy neighbours of an atom."""
    return sum(near.GetAtomicNum() > 1 for near in atom.GetNeighbors())


def visible_neighbours(atom: Chem.Atom) -> int:
    """Neighbours of an atom when hydrogens on carbon and silicon have been merged into their atoms."""
    polar = atom.GetAtomicNum() in POLAR_HYDROGEN_BEARERS
    return heavy_degree(atom) + (atom.GetTotalNumHs(includeNeighbors=True) if polar else 0)
