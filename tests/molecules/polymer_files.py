"""Small proteins and nucleic acids as PDB files, built by RDKit."""

from functools import cache

from rdkit import Chem
from rdkit.Chem import rdDistGeom

PROTEIN, DNA = 0, 6  # RDKit's flavors of sequences


@cache
def pdb_lines(sequence: str, flavor: int = PROTEIN, *, hydrogens: bool = True) -> tuple[str, ...]:
    """Return the ATOM lines of a chain, an embedded geometry with or without hydrogens."""
    mol = Chem.AddHs(Chem.MolFromSequence(sequence, flavor=flavor), addResidueInfo=True)
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7, useRandomCoords=flavor != PROTEIN) == 0
    lines = Chem.MolToPDBBlock(mol if hydrogens else Chem.RemoveHs(mol)).splitlines()
    return tuple(line for line in lines if line.startswith("ATOM"))


def is_hydrogen(line: str) -> bool:
    return line[76:78].strip() == "H"


def number(line: str) -> int:
    return int(line[22:26])


def renamed(line: str, residue: str, *, record: str = "HETATM") -> str:
    """Return the line with another residue name, of up to four letters, and record."""
    return f"{record:6}{line[6:17]}{residue:>3}{line[20:] if len(residue) < 4 else line[21:]}"


def text_of(*lines: str) -> str:
    return "\n".join((*lines, ""))
