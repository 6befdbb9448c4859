"""Standardisation of molecules: one fragment of a salt or mixture, without avoidable charges, without atom maps."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from rdkit import Chem, rdBase
from rdkit.Chem import rdMolDescriptors

from molrl.data.molecules.embedding import parse
from molrl.data.molecules.entries import MAX_HEAVY, NO_LIMIT
from molrl.data.molecules.neutralise import neutral

Fragments: TypeAlias = Literal["largest", "refuse", "keep"]
"""Treatment of several fragments: take the largest organic one, skip the record, or leave it as it is."""

FRAGMENTS = ("largest", "refuse", "keep")
NON_METALS = (1, 2, *range(5, 11), *range(14, 19), *range(32, 37), *range(51, 55), 85, 86)  # and metalloids
METAL = Chem.MolFromSmarts("[" + "".join(f"!#{number}" for number in NON_METALS) + "]")
CARBON = Chem.MolFromSmarts("[#6]")
NAMED_FRAGMENTS = 3  # in a message


@dataclass(frozen=True)
class Treatment:
    """The changes made to every molecule that is read with its bonds.

    Attributes:
        fragments: see `choose_fragment`.
        neutralise: see `neutral`.
    """

    fragments: Fragments = "keep"
    neutralise: bool = False

    def __post_init__(self) -> None:
        if self.fragments not in FRAGMENTS:
            raise ValueError(f"fragments: got {self.fragments!r}, allowed: {', '.join(FRAGMENTS)}")

    def __bool__(self) -> bool:
        """Tell whether anything may change."""
        return self.fragments != "keep" or self.neutralise

    def __call__(self, mol: Chem.Mol) -> Chem.Mol | str:
        """Return a sanitised molecule as it shall be, or the reason why it is refused."""
        with rdBase.BlockLogs():
            chosen = choose_fragment(mol, self.fragments)
            return neutral(chosen) if self.neutralise and not isinstance(chosen, str) else chosen


AS_IT_IS = Treatment()


def standardise(smiles: str, treatment: Treatment) -> Chem.Mol | str:
    """Return the organic molecule of a SMILES, or the reason why there is none, its category before a colon."""
    with rdBase.BlockLogs():
        mol = parse(smiles, NO_LIMIT)
        if isinstance(mol, str):
            return mol
        mol = treatment(mol)
        if isinstance(mol, str):
            return mol
    if reason := inorganic_reason(mol):
        return reason
    return mol if mol.GetNumHeavyAtoms() <= MAX_HEAVY else f"more than {MAX_HEAVY} heavy atoms"


def choose_fragment(mol: Chem.Mol, fragments: Fragments) -> Chem.Mol | str:
    """Return one fragment of a molecule, the molecule as it is, or why it is refused.

    The largest fragment has the most heavy atoms of those that are organic; of several the heaviest, and of equally
    heavy ones the one whose canonical SMILES sorts first. Where none is organic, it is the largest of all.
    """
    if fragments == "keep" or len(Chem.GetMolFrags(mol)) < 2:
        return mol
    parts = sorted(Chem.GetMolFrags(mol, asMols=True), key=size_order)
    if fragments == "refuse":
        names = ", ".join(Chem.MolToSmiles(Chem.RemoveHs(part)) for part in parts[:NAMED_FRAGMENTS])
        return f"several fragments: {names}{', ...' if len(parts) > NAMED_FRAGMENTS else ''}"
    largest: Chem.Mol = next((part for part in parts if not inorganic_reason(part)), parts[0])
    return largest


def size_order(mol: Chem.Mol) -> tuple[int, float, str]:
    """Return a sort key by which larger molecules come first."""
    return -mol.GetNumHeavyAtoms(), -round(rdMolDescriptors.CalcExactMolWt(mol), 3), Chem.MolToSmiles(mol)


def inorganic_reason(mol: Chem.Mol) -> str:
    """Return why a molecule is not organic, or "" if it has carbon and no metal."""
    if mol.HasSubstructMatch(METAL):
        found = {mol.GetAtomWithIdx(index).GetSymbol() for (index,) in mol.GetSubstructMatches(METAL)}
        return f"metal: {', '.join(sorted(found))}"
    return "" if mol.HasSubstructMatch(CARBON) else "inorganic: no carbon"
