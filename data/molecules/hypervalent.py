"""The uncharged form of sulfoxides, phosphine oxides and their kin: S=O for S(+)-O(-)."""

from rdkit import Chem

HIGHER = {Chem.BondType.SINGLE: Chem.BondType.DOUBLE, Chem.BondType.DOUBLE: Chem.BondType.TRIPLE}


def uncharge_hypervalent(mol: Chem.RWMol) -> Chem.RWMol:
    """Remove the charges of atoms below the second period that a higher bond order removes, and return the molecule.

    That is the form in which SMILES and most files have sulfoxides; a geometry does not tell the two apart.
    """
    pairs = [bond for bond in mol.GetBonds() if charge_transfer(bond)]
    if not pairs:
        return mol
    Chem.Kekulize(mol, clearAromaticFlags=True)
    for bond in pairs:
        while direction := charge_transfer(bond):
            bond.SetBondType(HIGHER[bond.GetBondType()])
            bond.GetBeginAtom().SetFormalCharge(bond.GetBeginAtom().GetFormalCharge() - direction)
            bond.GetEndAtom().SetFormalCharge(bond.GetEndAtom().GetFormalCharge() + direction)
    Chem.SanitizeMol(mol)
    return mol


def charge_transfer(bond: Chem.Bond) -> int:
    """Return 1 if a positive atom below the second period begins a bond to a negative one, -1 if it ends it, else 0."""
    first, second = bond.GetBeginAtom(), bond.GetEndAtom()
    charges = first.GetFormalCharge(), second.GetFormalCharge()
    if charges[0] * charges[1] >= 0 or bond.GetBondType() not in HIGHER:
        return 0
    positive = first if charges[0] > 0 else second
    return (1 if positive is first else -1) if positive.GetAtomicNum() > 10 else 0
