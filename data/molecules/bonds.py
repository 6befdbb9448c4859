"""Bond perception from a geometry: EDM's distance tables and RDKit's algorithm, with one signature."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from molrl.data.molecules.hypervalent import uncharge_hypervalent
from molrl.data.molecules.molecule import Molecule, max_hydrogen_distance


class Reading(NamedTuple):
    """The result of reading the bonds of a molecule.

    Attributes:
        mol: sanitised molecule without explicit hydrogens, possibly several fragments, with one conformer; its heavy
            atoms are in the order of the heavy atoms of the geometry. Its stereo marks are those of a given graph, or
            those of the geometry if `perceive_bonds` or `valence_bonds` read it; the other readers set none. None if
            unreadable.
        reason: "" if `mol` is given, otherwise why not: "no atoms", "non-finite positions", "element", "hydrogens",
            "charges", "overlap", "valence" or "bond perception".
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
CONNECTION_MARGIN = 15.0  # of a single bond where only connectivity is needed
VALENCES: Mapping[str, tuple[int, ...]] = {
    **{"H": (1,), "C": (4,), "N": (3,), "O": (2,), "F": (1,), "B": (3,), "Al": (3,), "Si": (4,), "P": (3, 5)},
    **{"S": (4,), "Cl": (1,), "As": (3,), "Br": (1,), "I": (1,), "Hg": (1, 2), "Bi": (3, 5)},
}

MAX_ATOMIC_NUMBER = 118
MIN_DISTANCE = 40.0  # pm between two atoms; the shortest bond, of two hydrogens, has 74
MAX_ITERATIONS = 1000  # RDKit's default is no limit, and some inputs never end (rdkit issue 9227)
MAX_HYDROGENS = 5  # on one atom: no allowed valence is larger
MAX_CHARGE = 4  # of one atom, of either sign
BOND_TYPES = (Chem.BondType.ZERO, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)


def length_table(rows: Mapping[str, str]) -> NDArray[np.float64]:
    """Return symmetric bond lengths by atomic number, pm [119, 119]; -inf for unlisted pairs, which never bond."""
    number = Chem.GetPeriodicTable().GetAtomicNumber
    lengths = np.full((MAX_ATOMIC_NUMBER + 1, MAX_ATOMIC_NUMBER + 1), -np.inf)
    for first, entries in rows.items():
        for entry in entries.split():
            second = entry.rstrip("0123456789")
            i, j = number(first), number(second)
            lengths[i, j] = lengths[j, i] = float(entry.removeprefix(second))
    return lengths


def valence_table() -> NDArray[np.bool_]:
    """Return which sums of bond orders each element may have, bool [119, 17]; the last column is anything larger."""
    allowed = np.zeros((MAX_ATOMIC_NUMBER + 1, 17), dtype=np.bool_)
    for symbol, valences in VALENCES.items():
        allowed[Chem.GetPeriodicTable().GetAtomicNumber(symbol), list(valences)] = True
    return allowed


SINGLE_LENGTHS = length_table(SINGLE)
THRESHOLDS = np.stack(
    [length_table(rows) + margin for rows, margin in zip((SINGLE, DOUBLE, TRIPLE), MARGINS, strict=True)]
)
ALLOWED = valence_table()


def edm_table(molecule: Molecule) -> Reading:
    """Read bonds from EDM's distance tables; hydrogen counts are ignored.

    RDKit's sanitisation adds hydrogens to atoms with too few bonds, as in EDM's definition of validity; atoms with too
    many make the molecule unreadable. The table is symmetric, also for C=S, which EDM's code finds in only one order
    of the atoms.
    """
    if reason := molecule_problem(molecule):
        return Reading(None, reason)
    if molecule.graph is not None:
        return read_graph(molecule.graph)
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

    RDKit's charges are removed where a hypervalent form has none, see `uncharge_hypervalent`.

    No hydrogens are added: a carbene, which RDKit would complete to a saturated carbon, is unreadable. So are atoms on
    top of each other, which RDKit would bond.
    """
    if reason := molecule_problem(molecule):
        return Reading(None, reason)
    if molecule.graph is not None:
        return read_graph(molecule.graph)
    if pair_distances(molecule.positions).min() < MIN_DISTANCE:
        return Reading(None, "overlap")
    with rdBase.BlockLogs():
        try:
            if molecule.hydrogens is None:
                mol = assemble(molecule, None)
                rdDetermineBonds.DetermineBonds(mol, charge=0, embedChiral=False, maxIterations=MAX_ITERATIONS)
            else:
                mol = connect_with_hydrogens(molecule, molecule.hydrogens)
                rdDetermineBonds.DetermineBondOrders(
                    mol, charge=0, allowChargedFragments=True, embedChiral=False, maxIterations=MAX_ITERATIONS
                )
            heavy = Chem.RemoveHs(uncharge_hypervalent(mol))
        except (ValueError, RuntimeError):
            return Reading(None, "bond perception")
    implicit = 0 if molecule.hydrogens is None else int(molecule.hydrogens.sum())
    given = int((molecule.numbers == 1).sum()) + implicit
    return Reading(heavy, "") if hydrogen_total(heavy) == given else Reading(None, "valence")


def hydrogen_total(mol: Chem.Mol) -> int:
    """Return the number of hydrogens of a molecule, implicit or atoms."""
    return sum(atom.GetTotalNumHs() + (atom.GetAtomicNum() == 1) for atom in mol.GetAtoms())


def stable_atoms(molecule: Molecule) -> NDArray[np.bool_]:
    """Return which atoms have an allowed sum of bond orders in EDM's table, bool [n].

    With hydrogen counts these are added to the orders between heavy atoms. Every atom of a molecule that has a
    non-finite position or an unknown element is unstable.
    """
    if len(molecule) == 0 or molecule_problem(molecule):
        return np.zeros(len(molecule), dtype=np.bool_)
    valence = bond_orders(molecule).sum(1, dtype=np.int64)
    if molecule.hydrogens is not None:
        valence += molecule.hydrogens
    allowed: NDArray[np.bool_] = ALLOWED[molecule.numbers, np.minimum(valence, ALLOWED.shape[1] - 1)]
    return allowed


def is_connected(mol: Chem.Mol) -> bool:
    """Tell whether the molecule is one fragment; an empty one is not."""
    return mol.GetNumAtoms() > 0 and len(Chem.GetMolFrags(mol)) == 1


def molecule_problem(molecule: Molecule) -> str:
    """Return why no reader can read the molecule, or "" if one may."""
    if len(molecule) == 0:
        return "no atoms"
    if not np.isfinite(molecule.positions).all():
        return "non-finite positions"
    if molecule.numbers.min() < 1 or molecule.numbers.max() > MAX_ATOMIC_NUMBER:
        return "element"
    hydrogens = molecule.hydrogens
    if hydrogens is not None and (hydrogens.min() < 0 or hydrogens.max() > MAX_HYDROGENS):
        return "hydrogens"
    charges = molecule.charges
    return "" if charges is None or np.array_equal(charges, limit_charges(charges, molecule.numbers)) else "charges"


def limit_charges(charges: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return charges cut to `MAX_CHARGE`, and to what leaves no atom with less than 0 or more than 118 electrons."""
    return charges.clip(np.maximum(numbers - MAX_ATOMIC_NUMBER, -MAX_CHARGE), np.minimum(numbers, MAX_CHARGE))


def pair_distances(positions: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the distances between all atoms in picometres [n, n]; infinite on the diagonal.

    Args:
        positions: angstrom [n, 3].
    """
    x = positions.astype(np.float64) * 100.0
    difference = x[:, None] - x[None]  # [n, n, 3]
    distance: NDArray[np.float64] = np.sqrt(np.einsum("ijk,ijk->ij", difference, difference))
    np.fill_diagonal(distance, np.inf)
    return distance


def bond_orders(molecule: Molecule) -> NDArray[np.int8]:
    """Return the bond orders 0 to 3 of EDM's table [n, n]; each order requires the one below."""
    numbers = molecule.numbers
    distance = pair_distances(molecule.positions)
    single: NDArray[np.bool_] = distance < THRESHOLDS[0][numbers[:, None], numbers]
    double = single & (distance < THRESHOLDS[1][numbers[:, None], numbers])
    triple = double & (distance < THRESHOLDS[2][numbers[:, None], numbers])
    orders: NDArray[np.int8] = single.astype(np.int8) + double + triple
    return orders


def assemble(molecule: Molecule, orders: NDArray[np.int8] | None) -> Chem.RWMol:
    """Build an unsanitised RDKit molecule of the atoms, their positions and, if given, their bond orders [n, n]."""
    mol = Chem.RWMol()
    for number in molecule.numbers.tolist():
        mol.AddAtom(Chem.Atom(number))
    if orders is not None:
        first, second = np.nonzero(np.triu(orders))
        for i, j, order in zip(first.tolist(), second.tolist(), orders[first, second].tolist(), strict=True):
            mol.AddBond(i, j, BOND_TYPES[order])
    conformer = Chem.Conformer(len(molecule))
    conformer.SetPositions(molecule.positions.astype(np.float64))
    mol.AddConformer(conformer)
    return mol


def connect_with_hydrogens(molecule: Molecule, hydrogens: NDArray[np.int64]) -> Chem.RWMol:
    """Connect close heavy atoms by single bonds, and attach the hydrogens of each as atoms."""
    numbers = molecule.numbers
    close = pair_distances(molecule.positions) < SINGLE_LENGTHS[numbers[:, None], numbers] + CONNECTION_MARGIN
    mol = assemble(molecule, close.astype(np.int8))
    for atom in np.repeat(np.arange(len(molecule)), hydrogens).tolist():
        mol.AddBond(atom, mol.AddAtom(Chem.Atom(1)), Chem.BondType.SINGLE)
    return mol


def read_graph(graph: Chem.Mol) -> Reading:
    """Return the bonds that came with the molecule, its hydrogens made implicit."""
    with rdBase.BlockLogs():
        try:
            return Reading(Chem.RemoveHs(graph), "")
        except ValueError:
            return Reading(None, "valence")


def attach_bonds(molecule: Molecule, reader: BondReader) -> tuple[Chem.Mol, str]:
    """Return all atoms of a molecule in their order with the bonds that the reader finds, and why there are none.

    Atoms without a readable molecule keep their hydrogen counts and charges, within limits; positions that are not
    finite become 0.
    """
    atoms = np.nan_to_num(molecule.positions, nan=0.0, posinf=0.0, neginf=0.0)
    numbers = molecule.numbers
    finite = Molecule(np.where((numbers < 0) | (numbers > MAX_ATOMIC_NUMBER), 0, numbers), atoms)
    bare = assemble(finite, None)
    bare.GetConformer().Set3D(True)
    for atom in bare.GetAtoms():
        atom.SetNoImplicit(True)
    mol, reason = reader(molecule)
    if mol is None:
        none = np.zeros(len(molecule), np.int64)
        counts, charges = (none if known is None else known for known in (molecule.hydrogens, molecule.charges))
        counts, charges = counts.clip(0, MAX_HYDROGENS), limit_charges(charges, finite.numbers)
        for atom, count, charge in zip(bare.GetAtoms(), counts.tolist(), charges.tolist(), strict=True):
            atom.SetNumExplicitHs(count)
            atom.SetFormalCharge(charge)
        return bare, reason
    return copy_bonds(mol, bare, molecule), ""


def copy_bonds(mol: Chem.Mol, bare: Chem.Mol, molecule: Molecule) -> Chem.Mol:
    """Copy the bonds and charges of a read molecule to all atoms, and bond the hydrogens among them."""
    heavy = np.flatnonzero(molecule.numbers > 1).tolist()
    graph = Chem.Mol(mol)
    Chem.Kekulize(graph, clearAromaticFlags=True)
    places = dict(zip([atom.GetIdx() for atom in graph.GetAtoms() if atom.GetAtomicNum() > 1], heavy, strict=True))
    full = Chem.RWMol(bare)
    missing = dict.fromkeys(heavy, 0)
    for atom in graph.GetAtoms():
        if atom.GetIdx() in places:
            place = places[atom.GetIdx()]
            full.GetAtomWithIdx(place).SetFormalCharge(atom.GetFormalCharge())
            missing[place] = atom.GetTotalNumHs(includeNeighbors=True)
    for bond in graph.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if all(end in places for end in ends):
            full.AddBond(places[ends[0]], places[ends[1]], bond.GetBondType())
    attach_hydrogens(full, molecule, missing)
    for place, count in missing.items():
        full.GetAtomWithIdx(place).SetNumExplicitHs(count)
    return full.GetMol()


def attach_hydrogens(mol: Chem.RWMol, molecule: Molecule, missing: dict[int, int]) -> None:
    """Bond hydrogen atoms to their nearest heavy atoms, closest first, as long as those miss hydrogens.

    Args:
        missing: the number of hydrogens that each heavy atom misses, by index; counted down.
    """
    heavy = np.flatnonzero(molecule.numbers > 1)
    light = np.flatnonzero(molecule.numbers == 1)
    if len(heavy) == 0 or len(light) == 0:
        return
    distance = np.linalg.norm(molecule.positions[light][:, None] - molecule.positions[heavy][None], axis=-1)
    nearest = distance.argmin(1)
    limit = max_hydrogen_distance(molecule.numbers)
    for row in distance.min(1).argsort(kind="stable").tolist():
        place = int(heavy[nearest[row]])
        if missing[place] > 0 and distance[row].min() <= limit[place]:
            mol.AddBond(place, int(light[row]), Chem.BondType.SINGLE)
            missing[place] -= 1
