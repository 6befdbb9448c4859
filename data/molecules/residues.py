"""Donors and acceptors of hydrogen bonds in the residues of proteins and nucleic acids, by their names in PDB files.

This follows AutoDock types (Morris et al. 2009, J. Comput. Chem. 30, 2785): every oxygen accepts hydrogen bonds, a
nitrogen only if it has a lone pair and no hydrogen. Names: wwPDB Chemical Component Dictionary, with those of force
fields for protonation states.
"""

# Nitrogens and oxygens of the side chain or base that bear hydrogen at pH 7
DONORS = {
    **{"ALA": "", "ARG": "NE NH1 NH2", "ASN": "ND2", "ASP": "", "CYS": "", "GLN": "NE2", "GLU": "", "GLY": ""},
    **{"HIS": "NE2", "ILE": "", "LEU": "", "LYS": "NZ", "MET": "", "PHE": "", "PRO": "", "THR": "OG1", "TRP": "NE1"},
    **{"TYR": "OH", "VAL": "", "SER": "OG"},  # codespell:ignore
    **{"ASH": "OD2", "CYM": "", "CYX": "", "GLH": "OE2", "HID": "ND1", "HIE": "NE2", "HIP": "ND1 NE2", "LYN": "NZ"},
    **{"HSD": "ND1", "HSE": "NE2", "HSP": "ND1 NE2"},
    **{"ACE": "", "NH2": "", "NMA": "", "NME": "", "MSE": "", "PYL": "NZ N2", "SEC": ""},
    **{"A": "N6", "C": "N4", "G": "N1 N2", "U": "N3", "DA": "N6", "DC": "N4", "DG": "N1 N2", "DT": "N3", "DU": "N3"},
}
# Nitrogens with a lone pair, and those of histidine, which have one unless they bear hydrogen
ACCEPTORS = {
    **dict.fromkeys(("HIS", "HID", "HIE", "HIP", "HSD", "HSE", "HSP"), "ND1 NE2"),
    **dict.fromkeys(("A", "DA"), "N1 N3 N7"),
    **dict.fromkeys(("G", "DG"), "N3 N7"),
    **dict.fromkeys(("C", "DC"), "N3"),
}
MODIFIED_RESIDUES = frozenset(("ACE", "NH2", "NMA", "NME", "MSE", "PYL", "SEC"))  # in a chain, but HETATM in PDB files
BACKBONE_ATOMS = frozenset(("N", "CA", "C"))
RIBOSE_DONOR = "O2'"
WATERS = frozenset(("HOH", "WAT", "DOD", "H2O", "TIP", "TIP3", "TP3", "SOL"))


def donates(residue: str, atom: str) -> bool:
    """Tell whether an atom of a known residue bears a hydrogen that can bind, where the file does not say."""
    if atom == "N":
        return residue != "PRO"
    return atom in DONORS[residue].split() or atom == RIBOSE_DONOR


def accepts(residue: str, atom: str) -> bool:
    """Tell whether a nitrogen of a known residue has a lone pair, unless it bears hydrogen."""
    return atom in ACCEPTORS.get(residue, "").split()
