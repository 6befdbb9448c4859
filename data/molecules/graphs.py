"""Molecules from RDKit's molecular graphs, and graphs of molecules whose bonds are known."""

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
