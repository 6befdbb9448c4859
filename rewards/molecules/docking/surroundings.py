"""The surroundings of poses for a report: the residues of a receptor near its box, as the text of a PDB file."""

import re

import numpy as np

from molrl.data.molecules.pdbqt import ELEMENTS
from molrl.rewards.molecules.docking.site import Site

REACH = 4.0  # angstrom beyond the box
MAX_ATOMS = 4_000
LABEL = re.compile(r"(?:(\w+):)?([A-Za-z0-9]*?)(-?\d+[A-Za-z]?)")  # A:MET318


def write_surroundings(site: Site) -> str:
    """Return the residues of a site with an atom within `REACH` of its box as ATOM records, at most `MAX_ATOMS`.

    Atoms are named after their elements. Where a file names no residues, the atoms near the box alone are written.
    """
    structure, box = site.structure(), site.box()
    beyond = np.abs(structure.positions - np.array(box.centre)) - np.array(box.size) / 2
    near = (beyond <= REACH).all(1)
    labels = np.array(structure.residues or [""] * len(structure))
    wanted = near | (np.isin(labels, np.unique(labels[near])) & (labels != ""))
    rows = np.flatnonzero(wanted)[:MAX_ATOMS].tolist()
    return "".join(
        record(number, ELEMENTS[structure.types[row]], str(labels[row]), *structure.positions[row].tolist())
        for number, row in enumerate(rows, 1)
    )


def record(number: int, element: str, label: str, x: float, y: float, z: float) -> str:
    """Return an ATOM record of a PDB file, with the chain, name and number that the label of a residue tells."""
    match = LABEL.fullmatch(label)
    chain, name, place = match.groups() if match else ("A", "UNK", "1")
    residue = f"{(name or 'UNK')[:3]:>3} {(chain or 'A')[:1]}{place if place[-1].isalpha() else f'{place} ':>5}"
    return f"ATOM  {number:5} {element:>2}   {residue}   {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2}\n"
