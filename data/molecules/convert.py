"""Molecules to and from the objects of other packages: RDKit, PyTorch Geometric and ASE.

What both sides can hold survives a round trip. Neither PyG nor ASE has a convention for hydrogen counts and formal
charges, so they have names of ours there; ASE has no bonds.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molrl.data.molecules.bonds import MAX_ATOMIC_NUMBER, BondReader, attach_bonds
from molrl.data.molecules.entries import position_problem
from molrl.data.molecules.graphs import clear_maps, fold_hydrogens, from_graph, graph_problem, to_graph
from molrl.data.molecules.molecule import Molecule, are_bonds

if TYPE_CHECKING:
    from ase import Atoms
    from torch_geometric.data import Data

ASE_ARRAYS = ("hydrogens", "formal_charges")


def from_rdkit(mol: Chem.Mol, conformer: int = -1) -> Molecule:
    """Return the molecule of a sanitised RDKit molecule at one of its conformers, with a copy as its graph.

    Args:
        conformer: its number; -1 is the first.

    Hydrogens stay atoms if all are; otherwise they become counts, see `fold_hydrogens`. Atom maps are lost. The name is
    the property `_Name`.

    Raises ValueError where there is no such conformer, no atom, or a query.
    """
    ids = [each.GetId() for each in mol.GetConformers()]
    chosen = ids[0] if ids and conformer == -1 else conformer
    if chosen not in ids:
        raise ValueError(f"conformer: got {conformer}, the RDKit molecule has {ids or 'none'}")
    if problem := graph_problem(mol):
        raise ValueError(problem)
    graph = Chem.Mol(mol, confId=chosen)
    clear_maps(graph)
    counted = any(atom.GetTotalNumHs() for atom in graph.GetAtoms())
    if counted:
        graph = fold_hydrogens(graph)
    name = mol.GetProp("_Name") if mol.HasProp("_Name") else ""
    require_atoms(np.array([atom.GetAtomicNum() for atom in graph.GetAtoms()]), graph.GetConformer().GetPositions())
    return from_graph(graph, name, counted=counted)


def to_rdkit(molecule: Molecule, reader: BondReader) -> Chem.Mol:
    """Return an RDKit molecule of the same atoms in the same order, with one conformer.

    Bonds are those of the graph or of `bonds`; the reader perceives them where both are unknown.

    Raises ValueError where the bonds give no molecule.
    """
    if molecule.graph is not None:
        mol = Chem.Mol(molecule.graph)
    elif molecule.bonds is not None:
        mol = to_graph(molecule)
    else:
        mol, reason = attach_bonds(molecule, reader)
        if reason:
            raise ValueError(f"molecule {molecule.name!r}: its bonds cannot be read: {reason}")
        Chem.SanitizeMol(mol)
    mol.SetProp("_Name", molecule.name)
    return mol


def from_pyg(data: "Data") -> Molecule:
    """Return the molecule of a PyG `Data` with atomic numbers `z` [n] and positions `pos` [n, 3] in angstrom.

    `name`, `hydrogens`, `charges` and bonds are taken over where they are as `to_pyg` writes them.

    Raises ValueError for fields that are missing, of other shapes or not finite.
    """
    if missing := [name for name in ("z", "pos") if getattr(data, name, None) is None]:
        raise ValueError(f"missing fields: {' and '.join(missing)}, got {', '.join(data.keys()) or 'none'}")
    numbers, positions = np.asarray(data.z), np.asarray(data.pos)
    name = str(getattr(data, "name", None) or "")
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise ValueError(f"atomic numbers: got {numbers.dtype} of shape {numbers.shape}, expected integers [n]")
    require_atoms(numbers, positions)
    bonds = None
    if getattr(data, "bond_order", None) is not None:
        rows = np.column_stack([np.asarray(data.edge_index).T, np.asarray(data.bond_order)]).astype(np.int64)
        bonds = rows[rows[:, 0] < rows[:, 1]]
        if not are_bonds(bonds, len(numbers)):
            raise ValueError(f"bonds: got atoms or orders out of range, allowed: 0 to {len(numbers) - 1} and 1 to 4")
    return Molecule(
        numbers=numbers.astype(np.int64),
        positions=positions.astype(np.float32),
        name=name,
        bonds=bonds,
        hydrogens=integers(getattr(data, "hydrogens", None)),
        charges=integers(getattr(data, "charges", None)),
    )


def to_pyg(molecule: Molecule) -> "Data":
    """Return a PyG `Data` with `z`, `pos`, `name` and, where they are known, the counts, charges and bonds.

    Each bond is two columns of `edge_index`, one for either direction, with its order (4: aromatic) in `bond_order`.

    Raises ValueError if torch_geometric is missing.
    """
    import torch

    try:
        from torch_geometric.data import Data
    except ImportError:
        raise ValueError("PyG data need torch_geometric: pip install 'molrl[qm9]'") from None
    fields = {"hydrogens": molecule.hydrogens, "charges": molecule.charges}
    given = {name: torch.from_numpy(array.copy()) for name, array in fields.items() if array is not None}
    if molecule.bonds is not None:
        first, second, order = torch.from_numpy(molecule.bonds.copy()).T
        given["edge_index"] = torch.stack([torch.cat([first, second]), torch.cat([second, first])])
        given["bond_order"] = torch.cat([order, order])
    z, pos = torch.from_numpy(molecule.numbers.copy()), torch.from_numpy(molecule.positions.copy())
    return Data(z=z, pos=pos, name=molecule.name, **given)


def from_ase(atoms: "Atoms") -> Molecule:
    """Return the molecule of ASE's `Atoms`, named by `info["name"]`; counts and charges as `to_ase` writes them.

    Raises ValueError for a periodic structure, positions that are not finite and dummy atoms.
    """
    if atoms.pbc.any():
        raise ValueError("periodic structure: expected a molecule (pbc=False)")
    require_atoms(atoms.numbers, atoms.positions)
    hydrogens, charges = (integers(atoms.arrays.get(field)) for field in ASE_ARRAYS)
    return Molecule(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float32),
        hydrogens=hydrogens,
        name=str(atoms.info.get("name", "")),
        charges=charges,
    )


def to_ase(molecule: Molecule) -> "Atoms":
    """Return ASE's `Atoms` with the counts and charges as arrays where they are known; bonds are lost.

    Raises ValueError if ase is missing.
    """
    try:
        from ase import Atoms
    except ImportError:
        raise ValueError("ASE atoms need ase: pip install 'molrl[ase]'") from None
    atoms = Atoms(numbers=molecule.numbers, positions=molecule.positions, info={"name": molecule.name})
    for field, array in zip(ASE_ARRAYS, (molecule.hydrogens, molecule.charges), strict=True):
        if array is not None:
            atoms.arrays[field] = array.copy()
    return atoms


def require_atoms(numbers: NDArray[Any], positions: NDArray[Any]) -> None:
    """Raise ValueError unless these are elements [n] at finite positions [n, 3], at least one."""
    if len(numbers) == 0:
        raise ValueError("no atoms")
    if numbers.min() < 1 or numbers.max() > MAX_ATOMIC_NUMBER:
        raise ValueError(f"atomic numbers: got {numbers.min()} to {numbers.max()}, allowed: 1 to {MAX_ATOMIC_NUMBER}")
    if positions.shape != (len(numbers), 3):
        raise ValueError(f"positions: got shape {positions.shape}, expected ({len(numbers)}, 3)")
    if problem := position_problem(positions):
        raise ValueError(problem)


def integers(array: Any) -> NDArray[np.int64] | None:
    """Return an array as integers, or None for None."""
    return None if array is None else np.asarray(array).astype(np.int64)
