"""The torsion tree of a ligand: rigid fragments that turn about the rotatable bonds between them.

As AutoDock's (Morris et al. 2009, J. Comput. Chem. 30, 2785): bond lengths, angles and rings are those of a conformer,
and a torsion turns everything beyond its bond.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molrl.rewards.molecules.docking.atom_types import heavy_degree, rotatable_bonds

BONDS_APART = 3  # atoms that are at most so many bonds apart do not interact


@dataclass(frozen=True, eq=False)
class TorsionTree:
    """The fragments of a molecule of n atoms and k torsions; fragment 0 is the root, torsion i turns fragment i + 1.

    Attributes:
        fragment: that each atom belongs to, int64 [n].
        parent: fragment at the near end of each torsion, which comes before its own, int64 [k].
        bonds: atoms at the near and the far end of each torsion, int64 [k, 2].
        level: torsions between each fragment and the root, int64 [k + 1], ascending.
        moved: True for the atoms beyond each torsion, bool [k, n].
        pairs: atoms that interact with each other, as their distance can change, int64 [p, 2].
    """

    fragment: NDArray[np.int64]
    parent: NDArray[np.int64]
    bonds: NDArray[np.int64]
    level: NDArray[np.int64]
    moved: NDArray[np.bool_]
    pairs: NDArray[np.int64]

    @property
    def torsions(self) -> int:
        """Return the number of torsions."""
        return len(self.bonds)


def torsion_tree(mol: Chem.Mol) -> TorsionTree:
    """Return the torsion tree of a connected molecule of heavy atoms.

    The root is the fragment from which the tree is least deep, of these the largest. Bonds to a terminal OH or NH2 move
    no heavy atom, so they count as rotors but are no torsions.
    """
    n = mol.GetNumAtoms()
    torsions = [bond for bond in rotatable_bonds(mol) if all(heavy_degree(mol.GetAtomWithIdx(end)) > 1 for end in bond)]
    pieces = fragments(mol, torsions)
    root = min(range(pieces.max() + 1), key=lambda piece: (depth(pieces, torsions, piece), -(pieces == piece).sum()))
    order, parent, bonds = walk(pieces, torsions, root)
    fragment = np.argsort(order)[pieces]
    moved, level = np.zeros((len(bonds), n), dtype=np.bool_), np.zeros(len(order), dtype=np.int64)
    for row, above in enumerate(parent):
        level[row + 1] = level[above] + 1
    for row in reversed(range(len(bonds))):
        moved[row] |= fragment == row + 1
        if parent[row]:
            moved[parent[row] - 1] |= moved[row]
    pairs = variable_pairs(mol, fragment, bonds)
    return TorsionTree(fragment, parent, bonds, level, moved, pairs)


def fragments(mol: Chem.Mol, torsions: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Return the number of the rigid fragment of each atom, int64 [n]."""
    cut = Chem.RWMol(mol)
    for first, second in torsions:
        cut.RemoveBond(first, second)
    pieces = np.zeros(mol.GetNumAtoms(), dtype=np.int64)
    for number, atoms in enumerate(Chem.GetMolFrags(cut)):
        pieces[list(atoms)] = number
    return pieces


def walk(
    pieces: NDArray[np.int64], torsions: Sequence[tuple[int, int]], root: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the fragments in the order of a walk by levels, with the parent and the bond of each but the root."""
    order, parent, bonds, queue = [root], list[int](), list[tuple[int, int]](), deque([root])
    while queue:
        piece = queue.popleft()
        for one, other in torsions:
            for near, far in ((one, other), (other, one)):
                if pieces[near] == piece and pieces[far] not in order:
                    parent.append(order.index(piece))
                    bonds.append((near, far))
                    order.append(pieces[far])
                    queue.append(pieces[far])
    table = np.array(bonds, dtype=np.int64).reshape(-1, 2)
    return np.array(order, dtype=np.int64), np.array(parent, dtype=np.int64), table


def depth(pieces: NDArray[np.int64], torsions: Sequence[tuple[int, int]], root: int) -> int:
    """Return the largest number of torsions between a fragment and a root."""
    order, parent, _ = walk(pieces, torsions, root)
    level = [0] * len(order)
    for row, above in enumerate(parent):
        level[row + 1] = level[above] + 1
    return max(level)


def variable_pairs(mol: Chem.Mol, fragment: NDArray[np.int64], bonds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs of atoms more than three bonds apart whose distance depends on a torsion.

    That of two atoms of one fragment does not, nor that of an end of a torsion's bond from either of its fragments.
    """
    apart = np.triu(Chem.GetDistanceMatrix(mol) > BONDS_APART) & (fragment[:, None] != fragment)
    for near, far in bonds:
        for end, other in ((near, fragment[far]), (far, fragment[near])):
            apart[end, fragment == other] = apart[fragment == other, end] = False
    return np.argwhere(apart).astype(np.int64)
