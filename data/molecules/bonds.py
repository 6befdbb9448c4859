"""Bonds read off a geometry: EDM's distance tables and RDKit's bond perception, one signature for both."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from molrl.data.molecules.molecule import Molecule


class Reading(NamedTuple):
    """What a bond reader made of a molecule.

    Attributes:
        mol: sanitised molecule without explicit hydrogens, possibly several fragments, with one conformer; its heavy
            atoms stand in the order of the heavy atoms of the geometry. Perceived bonds carry no stereo marks. None
            when unreadable.
        reason: "" when `mol` is given, else why not: "no atoms", "non-finite positions", "element", "hydrogens",
            "overlap", "valence" or "bond perception".
    """

    mol: Chem.Mol | None
    reason: str


BondReader: TypeAlias = Callable[[Molecule], Reading]

# Bond lengths in picometres, margins and allowed valences of the evaluation protocol of EDM
# (Hoogeboom et al. 2022, arXiv:2203.17003, Appendix E and the published code).
SINGLE: Mapping[str, str] = {
    "H": "H74 C109 N101 O96 F92 B119 Si148 P144 As152 S134 Cl127 Br141 I161",
    "C": "C154 N147 O143 F135 Si185 P184 S182 Cl177 Br194 I214",
    "N": "N145 O140 F136 P177 S168 Cl175 Br214 I222",
    "O": "O148 F142 Si163 P163 S151 Cl164 Br172 I194",
    "F": "F142 Si160 P156 S158 Cl166 Br178 I187",
    "B": "Cl175",
    "Si": "Si233 S200 Cl202 Br215 I243",
    "P": "P221 S210 Cl203 Br222",
    "S": "S204 Cl207 Br225 I234",
    "Cl": "Cl199 Br214",
    "Br": "Br228",
    "I": "I266",
}
DOUBLE: Mapping[str, str] = {"C": "C134 N129 O120 S160", "N": "N125 O121", "O": "O121 P150", "P": "S186"}
TRIPLE: Mapping[str, str] = {"C": "C120 N116 O113", "N": "N110"}
MARGINS = (10.0, 5.0, 3.0)  # of single, double and triple bonds
CONNECTION_MARGIN = 15.0  # of a single bond when only connectivity is asked for
VALENCES: Mapping[str, tuple[int, ...]] = {
    **{"H": (1,), "C": (4,), "N": (3,), "O": (2,), "F": (1,), "B": (3,), "Al": (3,), "Si": (4,), "P": (3, 5)},
    **{"S": (4,), "Cl": (1,), "As": (3,), "Br": (1,), "I": (1,), "Hg": (1, 2), "Bi": (3, 5)},
}

HEAVIEST = 118
CLOSEST = 40.0  # pm between two atoms; the shortest bond, of two hydrogens, has 74
MAX_ITERATIONS = 1000  # RDKit's own default is no limit, and inputs are known that run for ever (rdkit issue 9227)
MAX_HYDROGENS = 5  # on one atom: no allowed valence is larger
ORDERS = (Chem.BondType.ZERO, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)


def length_table(rows: Mapping[str, str]) -> NDArray[np.float64]:
    """Symmetric bond lengths by atomic number, pm [119, 119]; -inf for unlisted pairs, which are then never bonded."""
    number = Chem.GetPeriodicTable().GetAtomicNumber
    lengths = np.full((HEAVIEST + 1, HEAVIEST + 1), -np.inf)
    for first, entries in rows.items():
        for entry in entries.split():
            second = entry.rstrip("0123456789")
            i, j = number(first), number(second)
            lengths[i, j] = lengths[j, i] = float(entry.removeprefix(second))
    return lengths


def valence_table() -> NDArray[np.bool_]:
    """Whether an element may have a sum of bond orders, bool [119, 17]; the last column stands for anything larger."""
    allowed = np.zeros((HEAVIEST + 1, 17), dtype=np.bool_)
    for symbol, valences in VALENCES.items():
        allowed[Chem.GetPeriodicTable().GetAtomicNumber(symbol), list(valences)] = True
    return allowed


SINGLE_LENGTHS = length_table(SINGLE)
THRESHOLDS = np.stack(
    [length_table(rows) + margin for rows, margin in zip((SINGLE, DOUBLE, TRIPLE), MARGINS, strict=True)]
)
ALLOWED = valence_table()


def edm_table(molecule: Molecule) -> Reading:
    """Read bonds off EDM's distance tables, whatever atoms are there; hydrogen counts are ignored.

    Atoms with too few bonds are filled up with hydrogens by RDKit's sanitisation, as in EDM's own validity; atoms with
    too many make the molecule unreadable. The table is symmetric, also for C=S, which EDM's code finds in one order
    of the atoms only.
    """
    if reason := unreadable(molecule):
        return Reading(None, reason)
    if molecule.graph is not None:
        return given_graph(molecule.graph)
    orders = bond_orders(molecule)
    mol = assemble(molecule, orders)
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol)  # while the hydrogens still count: without them CH6 would pass as methane
            return Reading(Chem.RemoveHs(mol), "")
        except ValueError:
            return Reading(None, "valence")


def rdkit_bonds(molecule: Molecule) -> Reading:
    """Perceive the bonds of a neutral molecule with RDKit's rdDetermineBonds, bounded by `MAX_ITERATIONS`.

    All atoms: connectivity and orders from RDKit. With hydrogen counts: atoms closer than EDM's single bond plus 15 pm
    are connected, the hydrogens are attached, and RDKit decides the orders from the graph alone; on QM9 this gives
    99.8 % of the graphs where the table gives 95.8 % (aromatic molecules: 99.6 against 82.7 %).

    The hydrogens are taken at their word: a carbene, which RDKit would fill up to a saturated carbon, is unreadable.
    So are atoms on top of each other, which RDKit would bond.
    """
    if reason := unreadable(molecule):
        return Reading(None, reason)
    if molecule.graph is not None:
        return given_graph(molecule.graph)
    if distances(molecule.positions).min() < CLOSEST:
        return Reading(None, "overlap")
    with rdBase.BlockLogs():
        try:
            if molecule.hydrogens is None:
                mol = assemble(molecule, None)
                rdDetermineBonds.DetermineBonds(mol, charge=0, embedChiral=False, maxIterations=MAX_ITERATIONS)
            else:
                mol = with_hydrogens(molecule, molecule.hydrogens)
                rdDetermineBonds.DetermineBondOrders(
                    mol, charge=0, allowChargedFragments=True, embedChiral=False, maxIterations=MAX_ITERATIONS
                )
            read = Chem.RemoveHs(mol)
        except (ValueError, RuntimeError):
            return Reading(None, "bond perception")
    implicit = 0 if molecule.hydrogens is None else int(molecule.hydrogens.sum())
    given = int((molecule.numbers == 1).sum()) + implicit
    return Reading(read, "") if hydrogen_total(read) == given else Reading(None, "valence")


def hydrogen_total(mol: Chem.Mol) -> int:
    """Hydrogens of a molecule, those that are atoms of it included."""
    return sum(atom.GetTotalNumHs() + (atom.GetAtomicNum() == 1) for atom in mol.GetAtoms())


def stable_atoms(molecule: Molecule) -> NDArray[np.bool_]:
    """Whether each atom has an allowed sum of bond orders in EDM's table, bool [n].

    With hydrogen counts these are added to the orders between heavy atoms. Every atom of a molecule that has a
    non-finite position or an unknown element is unstable.
    """
    if len(molecule) == 0 or unreadable(molecule):
        return np.zeros(len(molecule), dtype=np.bool_)
    valence = bond_orders(molecule).sum(1, dtype=np.int64)
    if molecule.hydrogens is not None:
        valence += molecule.hydrogens
    allowed: NDArray[np.bool_] = ALLOWED[molecule.numbers, np.minimum(valence, ALLOWED.shape[1] - 1)]
    return allowed


def connected(mol: Chem.Mol) -> bool:
    """Whether the molecule is one fragment; an empty one is not."""
    return mol.GetNumAtoms() > 0 and len(Chem.GetMolFrags(mol)) == 1


def unreadable(molecule: Molecule) -> str:
    """Why no reader can say anything about the molecule; "" when one can."""
    if len(molecule) == 0:
        return "no atoms"
    if not np.isfinite(molecule.positions).all():
        return "non-finite positions"
    if molecule.numbers.min() < 1 or molecule.numbers.max() > HEAVIEST:
        return "element"
    hydrogens = molecule.hydrogens
    if hydrogens is not None and (hydrogens.min() < 0 or hydrogens.max() > MAX_HYDROGENS):
        return "hydrogens"
    return ""


def distances(positions: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distances between all atoms in picometres [n, n]; infinite on the diagonal."""
    x = positions.astype(np.float64) * 100.0
    difference = x[:, None] - x[None]  # [n, n, 3]
    distance: NDArray[np.float64] = np.sqrt(np.einsum("ijk,ijk->ij", difference, difference))
    np.fill_diagonal(distance, np.inf)
    return distance


def bond_orders(molecule: Molecule) -> NDArray[np.int8]:
    """Bond orders 0 to 3 of EDM's table [n, n]; each order is possible only inside the previous one."""
    numbers = molecule.numbers
    distance = distances(molecule.positions)
    single: NDArray[np.bool_] = distance < THRESHOLDS[0][numbers[:, None], numbers]
    double = single & (distance < THRESHOLDS[1][numbers[:, None], numbers])
    triple = double & (distance < THRESHOLDS[2][numbers[:, None], numbers])
    orders: NDArray[np.int8] = single.astype(np.int8) + double + triple
    return orders


def assemble(molecule: Molecule, orders: NDArray[np.int8] | None) -> Chem.RWMol:
    """RDKit molecule of the atoms, their positions and, if given, their bonds; not sanitised."""
    mol = Chem.RWMol()
    for number in molecule.numbers.tolist():
        mol.AddAtom(Chem.Atom(number))
    if orders is not None:
        first, second = np.nonzero(np.triu(orders))
        for i, j, order in zip(first.tolist(), second.tolist(), orders[first, second].tolist(), strict=True):
            mol.AddBond(i, j, ORDERS[order])
    conformer = Chem.Conformer(len(molecule))
    conformer.SetPositions(molecule.positions.astype(np.float64))
    mol.AddConformer(conformer)
    return mol


def with_hydrogens(molecule: Molecule, hydrogens: NDArray[np.int64]) -> Chem.RWMol:
    """RDKit molecule of the heavy atoms, singly bonded where close, with the hydrogens of each attached as atoms."""
    numbers = molecule.numbers
    close = distances(molecule.positions) < SINGLE_LENGTHS[numbers[:, None], numbers] + CONNECTION_MARGIN
    mol = assemble(molecule, close.astype(np.int8))
    for atom in np.repeat(np.arange(len(molecule)), hydrogens).tolist():
        mol.AddBond(atom, mol.AddAtom(Chem.Atom(1)), Chem.BondType.SINGLE)
    return mol


def given_graph(graph: Chem.Mol) -> Reading:
    """The bonds that came with the molecule, its hydrogens made implicit."""
    with rdBase.BlockLogs():
        try:
            return Reading(Chem.RemoveHs(graph), "")
        except ValueError:
            return Reading(None, "valence")
