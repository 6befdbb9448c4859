"""Bond orders of a ligand in a crystal structure, from the positions of its heavy atoms alone.

Most PDB files have no hydrogens, without which RDKit's perception reads no ligand. Lengths, angles and flat rings give
each bond and each atom a cost, and `least_cost_orders` finds the orders of least cost exactly. Hydrogens follow from
the valences. `python benchmarks/crystal_ligand.py FOLDER` counts how many ligands of *_ligands.sdf.gz are read back.
"""

import argparse
import gzip
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, RDLogger

from molrl.data.molecules.orders import Edge, least_cost_orders

TOLERANCE = 0.05  # angstrom of a length, and
ANGLE_TOLERANCE = 6.0  # degrees of an angle that cost 1
FLAT = 0.1  # angstrom from the plane of three neighbours, or of a ring, that is flat
WRONG = 6.0  # the cost of an atom whose geometry is that of another hybridisation
UNUSUAL = 1.5  # the cost of a hydrogen on a nitrogen of a flat ring, and of none on one elsewhere
CHARGED = 3.0  # the cost of a charged nitrogen
# Covalent radii (Cordero et al. 2008, doi:10.1039/b801115j), angstrom
RADII = {"B": 0.84, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57, "P": 1.07, "S": 1.05, "CL": 1.02, "BR": 1.2, "I": 1.39}
MAX_STRETCH = 1.25  # of the sum of two radii, up to which two atoms are bonded
SHORTEST = 0.7  # of that sum
# The lengths of single, double and triple bonds in crystals of organic molecules, angstrom (Allen et al. 1987,
# doi:10.1039/p298700000s1): between the limits they cost nothing
LENGTHS = {
    "CC": ((1.43, 1.58), (1.29, 1.42), (1.15, 1.23)),
    "CN": ((1.32, 1.52), (1.25, 1.36), (1.11, 1.18)),
    "CO": ((1.30, 1.48), (1.17, 1.27)),
    "CS": ((1.70, 1.86), (1.58, 1.70)),
    "NN": ((1.33, 1.46), (1.20, 1.33)),
    "NO": ((1.20, 1.45), (1.18, 1.26)),
    "OS": ((1.50, 1.68), (1.40, 1.50)),
    "OP": ((1.50, 1.66), (1.44, 1.53)),
    "NS": ((1.55, 1.75), (1.45, 1.58)),
    "PS": ((1.95, 2.15), (1.85, 1.98)),
}
SUMS = {"B": (3,), "C": (4,), "N": (3,), "O": (2,), "P": (5, 3), "S": (2, 4, 6)}
HYPERVALENT = {("S", 3): 4, ("S", 4): 6, ("P", 4): 5}  # sums by element and number of neighbours


def perceive(elements: list[str], positions: NDArray[np.float64]) -> Chem.Mol | None:
    """Return the molecule of heavy atoms [n], n elements in capitals, at positions in angstrom; None if none fits."""
    bare = connected(elements, positions)
    if bare is None:
        return None
    sums = [sum_costs(bare, atom, positions) for atom in range(len(elements))]
    edges = [Edge(*ends(bond), length_costs(bare, bond, positions)) for bond in bare.GetBonds()]
    orders = least_cost_orders(sums, edges)
    if orders is None:
        return None
    for edge, order in orders:
        bare.GetBondBetweenAtoms(edge.first, edge.second).SetBondType(Chem.BondType.values[order])
    charge_nitrogens(bare)
    try:
        Chem.SanitizeMol(bare)
    except ValueError:
        return None
    return bare.GetMol()


def connected(elements: list[str], positions: NDArray[np.float64]) -> Chem.RWMol | None:
    """Return single bonds between atoms that are near; None for elements without a radius and for several fragments."""
    if any(element not in RADII for element in elements):
        return None
    mol, radii = Chem.RWMol(), np.array([RADII[element] for element in elements])
    for element in elements:
        mol.AddAtom(Chem.Atom(element.capitalize()))
    ratio = np.linalg.norm(positions[:, None] - positions[None], axis=-1) / (radii[:, None] + radii[None])
    for first, second in np.argwhere(np.triu((ratio < MAX_STRETCH) & (ratio > SHORTEST), 1)).tolist():
        mol.AddBond(first, second, Chem.BondType.SINGLE)
    conformer = Chem.Conformer(len(elements))
    conformer.SetPositions(np.ascontiguousarray(positions))
    mol.AddConformer(conformer)
    Chem.GetSymmSSSR(mol)
    return mol if len(Chem.GetMolFrags(mol)) == 1 else None


def ends(bond: Chem.Bond) -> tuple[int, int]:
    """Return the atoms of a bond."""
    return bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()


def length_costs(mol: Chem.Mol, bond: Chem.Bond, positions: NDArray[np.float64]) -> dict[int, float]:
    """Return the cost of each order of a bond by its length."""
    first, second = ends(bond)
    length = float(np.linalg.norm(positions[first] - positions[second]))
    windows = LENGTHS.get("".join(sorted((bond.GetBeginAtom().GetSymbol(), bond.GetEndAtom().GetSymbol()))))
    if windows is None:
        return {1: 0.0, 2: WRONG}
    return {
        order: (max(low - length, length - high, 0.0) / TOLERANCE) ** 2 for order, (low, high) in enumerate(windows, 1)
    }


def sum_costs(mol: Chem.Mol, row: int, positions: NDArray[np.float64]) -> dict[int, float]:
    """Return the cost of each sum of the orders of an atom's bonds, by its neighbours' places."""
    atom = mol.GetAtomWithIdx(row)
    symbol, degree = atom.GetSymbol(), atom.GetDegree()
    if (fixed := HYPERVALENT.get((symbol, degree))) is not None:
        return {fixed: 0.0, fixed - 1: WRONG}
    if symbol.upper() not in SUMS:
        return {1: 0.0}
    most = max(SUMS[symbol.upper()][0], degree)
    costs = dict.fromkeys(range(degree, most + 1), 0.0)
    if symbol == "C":
        costs = {total: cost_of_carbon(mol, atom, total - degree, positions) for total in costs}
    elif symbol == "N":
        costs |= cost_of_nitrogen(atom, flat=in_flat_ring(mol, row, positions))
    return costs


def cost_of_nitrogen(atom: Chem.Atom, *, flat: bool) -> dict[int, float]:
    """Return the costs of sums for a nitrogen, by whether it is in a flat ring; of two sums, the usual one is free."""
    oxygens = [other for other in atom.GetNeighbors() if other.GetSymbol() == "O" and other.GetDegree() == 1]
    if atom.GetDegree() == 3 and len(oxygens) == 2:
        return {3: WRONG, 4: 0.0}  # a nitro group
    costs = {4: CHARGED if atom.GetDegree() < 4 else 0.0}
    return {**costs, (2 if flat else 3): UNUSUAL} if atom.GetDegree() == 2 else costs


def cost_of_carbon(mol: Chem.Mol, atom: Chem.Atom, unsaturation: int, positions: NDArray[np.float64]) -> float:
    """Return the cost of a carbon with so many bonds beyond single ones: sp3 0, sp2 1, sp 2."""
    near = [other.GetIdx() for other in atom.GetNeighbors()]
    arms = [positions[other] - positions[atom.GetIdx()] for other in near]
    if len(near) == 3:
        normal = np.cross(arms[1] - arms[0], arms[2] - arms[0])
        height = abs(float(normal @ arms[0])) / max(float(np.linalg.norm(normal)), 1e-9)
        return 0.0 if unsaturation == int(height < 2 * FLAT) else WRONG
    if len(near) != 2:
        return 0.0
    if in_flat_ring(mol, atom.GetIdx(), positions):
        return 0.0 if unsaturation == 1 else WRONG / 2  # a ring of sp3 atoms may be flat
    cosine = arms[0] @ arms[1] / (np.linalg.norm(arms[0]) * np.linalg.norm(arms[1]))
    ideal = (111.5, 122.5, 180.0)[unsaturation]
    return float(min(WRONG, ((np.degrees(np.arccos(np.clip(cosine, -1, 1))) - ideal) / ANGLE_TOLERANCE) ** 2))


def in_flat_ring(mol: Chem.Mol, row: int, positions: NDArray[np.float64]) -> bool:
    """Tell whether an atom is in a flat ring of five or six atoms."""
    rings = [list(ring) for ring in mol.GetRingInfo().AtomRings() if row in ring and len(ring) in (5, 6)]
    centred = [positions[ring] - positions[ring].mean(0) for ring in rings]
    return any(float(np.abs(ring @ np.linalg.svd(ring)[2][2]).max()) < FLAT for ring in centred)


def charge_nitrogens(mol: Chem.RWMol) -> None:
    """Give nitrogens with four bonds their charge, and the oxygen of a nitro group its own."""
    for atom in mol.GetAtoms():
        total = sum(int(bond.GetBondTypeAsDouble()) for bond in atom.GetBonds())
        if atom.GetSymbol() == "N" and total == 4:
            atom.SetFormalCharge(1)
            for other in atom.GetNeighbors():
                order = int(mol.GetBondBetweenAtoms(atom.GetIdx(), other.GetIdx()).GetBondTypeAsDouble())
                if other.GetSymbol() == "O" and other.GetDegree() == 1 and order == 1:
                    other.SetFormalCharge(-1)


def neutral(mol: Chem.Mol) -> str:
    """Return the SMILES of a molecule without stereochemistry, each atom with the hydrogens that make it neutral."""
    copy = Chem.RWMol(Chem.RemoveAllHs(mol))
    Chem.Kekulize(copy, clearAromaticFlags=True)
    for atom in copy.GetAtoms():
        total = sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds())
        paired = any(other.GetFormalCharge() * atom.GetFormalCharge() < 0 for other in atom.GetNeighbors())
        if not paired and not (atom.GetSymbol() == "N" and total == 4):
            atom.SetFormalCharge(0)
        atom.SetNumExplicitHs(0)
        atom.SetNoImplicit(False)
    Chem.SanitizeMol(copy)
    return str(Chem.MolToSmiles(copy, isomericSmiles=False))


def main() -> None:
    """Perceive the ligands of a folder from their heavy atoms, and count those that are what their file says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", type=int, default=0, help="ligands to print that differ")
    arguments = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    counts: Counter[str] = Counter()
    for path in sorted(arguments.folder.rglob("*_ligands.sdf.gz")):
        with gzip.open(path) as file:
            mols = [Chem.RemoveAllHs(mol) for mol in Chem.ForwardSDMolSupplier(file) if mol is not None]
        for mol in mols:
            found = perceive([atom.GetSymbol().upper() for atom in mol.GetAtoms()], mol.GetConformer().GetPositions())
            outcome = "none" if found is None else "same" if neutral(found) == neutral(mol) else "other"
            counts[outcome] += 1
            if outcome != "same" and counts["none"] + counts["other"] <= arguments.show:
                print(path.name, neutral(mol), "" if found is None else neutral(found))
    print(dict(counts))


if __name__ == "__main__":
    main()
