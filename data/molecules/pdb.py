"""PDB and mmCIF files as rigid receptors: chains and metal ions with AutoDock types, with or without hydrogens.

A ligand is docked into a receptor, so what fills its pocket in the crystal is left out: waters, other small molecules
and ions.
"""

import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molrl.data.molecules.autodock_types import assign_types
from molrl.data.molecules.chains import Group, read_groups
from molrl.data.molecules.pdbqt import Structure, prefix_errors, residue_label
from molrl.data.molecules.residues import DONORS, WATERS

MAX_NAMES = 12  # in a warning


def read_pdb(path: str | Path, keep: Collection[str] = (), ligand: str | None = None) -> Structure:
    """Read the receptor of a PDB or mmCIF file: its chains, its metal ions, and the groups to be kept.

    A warning names what is left out, except waters and the ligand. The most occupied of alternate locations is used,
    and the first of several frames. Nitrogens and oxygens that bear hydrogen but have none in the file get one each:
    Vina ignores its place, but its presence makes a donor. Histidine is then protonated on NE2.

    Args:
        keep: names of groups to keep, such as HEM or HOH.
        ligand: name of a group that is docked anew, which no receptor contains.

    Raises:
        ValueError: the file is missing, binary, too large or has no chain; an element is not in `TYPES`; two atoms
            coincide; no group has a name that is to be kept, or it is the ligand's.
    """
    groups = read_groups(path)
    if unknown := set(keep) - {name for group in groups for name in group.names}:
        raise ValueError(f"{path}: nothing to keep has the name {', '.join(sorted(unknown))}")
    docked = [] if ligand is None else named_groups(path, groups, ligand)
    if ligand is not None and any(name in keep for group in docked for name in group.names):
        raise ValueError(f"{path}: keep has {ligand}, which is the ligand")
    kept = [group for group in groups if is_receptor(group, keep) and group not in docked]
    if not any(group.in_chain for group in kept):
        raise ValueError(f"{path}: no residue of a protein or nucleic acid")
    warn_left_out(path, Counter(group.name for group in groups if group not in kept and group.name not in WATERS))
    with prefix_errors(str(path)):
        atoms = list(assign_types(kept))
    return Structure(
        types=tuple(atom.kind for atom in atoms),
        positions=np.array([atom.position for atom in atoms], dtype=np.float64),
        charges=np.zeros(len(atoms)),
        rotatable=np.zeros((0, 2), dtype=np.int64),
        residues=tuple(residue_label(atom.group.place[0], atom.group.name, atom.group.place[1]) for atom in atoms),
    )


def is_receptor(group: Group, keep: Collection[str]) -> bool:
    """Tell whether a group is part of a chain, a metal ion, or to be kept."""
    return group.in_chain or group.is_metal or any(name in keep for name in group.names)


def named_groups(path: str | Path, groups: Sequence[Group], name: str) -> list[Group]:
    """Return the groups of a name that can be ligands, those outside chains first.

    A common residue of a chain is none, unless it is the only one of its name without a bond to the next.

    Raises:
        ValueError: there is none; the message lists the groups besides chains and water.
    """
    named = [group for group in groups if name in group.names]
    if found := [group for group in named if not group.in_chain or group.name not in DONORS]:
        return sorted(found, key=lambda group: group.in_chain)
    if len(alone := [group for group in named if not group.linked]) == 1:
        return alone
    others = sorted({group.name for group in groups if not group.in_chain} - WATERS)
    raise ValueError(f"{path}: no group has the name {name}; besides chains there are {', '.join(others) or 'none'}")


def group_positions(path: str | Path, name: str) -> NDArray[np.float64]:
    """Return the positions of the heavy atoms of the first group of this name, angstrom [n, 3].

    Raises:
        ValueError: there is none; see `named_groups`.
    """
    group = named_groups(path, read_groups(path), name)[0]
    return np.array([atom.position for atom in group.heavy]).reshape(-1, 3)


def warn_left_out(path: str | Path, names: Counter[str]) -> None:
    """Warn of the groups that are no part of the receptor, the most frequent first."""
    if names:
        listed = ", ".join(f"{count} {name}" for name, count in names.most_common(MAX_NAMES))
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        warnings.warn(f"{path}: left out of the receptor: {listed}{more}; keep=[NAME] keeps some", stacklevel=3)
