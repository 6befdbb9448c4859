"""Which atoms of the residues of proteins and nucleic acids give and take hydrogen bonds, by their names in PDB files.

As AutoDock types have it (Morris et al. 2009, J. Comput. Chem. 30, 2785): every oxygen takes hydrogen bonds, a nitrogen
only if it has a free electron pair and no hydrogen. Names: wwPDB Chemical Component Dictionary, with those of force
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
# Nitrogens with a free pair, and those of histidine, which have one unless they bear hydrogen
ACCEPTORS = {
    **dict.fromkeys(("HIS", "HID", "HIE", "HIP", "HSD", "HSE", "HSP"), "ND1 NE2"),
    **dict.fromkeys(("A", "DA"), "N1 N3 N7"),
    **dict.fromkeys(("G", "DG"), "N3 N7"),
    **dict.fromkeys(("C", "DC"), "N3"),
}
MODIFIED = frozenset(("ACE", "NH2", "NMA", "NME", "MSE", "PYL", "SEC"))  # parts of a chain that PDB files call HETATM
AMINO_ACID = frozenset(("N", "CA", "C"))
RIBOSE_DONOR = "O2'"
WATERS = frozenset(("HOH", "WAT", "DOD", "H2O", "TIP", "TIP3", "TP3", "SOL"))


def donates(residue: str, atom: str) -> bool:
    """Whether an atom of a known residue bears hydrogen that can bind, where the file does not say."""
    if atom == "N":
        return residue != "PRO"
    return atom in DONORS[residue].split() or atom == RIBOSE_DONOR


def accepts(residue: str, atom: str) -> bool:
    """Whether a nitrogen of a known residue has a free electron pair, unless it bears hydrogen."""
    return atom in ACCEPTORS.get(residue, "").split()
