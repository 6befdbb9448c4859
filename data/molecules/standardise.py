"""Standardisation of SMILES: one organic fragment, neutral on request, without atom maps."""

from functools import cache
from typing import Any, Literal, TypeAlias

from rdkit import Chem, rdBase
from rdkit.Chem import rdMolDescriptors

from molrl.data.molecules.embedding import parse
from molrl.data.molecules.entries import MAX_HEAVY, NO_LIMIT

Fragments: TypeAlias = Literal["largest", "refuse", "keep"]
"""Treatment of several fragments: take the largest organic one, skip the record, or leave it as it is."""

FRAGMENTS = ("largest", "refuse", "keep")
NON_METALS = frozenset("H He B C N O F Ne Si P S Cl Ar Ge As Se Br Kr Sb Te I Xe At Rn".split())  # and metalloids
NAMED_FRAGMENTS = 3  # in a message


def standardise(smiles: str, *, fragments: Fragments, neutralise: bool) -> Chem.Mol | str:
    """Return the organic molecule of a SMILES, or the reason why there is none, its category before a colon.

    Args:
        fragments: see `choose_fragment`.
        neutralise: see `neutral`.
    """
    with rdBase.BlockLogs():
        mol = parse(smiles, NO_LIMIT)
        mol = mol if isinstance(mol, str) else choose_fragment(mol, fragments)
        if isinstance(mol, str):
            return mol
        if reason := inorganic_reason(mol):
            return reason
        if mol.GetNumHeavyAtoms() > MAX_HEAVY:
            return f"more than {MAX_HEAVY} heavy atoms"
        mol = without_maps(mol)
        return neutral(mol) if neutralise else mol


def choose_fragment(mol: Chem.Mol, fragments: Fragments) -> Chem.Mol | str:
    """Return one fragment of a molecule, the molecule as it is, or why it is refused.

    The largest fragment has the most heavy atoms of those that are organic; of several the heaviest, and of equally
    heavy ones the one whose canonical SMILES sorts first. Where none is organic, it is the largest of all.
    """
    if fragments == "keep" or len(Chem.GetMolFrags(mol)) < 2:
        return mol
    parts = sorted(Chem.GetMolFrags(mol, asMols=True), key=size_order)
    if fragments == "refuse":
        names = ", ".join(Chem.MolToSmiles(part) for part in parts[:NAMED_FRAGMENTS])
        return f"{len(parts)} fragments: {names}{', ...' if len(parts) > NAMED_FRAGMENTS else ''}"
    largest: Chem.Mol = next((part for part in parts if not inorganic_reason(part)), parts[0])
    return largest


def size_order(mol: Chem.Mol) -> tuple[int, float, str]:
    """Return a sort key by which larger molecules come first."""
    return -mol.GetNumHeavyAtoms(), -round(rdMolDescriptors.CalcExactMolWt(mol), 3), Chem.MolToSmiles(mol)


def inorganic_reason(mol: Chem.Mol) -> str:
    """Return why a molecule is not organic, or "" if it has carbon and no metal."""
    symbols = {atom.GetSymbol() for atom in mol.GetAtoms()}
    if metals := sorted(symbols - NON_METALS):
        return f"metal: {', '.join(metals)}"
    return "" if "C" in symbols else "inorganic: no carbon"


def without_maps(mol: Chem.Mol) -> Chem.Mol:
    """Return a molecule without atom map numbers, and without the stereo marks that only they gave a meaning."""
    mapped = [atom for atom in mol.GetAtoms() if atom.GetAtomMapNum()]
    for atom in mapped:
        atom.SetAtomMapNum(0)
    if mapped:
        Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    return mol


def neutral(mol: Chem.Mol) -> Chem.Mol:
    """Return a molecule without the charges that gaining or losing protons explains; others, as in nitro, stay."""
    if not any(atom.GetFormalCharge() for atom in mol.GetAtoms()):
        return mol
    mol = Chem.Mol(uncharger().uncharge(mol))
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)  # two arms may have become equal
    return mol


@cache
def uncharger() -> Any:
    """Return RDKit's tool that protonates and deprotonates; it is slow to import."""
    from rdkit.Chem.MolStandardize import rdMolStandardize

    return rdMolStandardize.Uncharger()
