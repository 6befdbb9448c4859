"""Neutral molecules: charges that gaining or losing protons explains are removed."""

from functools import cache
from typing import Any

from rdkit import Chem

CHARGED = Chem.MolFromSmarts("[!+0]")


def neutral(mol: Chem.Mol) -> Chem.Mol:
    """Return a sanitised molecule without the charges that protons explain; others, as in nitro groups, stay.

    RDKit's Uncharger decides (carboxylates and ammonium become neutral, quaternary nitrogen keeps its charge and with
    it one counter charge). Where hydrogens are atoms with positions, the lost ones go and new ones get ideal positions.
    """
    if not mol.HasSubstructMatch(CHARGED):
        return mol
    heavy = Chem.RemoveAllHs(mol)
    uncharged = Chem.Mol(uncharger().uncharge(heavy))
    if heavy.GetNumAtoms() == mol.GetNumAtoms():
        Chem.AssignStereochemistry(uncharged, cleanIt=True, force=True)  # two arms may have become equal
        return uncharged
    return move_protons(mol, uncharged)


def move_protons(mol: Chem.Mol, uncharged: Chem.Mol) -> Chem.Mol:
    """Return all atoms of a molecule with the charges and hydrogens that its heavy atoms have when uncharged."""
    full = Chem.RWMol(mol)
    changed, lost = [], []
    heavy = [atom for atom in full.GetAtoms() if atom.GetAtomicNum() > 1]
    for atom, target in zip(heavy, uncharged.GetAtoms(), strict=True):
        missing = target.GetTotalNumHs() - atom.GetTotalNumHs(includeNeighbors=True)
        if atom.GetFormalCharge() == target.GetFormalCharge() and not missing:
            continue
        atom.SetFormalCharge(target.GetFormalCharge())
        own = [other.GetIdx() for other in atom.GetNeighbors() if other.GetAtomicNum() == 1]
        surplus = own[: max(0, -missing)]
        lost += surplus
        atom.SetNumExplicitHs(max(0, atom.GetNumExplicitHs() + missing + len(surplus)))
        if missing > 0:
            changed.append(atom.GetIdx())
    full = Chem.RWMol(Chem.AddHs(full, addCoords=True, onlyOnAtoms=changed)) if changed else full
    for index in sorted(lost, reverse=True):
        full.RemoveAtom(index)
    Chem.SanitizeMol(full)
    return full.GetMol()


@cache
def uncharger() -> Any:
    """Return RDKit's tool that protonates and deprotonates; it is slow to import."""
    from rdkit.Chem.MolStandardize import rdMolStandardize

    return rdMolStandardize.Uncharger()
