"""Functional groups of organic chemistry as SMARTS, in neutral and charged forms, and how often molecules have them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from rdkit import Chem

AMINE = "!$(N~[!#6;!#1]);!$(N[#6]=,#[!#6])"  # neither amide, amidine and the like nor bonded to a heteroatom
GROUPS: Mapping[str, str] = {
    "carboxylic acid": "[CX3](=[OX1])[OX2H,OX1-]",
    "ester": "[$([CX3][#6]),$([CX3H])](=[OX1])[OX2][#6;!$(C=[O,N,S])]",
    "amide": "[$([CX3][#6]),$([CX3H])](=[OX1])[NX3]",
    "urea": "[NX3][CX3](=[OX1])[NX3]",
    "carbamate": "[NX3][CX3](=[OX1])[OX2,OX1-]",
    "ketone": "[#6][CX3](=[OX1])[#6]",
    "aldehyde": "[CX3H1](=[OX1])[#6]",
    "alcohol": "[CX4][OX2H]",
    "phenol": "c[OX2H,OX1-]",
    "ether": "[OX2;!$(OC=[O,S,N])]([#6])[#6]",
    "primary amine": f"[$([NX3H2]),$([NX4H3+]);{AMINE}][#6]",
    "secondary amine": f"[$([NX3H1]),$([NX4H2+]);{AMINE}]([#6])[#6]",
    "tertiary amine": f"[$([NX3H0]),$([NX4H1+]);{AMINE}]([#6])([#6])[#6]",
    "quaternary ammonium": "[NX4H0+]([#6])([#6])([#6])[#6]",
    "amidine or guanidine": "[NX3][CX3]=[NX2,NX3+]",
    "imine": "[CX3;!$(C[#7])]=[NX2+0;!$(N[!#6;!#1])]",
    "oxime": "[CX3]=[NX2][OX2,OX1-]",
    "hydrazine or hydrazone": "[NX3+0][NX3+0,NX2+0;!$(N=[!#6])]",
    "azo": "[NX2+0]=[NX2+0]",
    "nitro": "[NX3+](=[OX1])[OX1-]",
    "N-oxide": "[#7+;!$([N+]=O)][OX1-]",
    "nitrile": "[CX2]#[NX1]",
    "alkene": "[CX3;!$(C=[!#6])]=[CX3]",
    "alkyne": "[CX2]#[CX2]",
    "sulfonamide": "[SX4](=[OX1])(=[OX1])[NX3,NX2-]",
    "sulfone": "[#6][SX4](=[OX1])(=[OX1])[#6]",
    "sulfoxide": "[$([SX3]=[OX1]),$([SX3+][OX1-])]([#6])[#6]",
    "thioether": "[SX2]([#6])[#6]",
    "thiol": "[#6][SX2H]",
    "thiocarbonyl": "[#6]=[SX1]",
    "phosphoryl": "[PX4]=[OX1]",
    "boronic acid": "[BX3]([OX2])[OX2]",
    "fluorine": "[#6]F",
    "chlorine": "[#6]Cl",
    "bromine": "[#6]Br",
    "iodine": "[#6]I",
}


def count_groups(mols: Sequence[Chem.Mol]) -> Counter[str]:
    """Count the groups of all molecules; an atom may belong to several, as in a hydroxy ketone."""
    return Counter(
        {name: sum(len(mol.GetSubstructMatches(pattern)) for mol in mols) for name, pattern in patterns().items()}
    )


@lru_cache
def patterns() -> Mapping[str, Chem.Mol]:
    """Return the groups as RDKit patterns, compiled once."""
    return {name: Chem.MolFromSmarts(smarts) for name, smarts in GROUPS.items()}
