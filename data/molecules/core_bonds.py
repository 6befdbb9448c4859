"""Bonds of molecules of which a part is given: its own bonds are known, and only open atoms of it make new ones."""

import numpy as np

from molrl.data.molecules.bonds import Reading, molecule_problem
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.orders import SearchLimitError, least_cost_orders
from molrl.data.molecules.valence import (
    CONTRACTION,
    SURELY_BONDED,
    TOLERANCE,
    allowed_sums,
    atom_types,
    candidate_edges,
    excess_lengths,
    finish,
)

ATTACH = "attach"  # category of the reason for a bond where none may be


def core_bonds(molecule: Molecule) -> Reading:
    """Read the bonds of a molecule whose first atoms are a core: the core's as given, the others by `valence_bonds`.

    Each core atom makes new bonds with exactly the sum of orders that is open at it. A new atom that is as close to
    another core atom as bonded atoms are makes the molecule unreadable ("attach"), since its geometry has a bond that
    is not allowed. Unknown charges of new atoms are 0.

    Raises ValueError for a molecule without a core.
    """
    core = molecule.core
    if core is None:
        raise ValueError(f"molecule {molecule.name!r}: no core, which core_bonds needs")
    if reason := molecule_problem(molecule):
        return Reading(None, reason)
    excess, size = excess_lengths(molecule), len(core)
    excess[:size, :size] = np.inf  # the bonds of the core are known, and its atoms as far apart as they were given
    if excess.min() < -TOLERANCE - CONTRACTION[3]:
        return Reading(None, "overlap")
    closed = np.flatnonzero(core.open == 0)
    touched = closed[(excess[closed, size:] <= SURELY_BONDED).any(1)]
    if len(touched):
        return Reading(None, f"{ATTACH}: a new bond at atom {touched[0] + 1} of the core, which is closed")
    excess[closed], excess[:, closed] = np.inf, np.inf
    sums = [allowed_sums(*kind) for kind in atom_types(molecule)]
    sums[:size] = [{int(order): 0.0} for order in core.open]
    try:
        bonds = least_cost_orders(sums, candidate_edges(excess))
    except SearchLimitError:
        return Reading(None, "bond perception")
    if bonds is None:
        return Reading(None, "valence")
    orders = np.zeros(excess.shape, dtype=np.int8)
    for edge, order in bonds:
        orders[edge.first, edge.second] = order
    first, second, order = core.bonds.T
    orders[first, second] = order
    return finish(molecule, orders)
