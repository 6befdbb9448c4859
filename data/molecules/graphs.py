"""Molecules from RDKit's molecular graphs, what such a graph must be, and graphs of molecules with known bonds."""

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from molrl.data.molecules.molecule import AROMATIC, Molecule

BOND_TYPES = {
    1: Chem.BondType.SINGLE,
    2: Chem.BondType.DOUBLE,
    3: Chem.BondType.TRIPLE,
    AROMATIC: Chem.BondType.AROMATIC,
}


def graph_problem(mol: Chem.Mol) -> str:
    """Return why an RDKit molecule is a pattern or has bonds of no order, or "" if it is a molecule."""
    if any(atom.GetAtomicNum() == 0 or atom.HasQuery() for atom in mol.GetAtoms()):
        return "dummy or query atom"
    if any(bond.HasQuery() or bond.GetBondTypeAsDouble() == 0 for bond in mol.GetBonds()):
        return "query bond or bond of order zero"
    return ""


def clear_maps(mol: Chem.Mol) -> None:
    """Remove atom map numbers, and the stereo marks that only they gave a meaning."""
    mapped = [atom for atom in mol.GetAtoms() if atom.GetAtomMapNum()]
    for atom in mapped:
        atom.SetAtomMapNum(0)
    if mapped:
        Chem.AssignStereochemistry(mol, cleanIt=True, force=True)


def fold_hydrogens(mol: Chem.Mol) -> Chem.Mol:
    """Return a molecule whose ordinary hydrogens are counts, as RDKit reads SMILES.

    Atoms remain: isotopes, hydrogens bonded to no heavy atom or to several, and those that mark a double bond as E or
    Z.
    """
    with rdBase.BlockLogs():
        return Chem.RemoveHs(mol)


def fold_all_hydrogens(mol: Chem.Mol) -> Chem.Mol:
    """Return a molecule whose hydrogens, isotopes among them, all are counts.

    Raises ValueError where there is no heavy atom, or a hydrogen is bonded to anything but one heavy atom.
    """
    if mol.GetNumHeavyAtoms() == 0:
        raise ValueError("no heavy atoms")
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 1 and [other.GetAtomicNum() > 1 for other in atom.GetNeighbors()] != [True]:
            raise ValueError("hydrogen that is not bonded to one heavy atom alone")
    with rdBase.BlockLogs():
        return Chem.RemoveAllHs(mol)


def constitution(mol: Chem.Mol) -> str:
    """Return canonical SMILES without isotopes and stereo marks, the same for every reader of a molecule."""
    text = Chem.MolToSmiles(mol, isomericSmiles=False)
    if "[H]" not in text:
        return text
    bare = Chem.Mol(mol)
    Chem.RemoveStereochemistry(bare)
    for atom in bare.GetAtoms():
        atom.SetIsotope(0)
    return Chem.MolToSmiles(fold_hydrogens(bare), isomericSmiles=False)


def from_graph(graph: Chem.Mol, name: str, *, counted: bool) -> Molecule:
    """Return the molecule of a sanitised RDKit molecule with one conformer, its atoms in their order.

    Args:
        counted: hydrogens that are no atoms become counts; otherwise there must be none.
    """
    atoms = np.array(
        [
            (atom.GetAtomicNum(), atom.GetFormalCharge(), atom.GetTotalNumHs() if counted else 0)
            for atom in graph.GetAtoms()
        ],
        dtype=np.int64,
    ).reshape(-1, 3)
    return Molecule(
        numbers=atoms[:, 0].copy(),
        positions=graph.GetConformer().GetPositions().astype(np.float32),
        hydrogens=atoms[:, 2].copy() if counted else None,
        name=name,
        graph=graph,
        charges=atoms[:, 1].copy(),
        bonds=graph_bonds(graph),
    )


def graph_bonds(graph: Chem.Mol) -> NDArray[np.int64]:
    """Return the bonds of an RDKit molecule as in `Molecule.bonds`.

    A dative bond counts as single, one of a higher order as triple, and one of order zero is none.
    """
    bare = Chem.Mol(graph, True)  # RDKit keeps the matrix with the molecule that it is asked of
    orders = np.triu(Chem.GetAdjacencyMatrix(bare, useBO=True))  # 1.5 for an aromatic bond
    first, second = np.nonzero(orders)
    order = orders[first, second]
    return np.stack([first, second, np.where(order == 1.5, AROMATIC, np.minimum(order, 3))], 1).astype(np.int64)


def to_graph(molecule: Molecule) -> Chem.Mol:
    """Return the sanitised RDKit molecule of atoms whose bonds are known, with one conformer; unknown charges are 0.

    Raises ValueError where the bonds are unknown or give no molecule.
    """
    if molecule.bonds is None:
        raise ValueError(f"molecule {molecule.name!r}: its bonds are unknown")
    mol = Chem.RWMol()
    zeros = np.zeros(len(molecule), dtype=np.int64)
    charges = zeros if molecule.charges is None else molecule.charges
    hydrogens = zeros if molecule.hydrogens is None else molecule.hydrogens
    for number, charge, count in zip(molecule.numbers.tolist(), charges.tolist(), hydrogens.tolist(), strict=True):
        atom = Chem.Atom(number)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(count)
        mol.AddAtom(atom)
    for first, second, order in molecule.bonds.tolist():
        mol.AddBond(first, second, BOND_TYPES[order])
        if order == AROMATIC:
            mol.GetBondBetweenAtoms(first, second).SetIsAromatic(True)
            mol.GetAtomWithIdx(first).SetIsAromatic(True)
            mol.GetAtomWithIdx(second).SetIsAromatic(True)
    conformer = Chem.Conformer(len(molecule))
    conformer.SetPositions(molecule.positions.astype(np.float64))
    mol.AddConformer(conformer)
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol)
        except ValueError as error:
            raise ValueError(f"molecule {molecule.name!r}: its bonds give no molecule: {error}") from None
    return mol.GetMol()
