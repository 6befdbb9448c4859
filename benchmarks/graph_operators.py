"""Crossover and mutation of molecular graphs, after Jensen 2019 (doi:10.1039/C8SC05372C), with his probabilities.

The moves are those of the paper; the code is our own and edits kekulized graphs. A child is a single closed-shell
fragment that RDKit sanitizes, so that all valences are right, or there is none. Stereo marks are dropped.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias, TypeVar

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import Descriptors

Item = TypeVar("Item")
Mutation: TypeAlias = Callable[[Chem.RWMol, np.random.Generator], None]

ORDERS = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
ORDER_SHARES = (0.60, 0.35, 0.05)
APPENDED = (("C", "N", "O", "F", "S", "Cl", "Br"), ("C", "N", "O"), ("C", "N"))  # by the order of their bond
INSERTED = (("C", "N", "O", "S"), ("C", "N"), ("C",))
ELEMENTS = {"C": 0.15, "N": 0.15, "O": 0.14, "F": 0.14, "S": 0.14, "Cl": 0.14, "Br": 0.14}
RING_SIZES = {3: 0.05, 4: 0.05, 5: 0.45, 6: 0.45}
CHANGED_ORDERS = (0.45, 0.45, 0.10)
MIN_ATOMS = 6
SIZE_MEAN, SIZE_DEVIATION = 39.15, 3.50  # heavy atoms: a child must be smaller than a number drawn anew for it
MAX_RING = 6
TRIES = 10
CUT, DUMMY = map(Chem.MolFromSmarts, ("[*]-;!@[*]", "[#0]"))
BAD_RINGS = tuple(map(Chem.MolFromSmarts, ("[R]=[R]=[R]", "[r3,r4]=[r3,r4]", "[R]#[R]")))


class NoSuchPlaceError(Exception):
    """A move finds no place in a molecule."""


def crossover(left: Chem.Mol, right: Chem.Mol, rng: np.random.Generator) -> Chem.Mol | None:
    """Return a child of a piece of each parent, joined where a bond or a ring was cut, or None if none was found."""
    parents = {Chem.MolToSmiles(parent) for parent in (left, right)}
    left, right = editable(left), editable(right)
    for _ in range(TRIES):
        cut = cut_bond if rng.random() < 0.5 else cut_ring
        try:
            child = checked(join(pick(cut(left, rng), rng), pick(cut(right, rng), rng), rng), rng)
        except NoSuchPlaceError:
            continue
        if child is not None and Chem.MolToSmiles(child) not in parents:
            return child
    return None


def mutate(mol: Chem.Mol, rng: np.random.Generator) -> Chem.Mol | None:
    """Return a molecule after one random move; None: none was found in ten tries."""
    for _ in range(TRIES):
        edited, move = editable(mol), pick(tuple(MUTATIONS), rng, tuple(MUTATIONS.values()))
        try:
            move(edited, rng)
        except NoSuchPlaceError:
            continue
        if (child := checked(edited, rng)) is not None:
            return child
    return None


def cut_bond(mol: Chem.Mol, rng: np.random.Generator) -> Sequence[Chem.Mol]:
    """Return the two pieces of a kekulized graph beside a random acyclic single bond, with a dummy atom for it."""
    first, second = pick(mol.GetSubstructMatches(CUT), rng)
    return pieces(mol, [mol.GetBondBetweenAtoms(first, second).GetIdx()])


def cut_ring(mol: Chem.Mol, rng: np.random.Generator) -> Sequence[Chem.Mol]:
    """Return the two pieces that a kekulized graph is without two random bonds of a ring, with two dummies each."""
    ring = pick(mol.GetRingInfo().BondRings(), rng)
    found = pieces(mol, rng.choice(ring, 2, replace=False).tolist())
    if [len(dummies(piece)) for piece in found] != [2, 2]:
        raise NoSuchPlaceError
    return found


def pieces(mol: Chem.Mol, bonds: Sequence[int]) -> Sequence[Chem.Mol]:
    """Return the fragments of a molecule without some bonds, whose ends get dummy atoms."""
    broken = Chem.FragmentOnBonds(mol, bonds, addDummies=True, dummyLabels=[(0, 0)] * len(bonds))
    return tuple(Chem.GetMolFrags(broken, asMols=True, sanitizeFrags=False))


def join(left: Chem.Mol, right: Chem.Mol, rng: np.random.Generator) -> Chem.RWMol:
    """Return two pieces with as many bonds between them as each has dummies, which are removed.

    One bond is single; of two, as of a ring, each is single or double.
    """
    if len(dummies(left)) != len(dummies(right)):
        raise NoSuchPlaceError
    joined = Chem.RWMol(Chem.CombineMols(left, right))
    own, other = dummies(left), [left.GetNumAtoms() + index for index in rng.permutation(dummies(right)).tolist()]
    for first, second in zip(own, other, strict=True):
        left_end, right_end = (joined.GetAtomWithIdx(index).GetNeighbors()[0].GetIdx() for index in (first, second))
        connect(joined, left_end, right_end, ORDERS[0] if len(own) == 1 else pick(ORDERS[:2], rng))
    for index in sorted(own + other, reverse=True):
        joined.RemoveAtom(index)
    return joined


def append_atom(mol: Chem.RWMol, rng: np.random.Generator) -> None:
    """Bind a new atom to one that has hydrogens for the bond."""
    order = int(rng.choice(3, p=ORDER_SHARES))
    place = pick(hydrogenated(mol, order + 1), rng)
    connect(mol, place, mol.AddAtom(Chem.Atom(pick(APPENDED[order], rng))), ORDERS[order])


def insert_atom(mol: Chem.RWMol, rng: np.random.Generator) -> None:
    """Put a new atom into a bond; its bond to one end may be multiple."""
    order, bond = int(rng.choice(3, p=ORDER_SHARES)), pick(tuple(mol.GetBonds()), rng)
    ends = rng.permutation([bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]).tolist()
    mol.RemoveBond(*ends)
    new = mol.AddAtom(Chem.Atom(pick(INSERTED[order], rng)))
    connect(mol, ends[0], new, ORDERS[order])
    connect(mol, new, ends[1], ORDERS[0])


def delete_atom(mol: Chem.RWMol, rng: np.random.Generator) -> None:
    """Remove an atom, and join its neighbours to a chain in a random order."""
    place = int(rng.integers(mol.GetNumAtoms()))
    around = [atom.GetIdx() for atom in mol.GetAtomWithIdx(place).GetNeighbors()]
    for first, second in pairwise(rng.permutation(around).tolist()):
        if mol.GetBondBetweenAtoms(first, second) is None:
            connect(mol, first, second, ORDERS[0])
    mol.RemoveAtom(place)


def change_atom(mol: Chem.RWMol, rng: np.random.Generator) -> None:
    """Turn an atom into one of another element."""
    atom = mol.GetAtomWithIdx(int(rng.integers(mol.GetNumAtoms())))
    shares = {symbol: share for symbol, share in ELEMENTS.items() if symbol != atom.GetSymbol()}
    symbol = pick(tuple(shares), rng, tuple(shares.values()))
    mol.ReplaceAtom(atom.GetIdx(), Chem.Atom(symbol))


def change_bond(mol: Chem.RWMol, rng: np.random.Generator) -> None:
    """Give a bond another order."""
    order = ORDERS[rng.choice(3, p=CHANGED_ORDERS)]
    pick([bond for bond in mol.GetBonds() if bond.GetBondType() != order], rng).SetBondType(order)


def open_ring(mol: Chem.RWMol, rng: np.random.Generator) -> None:
    """Remove a bond of a ring."""
    bond = pick([bond for bond in mol.GetBonds() if bond.IsInRing()], rng)
    mol.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())


def close_ring(mol: Chem.RWMol, rng: np.random.Generator) -> None:
    """Join two acyclic atoms with hydrogens by a single bond to a ring of three to six atoms."""
    size = pick(tuple(RING_SIZES), rng, tuple(RING_SIZES.values()))
    ends = [index for index in hydrogenated(mol, 1) if not mol.GetAtomWithIdx(index).IsInRing()]
    distances = Chem.GetDistanceMatrix(mol)
    pairs = [(one, two) for one in ends for two in ends if one < two and distances[one, two] == size - 1]
    connect(mol, *pick(pairs, rng), ORDERS[0])


MUTATIONS: dict[Mutation, float] = {
    insert_atom: 0.15,
    change_bond: 0.14,
    open_ring: 0.14,
    close_ring: 0.14,
    delete_atom: 0.14,
    change_atom: 0.14,
    append_atom: 0.15,
}


def editable(mol: Chem.Mol) -> Chem.RWMol:
    """Return a kekulized copy without stereo marks, whose hydrogens follow from its bonds."""
    copied = Chem.RWMol(mol)
    Chem.RemoveStereochemistry(copied)
    Chem.Kekulize(copied, clearAromaticFlags=True)
    for atom in copied.GetAtoms():
        atom.SetNumExplicitHs(0)
        atom.SetNoImplicit(False)
    copied.UpdatePropertyCache()
    return copied


def checked(mol: Chem.RWMol, rng: np.random.Generator) -> Chem.Mol | None:
    """Return a child as RDKit reads it back from its SMILES, or None if it is not sound."""
    with rdBase.BlockLogs():
        if Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
            return None
        child = Chem.MolFromSmiles(Chem.MolToSmiles(mol))
    return child if child is not None and is_sound(child) and has_fair_size(child, rng) else None


def is_sound(mol: Chem.Mol) -> bool:
    """Tell whether a molecule is one closed-shell fragment without large or strained unsaturated rings."""
    rings = mol.GetRingInfo().AtomRings()
    return (
        len(Chem.GetMolFrags(mol)) == 1
        and Descriptors.NumRadicalElectrons(mol) == 0
        and max(map(len, rings), default=0) <= MAX_RING
        and not any(mol.HasSubstructMatch(pattern) for pattern in BAD_RINGS)
    )


def has_fair_size(mol: Chem.Mol, rng: np.random.Generator) -> bool:
    """Tell whether a molecule has at least six atoms and fewer than a number drawn around 39."""
    return MIN_ATOMS <= mol.GetNumAtoms() < rng.normal(SIZE_MEAN, SIZE_DEVIATION)


def hydrogenated(mol: Chem.Mol, count: int) -> list[int]:
    """Return the atoms with at least so many hydrogens."""
    return [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetTotalNumHs() >= count]


def dummies(mol: Chem.Mol) -> list[int]:
    """Return the indices of the dummy atoms."""
    return [index for (index,) in mol.GetSubstructMatches(DUMMY)]


def connect(mol: Chem.RWMol, first: int, second: int, order: Chem.BondType) -> None:
    """Add a bond between two atoms that have none.

    Raises:
        NoSuchPlaceError: they have one, or are the same atom.
    """
    if first == second or mol.GetBondBetweenAtoms(first, second) is not None:
        raise NoSuchPlaceError
    mol.AddBond(first, second, order)


def pick(items: Sequence[Item], rng: np.random.Generator, shares: Sequence[float] | None = None) -> Item:
    """Return a random item; raises NoSuchPlaceError if there is none."""
    if not items:
        raise NoSuchPlaceError
    weights = None if shares is None else np.array(shares) / sum(shares)
    return items[int(rng.choice(len(items), p=weights))]
