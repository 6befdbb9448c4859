"""Stable atoms by valence: bond orders, hydrogens and formal charge are what chemistry allows for the element.

The rule looks at the graph that was read, so it holds for aromatic rings, charges and any element of the main groups,
whereas the distance table of EDM's protocol (`molrl.data.molecules.bonds.stable_atoms`) does not.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molrl.data.molecules.bonds import Reading, hydrogen_total
from molrl.data.molecules.molecule import Molecule, count_hydrogens

VALENCES: Mapping[str, tuple[int, ...]] = {
    **{"He": (0,), "Ne": (0,), "Ar": (0,), "Kr": (0,), "Xe": (0, 2, 4, 6)},
    **{"H": (1,), "F": (1,), "Cl": (1,), "Br": (1,), "I": (1, 3, 5)},
    **{"O": (2,), "S": (2, 4, 6), "Se": (2, 4, 6), "Te": (2, 4, 6)},
    **{"N": (3,), "P": (3, 5), "As": (3, 5), "Sb": (3, 5), "Bi": (3, 5)},
    **{"C": (4,), "Si": (4,), "Ge": (4,), "Sn": (2, 4)},
    **{"B": (3,), "Al": (3,), "Ga": (3,)},
    **dict.fromkeys(("Li", "Na", "K", "Mg", "Ca"), ()),  # as bare ions only
}
"""Valences of neutral atoms (OpenSMILES specification, section 3.1.5, without pentavalent nitrogen; RDKit's table for
elements that are not in it).

A charged atom has the valences of the neutral atom with as many electrons, N+ those of carbon and O- that of fluorine
(Langmuir 1919, J. Am. Chem. Soc. 41, 1543). An atom that is not in the table, such as a transition metal, or whose
counterpart is not, is never stable.
"""

ALLOWED = {
    Chem.GetPeriodicTable().GetAtomicNumber(symbol): frozenset(valences) for symbol, valences in VALENCES.items()
} | {0: frozenset({0})}  # no electrons: the proton


def valence_stable_atoms(reading: Reading, molecule: Molecule) -> NDArray[np.bool_]:
    """Return which atoms of the read graph have an allowed valence, bool [atoms]: heavy atoms, and hydrogens left over.

    The valence is the sum of the bond orders, aromatic bonds resolved to single and double ones, and of the hydrogens
    that the molecule has; those that a reader only added do not count. All heavy atoms of an unreadable molecule are
    unstable.
    """
    heavy = int((molecule.numbers > 1).sum())
    hydrogens = None if reading.mol is None else given_hydrogens(reading.mol, molecule)
    if reading.mol is None or hydrogens is None:
        return np.zeros(heavy, dtype=np.bool_)
    graph = Chem.Mol(reading.mol)
    Chem.Kekulize(graph, clearAromaticFlags=True)
    atoms = list(graph.GetAtoms())
    valences = hydrogens + [int(sum(bond.GetValenceContrib(atom) for bond in atom.GetBonds())) for atom in atoms]
    stable = [is_allowed(atom, valence) for atom, valence in zip(atoms, valences.tolist(), strict=True)]
    return np.array(stable, dtype=np.bool_)


def is_allowed(atom: Chem.Atom, valence: int) -> bool:
    """Tell whether chemistry allows an atom of this element and formal charge this valence."""
    number = atom.GetAtomicNum()
    return number > 0 and number in ALLOWED and valence in ALLOWED.get(number - atom.GetFormalCharge(), ())


def given_hydrogens(mol: Chem.Mol, molecule: Molecule) -> NDArray[np.int64] | None:
    """Return the implicit hydrogens of each atom of a read graph, int64 [atoms], as far as the molecule has them.

    Where the graph has another number of hydrogens in all than the molecule, the reader has added some: then those of
    the molecule count, each on its nearest heavy atom. None if one is too far from all of them.
    """
    implicit = 0 if molecule.hydrogens is None else int(molecule.hydrogens.sum())
    atoms = list(mol.GetAtoms())
    if hydrogen_total(mol) == int((molecule.numbers == 1).sum()) + implicit:
        return np.array([atom.GetTotalNumHs() for atom in atoms], dtype=np.int64)
    try:
        counts = count_hydrogens(molecule).hydrogens
    except ValueError:
        return None
    hydrogens = np.zeros(len(atoms), dtype=np.int64)
    hydrogens[[atom.GetAtomicNum() > 1 for atom in atoms]] = 0 if counts is None else counts
    return hydrogens
