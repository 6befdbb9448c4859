"""Bonds from atom types: element, implicit hydrogens and formal charge fix the sum of the bond orders at each atom."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from molrl.data.molecules.bonds import (
    MAX_ATOMIC_NUMBER,
    Reading,
    assemble,
    molecule_problem,
    pair_distances,
    read_graph,
)
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.orders import Costs, Edge, SearchLimitError, least_cost_orders

PERIODIC_TABLE = Chem.GetPeriodicTable()
RADII = 100.0 * np.array([PERIODIC_TABLE.GetRcovalent(number) for number in range(MAX_ATOMIC_NUMBER + 1)])
"""Covalent radii by atomic number, pm (Cordero et al. 2008, doi:10.1039/b801115j)."""

CONTRACTION = {order: 71.0 * np.log10(order) for order in (1, 2, 3)}
"""The length that a bond of each order lacks to a single bond, pm, in the form of Pauling (1947,
doi:10.1021/ja01195a024); the factor leads from ethane, 154 pm, to acetylene, 120 pm."""

# All in pm. In MMFF geometries of 10,000 drug-like molecules bond lengths differ from the estimates by -26 to +28,
# single bonds exceed them by at most 17, and other atoms are at least 37 further apart than a single bond
# (docs/results/bonds.md). Noise of 0.05 angstrom in each coordinate gives a distance a standard deviation of 7.
TOLERANCE = 45.0  # largest difference between the length of a bond and its estimate
SURELY_BONDED = 15.0  # atoms are bonded unless they are further apart than a single bond by more than this
CONTACT = 60.0  # typical excess over a single bond for the closest atoms without a bond, across a ring of four
PER_VALENCE = 1e9  # pm^2, the cost of the next higher valence: more than all lengths of a molecule can cost
PER_DEFECT = 1e13  # pm^2, the cost of an atom without an allowed valence: more than all valences of a molecule can cost
MAX_SUM = 6  # of bond orders at such an atom

SANITISATION = Chem.SanitizeFlags.SANITIZE_ALL ^ Chem.SanitizeFlags.SANITIZE_CLEANUP  # which would change charges


def valence_bonds(molecule: Molecule) -> Reading:
    """Read the bonds of a molecule whose formal charges are known, and with them its hydrogens: as counts or as atoms.

    The bond orders at an atom sum to a valence of its element, less its hydrogens. A charged atom has the valences of
    the neutral element with as many electrons: N+ those of carbon, O- that of fluorine (RDKit's model and table). Of
    all bonds with such sums, `least_cost_orders` finds those that need the lowest valences of S, P and the like, and
    then fit the distances best: the sum of squared differences from estimated bond lengths is least.

    Atoms closer than a single bond and `SURELY_BONDED` are bonded, and no bond differs from the estimate for its order
    by more than `TOLERANCE`. A molecule without such bonds is unreadable: nothing is added, moved or left unpaired.
    The stereo marks are those of the geometry.

    Raises ValueError for a molecule without charges.
    """
    if reason := molecule_problem(molecule):
        return Reading(None, reason)
    if molecule.graph is not None:
        return read_graph(molecule.graph)
    if molecule.charges is None:
        raise ValueError(f"molecule {molecule.name!r}: no formal charges, which valence_bonds needs")
    excess = excess_lengths(molecule)
    if excess.min() < -TOLERANCE - CONTRACTION[3]:
        return Reading(None, "overlap")
    sums = [allowed_sums(*atom_type) for atom_type in atom_types(molecule)]
    try:
        bonds = least_cost_orders(sums, candidate_edges(excess))
    except SearchLimitError:
        return Reading(None, "bond perception")
    if bonds is None:
        return Reading(None, "valence")
    orders = np.zeros(excess.shape, dtype=np.int8)
    for edge, order in bonds:
        orders[edge.first, edge.second] = order
    return finish(molecule, orders)


class Defects(NamedTuple):
    """The defects that keep atoms from being one connected molecule with allowed valences.

    Attributes:
        atoms: fewest atoms without an allowed valence.
        fragments: parts without a bond between them, under bonds that leave so few.
    """

    atoms: int
    fragments: int


def count_defects(molecule: Molecule) -> Defects | None:
    """Count the atoms that have no allowed valence under the bonds that leave fewest of them, and the fragments.

    The bonds are those of `valence_bonds` where there are such, and else the best of those that give some atoms any sum
    of orders up to `MAX_SUM`. None where two atoms lie on each other, or the search would be too long.

    Raises ValueError for a molecule without charges.
    """
    if molecule.charges is None:
        raise ValueError(f"molecule {molecule.name!r}: no formal charges, which fix the valences")
    excess = excess_lengths(molecule)
    if excess.min() < -TOLERANCE - CONTRACTION[3]:
        return None
    allowed = [allowed_sums(*atom_type) for atom_type in atom_types(molecule)]
    anything = dict.fromkeys(range(MAX_SUM + 1), PER_DEFECT)
    try:
        bonds = least_cost_orders([anything | dict(sums) for sums in allowed], candidate_edges(excess))
    except SearchLimitError:
        return None
    orders = np.zeros(excess.shape, dtype=np.int64)
    for edge, order in bonds or ():
        orders[edge.first, edge.second] = orders[edge.second, edge.first] = order
    defects = sum(total not in sums for sums, total in zip(allowed, orders.sum(0).tolist(), strict=True))
    return None if bonds is None else Defects(defects, count_fragments(orders > 0))


def count_fragments(bonded: NDArray[np.bool_]) -> int:
    """Count the parts of a molecule between which there is no bond, from a symmetric bool [n, n]."""
    left, count = set(range(len(bonded))), 0
    while left:
        reached = {left.pop()}
        count += 1
        while reached:
            found = set(np.flatnonzero(bonded[list(reached)].any(0)).tolist()) & left
            left, reached = left - found, found
    return count


def excess_lengths(molecule: Molecule) -> NDArray[np.float64]:
    """Return the distance of each two atoms less the length of a single bond, pm [n, n]; infinite on the diagonal."""
    radii = RADII[molecule.numbers]
    return pair_distances(molecule.positions) - radii[:, None] - radii


def atom_types(molecule: Molecule) -> Iterator[tuple[int, int, int]]:
    """Yield the atomic number, the formal charge and the implicit hydrogens of each atom."""
    none = np.zeros(len(molecule), dtype=np.int64)
    charges = none if molecule.charges is None else molecule.charges
    hydrogens = none if molecule.hydrogens is None else molecule.hydrogens
    return zip(molecule.numbers.tolist(), charges.tolist(), hydrogens.tolist(), strict=True)


@lru_cache(maxsize=4096)
def allowed_sums(number: int, charge: int, hydrogens: int) -> Costs:
    """Return the sums of bond orders to other atoms that an atom type may have; each but the lowest has a cost.

    Elements without any listed valence, most metals, may be ions without bonds.
    """
    valences = listed_valences(number - charge) or ([] if listed_valences(number) else [0])
    return {valence - hydrogens: step * PER_VALENCE for step, valence in enumerate(valences) if valence >= hydrogens}


def listed_valences(number: int) -> list[int]:
    """Return the valences of a neutral element in RDKit's table, lowest first; -1 there means any, and is left out."""
    return [valence for valence in PERIODIC_TABLE.GetValenceList(number) if valence >= 0]


def candidate_edges(excess: NDArray[np.float64]) -> list[Edge]:
    """Return all pairs of atoms that may have a bond, with the cost of each possible order.

    Args:
        excess: of the distance of two atoms over the length of a single bond, pm [n, n].
    """
    first, second = np.nonzero(np.triu(excess <= TOLERANCE))
    return [
        Edge(i, j, order_costs(length))
        for i, j, length in zip(first.tolist(), second.tolist(), excess[first, second].tolist(), strict=True)
    ]


def order_costs(excess: float) -> Costs:
    """Return the squared difference from the estimated distance, pm^2, for each possible order of a bond."""
    costs = {0: (excess - CONTACT) ** 2} if excess > SURELY_BONDED else {}
    for order, contraction in CONTRACTION.items():
        if abs(excess + contraction) <= TOLERANCE:
            costs[order] = (excess + contraction) ** 2
    return costs


def finish(molecule: Molecule, orders: NDArray[np.int8]) -> Reading:
    """Return the molecule with these bond orders [n, n], its types, and the stereo marks of its geometry."""
    mol = assemble(molecule, orders)
    for atom, (_, charge, hydrogens) in zip(mol.GetAtoms(), atom_types(molecule), strict=True):
        atom.SetFormalCharge(charge)
        atom.SetNumExplicitHs(hydrogens)
        atom.SetNoImplicit(True)
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol, SANITISATION)
            heavy = Chem.RemoveHs(mol, sanitize=False) if 1 in molecule.numbers else mol.GetMol()
            Chem.AssignStereochemistryFrom3D(heavy)
        except (ValueError, RuntimeError):
            return Reading(None, "valence")
    return Reading(heavy, "")
