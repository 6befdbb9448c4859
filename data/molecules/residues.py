"""Donors and acceptors of hydrogen bonds in the residues of proteins and nucleic acids, by their names in PDB files.

This follows AutoDock types (Morris et al. 2009, J. Comput. Chem. 30, 2785): every oxygen accepts hydrogen bonds, a
nitrogen only if it has a lone pair and no hydrogen. Names: wwPDB Chemical Component Dictionary, with those of force
fields for protonation states.
"""

# Names of nucleotides by the letter of the base, of RNA and DNA: wwPDB, AMBER (5' and 3' ends, single ones), CHARMM
NUCLEOTIDES = {
    base: (base, *(f"{sugar}{base}{end}" for sugar in "DR" for end in ("", "5", "3", "N")), *others.split())
    for base, others in {
        **{"A": "A5 A3 AN ADE", "C": "C5 C3 CN CYT", "G": "G5 G3 GN GUA", "T": "THY", "U": "U5 U3 UN URA URI"},
        "I": "",
    }.items()
}
HISTIDINES = {
    **dict.fromkeys(("HID", "HSD", "HISA", "HISD"), "ND1"),
    **dict.fromkeys(("HIS", "HIE", "HSE", "HISB", "HISE"), "NE2"),
    **dict.fromkeys(("HIP", "HSP", "HISH"), "ND1 NE2"),
}


def nucleotides(atoms: dict[str, str]) -> dict[str, str]:
    """Return the atoms of each base under all names of its nucleotides."""
    return {name: names for base, names in atoms.items() for name in NUCLEOTIDES[base]}


# Nitrogens and oxygens of the side chain or base that bear hydrogen at pH 7
DONORS = {
    **{"ALA": "", "ARG": "NE NH1 NH2", "ASN": "ND2", "ASP": "", "CYS": "", "GLN": "NE2", "GLU": "", "GLY": ""},
    **{"ILE": "", "LEU": "", "LYS": "NZ", "MET": "", "PHE": "", "PRO": "", "THR": "OG1", "TRP": "NE1"},
    **{"TYR": "OH", "VAL": "", "SER": "OG"},  # codespell:ignore
    **HISTIDINES,
    **{"ASH": "OD2", "ASPH": "OD2", "ASPP": "OD2", "GLH": "OE2", "GLUH": "OE2", "GLUP": "OE2"},
    **dict.fromkeys(("CYM", "CYX", "CYSH", "CYS1", "CYS2"), ""),
    **dict.fromkeys(("LYN", "LYSH", "LSN"), "NZ"),
    **{"ARN": "NE NH1 NH2", "ARGN": "NE NH1 NH2"},
    **{"ACE": "", "NH2": "", "NMA": "", "NME": "", "MSE": "", "PYL": "NZ N2", "SEC": ""},
    **nucleotides({"A": "N6", "C": "N4", "G": "N1 N2", "T": "N3", "U": "N3", "I": "N1"}),
}
# Nitrogens with a lone pair, and those of histidine, which have one unless they bear hydrogen
ACCEPTORS = {
    **dict.fromkeys(HISTIDINES, "ND1 NE2"),
    **nucleotides({"A": "N1 N3 N7", "C": "N3", "G": "N3 N7", "I": "N3 N7"}),
}
MODIFIED_RESIDUES = frozenset(("ACE", "NH2", "NMA", "NME", "MSE", "PYL", "SEC"))  # in a chain, but HETATM in PDB files
RIBOSE_DONOR = "O2'"
WATERS = frozenset(("HOH", "WAT", "DOD", "H2O", "TIP", "TIP3", "TP3", "TIP4", "TP4", "SPC", "SOL"))
FOUR_LETTERS = frozenset(name for name in (*DONORS, *WATERS) if len(name) == 4)


def donates(residue: str, atom: str) -> bool:
    """Tell whether an atom of a known residue bears a hydrogen that can bind, where the file does not say."""
    if atom == "N":
        return residue != "PRO"
    return atom in DONORS[residue].split() or atom == RIBOSE_DONOR


def accepts(residue: str, atom: str) -> bool:
    """Tell whether a nitrogen of a known residue has a lone pair, unless it bears hydrogen."""
    return atom in ACCEPTORS.get(residue, "").split()
