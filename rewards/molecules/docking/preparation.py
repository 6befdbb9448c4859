"""Preparation of molecules for docking: protonation at a stated pH, one tautomer, and conformers."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from rdkit.Chem.MolStandardize import rdMolStandardize

from molrl.data.molecules.embedding import EMBEDDING_ATTEMPTS, EMBEDDING_SECONDS, FORCE_FIELD, RELAXATION_STEPS
from molrl.rewards.molecules.docking.atom_types import graph_ligand
from molrl.rewards.molecules.docking.complexes import FlexibleLigand
from molrl.rewards.molecules.docking.torsion_tree import TorsionTree, torsion_tree

MAX_CONFORMERS = 100
SAME_SHAPE = 0.25  # angstrom; fragments whose root mean square deviation is less are taken for one


@dataclass(frozen=True, eq=False)
class Prepared:
    """A molecule of heavy atoms in the state that is docked, with positions in angstrom [n, 3]."""

    mol: Chem.Mol
    positions: NDArray[np.floating]

    @cached_property
    def flexible(self) -> FlexibleLigand:
        """Return what the search takes.

        Raises:
            ValueError: an element that Vina has no radius for.
        """
        return FlexibleLigand(graph_ligand(self.mol), torsion_tree(self.mol), self.positions)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """The state and the conformers of a molecule that are docked.

    Attributes:
        ph: at which acids and bases are protonated, by the mean pKa of their kind (Dimorphite-DL: Ropp et al. 2019,
            doi:10.1186/s13321-019-0336-9), to the most probable state; None keeps the state of the sample.
        canonical_tautomer: take RDKit's canonical tautomer, which is a rule and no population, before that.
        conformers: that are embedded (ETKDGv3, MMFF94s); of those that differ by torsions only one is docked, as these
            are searched, so that several are ring conformers. 0 takes lengths, angles and rings of the sample.
        seed: of the embedding.
    """

    ph: float | None
    canonical_tautomer: bool
    conformers: int
    seed: int

    def __post_init__(self) -> None:
        if self.ph is not None and not 0 <= self.ph <= 14:
            raise ValueError(f"ph: got {self.ph}, need a number from 0 to 14, or null")
        if not 0 <= self.conformers <= MAX_CONFORMERS:
            raise ValueError(f"conformers: got {self.conformers}, need 0 to {MAX_CONFORMERS}")
        if self.ph is not None and importlib.util.find_spec("dimorphite_dl") is None:
            raise ValueError("ph: dimorphite_dl is not installed: pip install 'molrl[docking]'")

    def __call__(self, mol: Chem.Mol, positions: NDArray[np.floating]) -> list[Prepared]:
        """Return the conformers of a molecule of heavy atoms, in its order of atoms; none if embedding fails.

        Stereochemistry is that of the positions, angstrom [n, 3].
        """
        state = with_stereo(mol, positions)
        with rdBase.BlockLogs():
            if self.canonical_tautomer:
                state = in_order(rdMolStandardize.TautomerEnumerator().Canonicalize(state), mol)
            if self.ph is not None:
                state = protonated(state, self.ph)
            if not self.conformers:
                return [Prepared(state, positions)]
            found = embedded(state, self.conformers, self.seed)
        return [Prepared(state, one) for one in distinct(found, torsion_tree(state))]


def with_stereo(mol: Chem.Mol, positions: NDArray[np.floating]) -> Chem.Mol:
    """Return a copy of a molecule with the stereochemistry of positions and without conformers."""
    copy = place(mol, positions)
    Chem.AssignStereochemistryFrom3D(copy)
    copy.RemoveAllConformers()
    return copy


def place(mol: Chem.Mol, positions: NDArray[np.floating]) -> Chem.Mol:
    """Return a copy of a molecule with these positions alone, angstrom [n, 3]."""
    copy = Chem.Mol(mol)
    copy.RemoveAllConformers()
    conformer = Chem.Conformer(len(positions))
    conformer.SetPositions(np.ascontiguousarray(positions, dtype=np.float64))
    copy.AddConformer(conformer)
    return copy


def protonated(mol: Chem.Mol, ph: float) -> Chem.Mol:
    """Return the most probable state of a molecule at a pH, its atoms in the same order.

    Raises:
        ValueError: there is none.
    """
    states = import_module("dimorphite_dl").protonate_smiles(
        Chem.MolToSmiles(mol), ph_min=ph, ph_max=ph, precision=1.0, max_variants=1
    )
    state = Chem.MolFromSmiles(states[0]) if states else None
    if state is None:
        raise ValueError(f"protonation: Dimorphite-DL has no state of {Chem.MolToSmiles(mol)} at pH {ph}")
    return in_order(state, mol)


def in_order(state: Chem.Mol, mol: Chem.Mol) -> Chem.Mol:
    """Return another state of a molecule with the atoms in the order of that molecule.

    Raises:
        ValueError: other atoms are bonded to each other.
    """
    order = skeleton(state).GetSubstructMatch(skeleton(mol))
    if state.GetNumAtoms() != mol.GetNumAtoms() or len(order) != mol.GetNumAtoms():
        raise ValueError(f"{Chem.MolToSmiles(state)} is no state of {Chem.MolToSmiles(mol)}: other bonds")
    return Chem.RenumberAtoms(state, list(order))


def skeleton(mol: Chem.Mol) -> Chem.Mol:
    """Return the elements of a molecule and who is bonded to whom, without orders, charges and hydrogens."""
    bare = Chem.RWMol()
    for atom in mol.GetAtoms():
        plain = Chem.Atom(atom.GetAtomicNum())
        plain.SetNoImplicit(True)
        bare.AddAtom(plain)
    for bond in mol.GetBonds():
        bare.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    bare.UpdatePropertyCache(strict=False)
    return bare.GetMol()


def embedded(mol: Chem.Mol, number: int, seed: int) -> list[NDArray[np.float64]]:
    """Return positions of the heavy atoms in embedded conformers, relaxed with MMFF94s where it has parameters."""
    complete = Chem.AddHs(mol)
    settings: Any = rdDistGeom.ETKDGv3()  # RDKit declares its numbers as objects
    settings.randomSeed, settings.maxIterations, settings.timeout = seed, EMBEDDING_ATTEMPTS, EMBEDDING_SECONDS
    try:
        numbers = embed_conformers(complete, number, settings)
    except (ValueError, RuntimeError):
        return []
    if numbers and rdForceFieldHelpers.MMFFHasAllMoleculeParams(complete):
        rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(complete, mmffVariant=FORCE_FIELD, maxIters=RELAXATION_STEPS)
    return [complete.GetConformer(one).GetPositions()[: mol.GetNumAtoms()] for one in numbers]


def embed_conformers(mol: Chem.Mol, number: int, settings: Any) -> list[int]:
    """Embed conformers in a molecule with hydrogens, and return their numbers; RDKit gives -1 for one out of time."""
    return [one for one in rdDistGeom.EmbedMultipleConfs(mol, number, settings) if one >= 0]


def distinct(conformers: Sequence[NDArray[np.float64]], tree: TorsionTree) -> list[NDArray[np.float64]]:
    """Return conformers of which no two differ by torsions alone: by the shapes of the fragments, with their bonds."""
    pieces = []
    for number in range(tree.torsions + 1):
        beside = tree.bonds[(tree.fragment[tree.bonds] == number).any(1)].ravel()
        pieces.append(np.union1d(np.nonzero(tree.fragment == number)[0], beside))
    kept: list[NDArray[np.float64]] = []
    for one in conformers:
        if not any(all(deviation(one[p], other[p]) < SAME_SHAPE for p in pieces) for other in kept):
            kept.append(one)
    return kept


def deviation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the root mean square deviation of positions [n, 3] that lie best on each other, angstrom.

    Kabsch 1976, doi:10.1107/S0567739476001873; mirror images are different.
    """
    first, second = first - first.mean(0), second - second.mean(0)
    left, values, right = np.linalg.svd(first.T @ second)
    values[-1] *= np.sign(np.linalg.det(left @ right))
    squared = (first**2).sum() + (second**2).sum() - 2 * values.sum()
    return float(np.sqrt(max(squared, 0.0) / len(first)))
