"""Random substituents of a given size on a core: what chance finds, beside a model of molecules and a reward.

The substituents are the pieces with one open bond that are left when one single bond outside rings is cut, in molecules
of a file of SMILES, as often as they occur there. They are bonded to the core, and RDKit embeds them with the core
where it is (ETKDGv3: Wang et al. 2020, J. Chem. Inf. Model. 60, 2044). MMFF94s (Halgren 1999, J. Comput. Chem. 20, 720)
relaxes the new atoms beside the fixed core. Of a few conformers the one with the smallest share of atoms that overlap
with the receptor is taken, of equal ones that of lowest energy. So the baseline sees the pocket, and no score.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from lead_cuts import cut_into_pieces, cuttable_bonds, piece_key
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolAlign
from rdkit.Geometry import Point3D

from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.smiles import smiles_lines

NUM_MOLECULES = 10_000  # drawn from the file
CONFORMERS = 6
MAX_ITERATIONS = 30  # of an embedding
MAX_RMSD = 0.7  # angstrom between an embedded core and the given one; mirror images of the core are further
RELAXATION_STEPS = 200
FORCE_FIELD = "MMFF94s"

Fragments = Mapping[int, Sequence[str]]
"""SMILES with one * by their number of heavy atoms, each as often as it occurs."""


def read_fragments(path: Path, max_heavy: int, seed: int, count: int = NUM_MOLECULES) -> Fragments:
    """Cut molecules of a file of SMILES, drawn at random, at each single bond outside rings.

    Args:
        max_heavy: of a fragment.
        count: of molecules, or all where there are fewer.

    Raises:
        ValueError: the file cannot be read, or a line of those that are drawn is no molecule.
    """
    lines = [line.smiles for line in smiles_lines(path)]
    rows = np.random.default_rng(seed).permutation(len(lines))[:count]
    found = defaultdict[int, list[str]](list)
    for row in np.sort(rows).tolist():
        mol = Chem.MolFromSmiles(lines[row])
        if mol is None:
            raise ValueError(f"{path}, line {row + 1}: {lines[row]!r} is no molecule")
        for bond in cuttable_bonds(mol):
            for piece in cut_into_pieces(mol, [bond]):
                if len(piece.atoms) <= max_heavy:
                    found[len(piece.atoms)].append(piece_key(piece.mol))
    return dict(found)


@dataclass(frozen=True, eq=False)
class RandomSubstituents:
    """A sampler of random substituents on a core.

    Attributes:
        core: the core with its positions and hydrogens as counts, in the order of `molecule`.
        molecule: the core as samples have it, one hydrogen less for each substituent.
        sites: attachment points, counted from 0.
        fragments: to draw from.
        overlap: share of the atoms of a molecule, given with positions, that overlap with the receptor.
    """

    core: Chem.Mol
    molecule: Molecule
    sites: Sequence[int]
    fragments: Fragments
    overlap: Callable[[Chem.Mol], float]

    def draw(self, new_atoms: int, generator: np.random.Generator) -> Molecule | None:
        """Draw a molecule with so many new heavy atoms; None where it cannot be embedded with the core.

        With two sites, their sizes are drawn uniformly among those that there are fragments of.

        Raises:
            ValueError: there are no fragments of this size.
        """
        splits = [sizes for sizes in compositions(new_atoms, len(self.sites)) if all(map(self.fragments.get, sizes))]
        if not splits:
            raise ValueError(f"fragments: none with {new_atoms} heavy atoms in all, for {len(self.sites)} sites")
        sizes = splits[generator.integers(len(splits))]
        chosen = [self.fragments[size][int(generator.integers(len(self.fragments[size])))] for size in sizes]
        seed = int(generator.integers(2**31))
        with rdBase.BlockLogs():
            try:
                return self.embed(attach(self.core, self.sites, chosen), seed)
            except (ValueError, RuntimeError):
                return None

    def embed(self, mol: Chem.Mol, seed: int) -> Molecule | None:
        """Return the best of a few conformers of a molecule whose first atoms are the core."""
        size, given = len(self.molecule), self.core.GetConformer().GetPositions()
        complete = Chem.AddHs(mol)
        settings: Any = rdDistGeom.ETKDGv3()
        settings.randomSeed, settings.maxIterations = seed, MAX_ITERATIONS
        settings.SetCoordMap({row: Point3D(*position) for row, position in enumerate(given.tolist())})
        rdDistGeom.EmbedMultipleConfs(complete, CONFORMERS, settings)
        atoms = [(row, row) for row in range(size)]
        candidates = list[tuple[float, float, NDArray[np.float64]]]()
        for conformer in complete.GetConformers():
            rmsd = rdMolAlign.AlignMol(complete, self.core, prbCid=conformer.GetId(), atomMap=atoms)
            if rmsd <= MAX_RMSD:
                energy = relax_beside(complete, conformer.GetId(), given)
                positions = conformer.GetPositions()[: mol.GetNumAtoms()]
                candidates.append((self.overlap(placed(mol, positions)), energy, positions))
        if not candidates:
            return None
        best = min(candidates, key=lambda candidate: candidate[:2])[2]
        return as_sample(mol, best, self.molecule)


def compositions(total: int, parts: int) -> list[tuple[int, ...]]:
    """Return the ways to write a number as an ordered sum of positive numbers."""
    borders = ((0, *middle, total) for middle in combinations(range(1, total), parts - 1))
    return [tuple(np.diff(border).tolist()) for border in borders]


def attach(core: Chem.Mol, sites: Sequence[int], fragments: Sequence[str]) -> Chem.Mol:
    """Return a core with fragments in place of one hydrogen of each site; its atoms come first.

    Raises:
        ValueError: the molecule is not sound.
    """
    whole = Chem.RWMol(core)
    Chem.AssignStereochemistryFrom3D(whole)
    whole.RemoveAllConformers()
    for site, smiles in zip(sites, fragments, strict=True):
        fragment, start = Chem.MolFromSmiles(smiles), whole.GetNumAtoms()
        whole.InsertMol(fragment)
        dummy = next(atom.GetIdx() for atom in fragment.GetAtoms() if not atom.GetAtomicNum()) + start
        (neighbour,) = (atom.GetIdx() for atom in whole.GetAtomWithIdx(dummy).GetNeighbors())
        whole.AddBond(site, neighbour, Chem.BondType.SINGLE)
        atom = whole.GetAtomWithIdx(site)
        atom.SetNumExplicitHs(max(0, atom.GetNumExplicitHs() - 1))
        whole.RemoveAtom(dummy)
    mol = whole.GetMol()
    Chem.SanitizeMol(mol)
    return mol


def relax_beside(mol: Chem.Mol, conformer: int, core: NDArray[np.float64]) -> float:
    """Put the first atoms where the core is, relax the others in place, and return the energy, kcal/mol.

    Raises:
        ValueError: the force field lacks parameters.
    """
    positions = mol.GetConformer(conformer).GetPositions()
    positions[: len(core)] = core
    mol.GetConformer(conformer).SetPositions(positions)
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant=FORCE_FIELD)
    if properties is None:
        raise ValueError("no MMFF94s parameters")
    field: Any = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties, confId=conformer)
    for row in range(len(core)):
        field.AddFixedPoint(row)
    field.Initialize()
    field.Minimize(maxIts=RELAXATION_STEPS)
    return float(field.CalcEnergy())


def placed(mol: Chem.Mol, positions: NDArray[np.float64]) -> Chem.Mol:
    """Return a copy of a molecule at positions, angstrom."""
    copy, conformer = Chem.Mol(mol), Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(np.ascontiguousarray(positions, dtype=np.float64))
    copy.RemoveAllConformers()
    copy.AddConformer(conformer)
    return copy


def as_sample(mol: Chem.Mol, positions: NDArray[np.float64], core: Molecule) -> Molecule:
    """Return a molecule as a model's samples are: without bonds but those of the core, which is copied to the bit."""
    atoms, size = list(mol.GetAtoms()), len(core)
    x = positions.astype(np.float32)
    x[:size] = core.positions
    return Molecule(
        np.array([atom.GetAtomicNum() for atom in atoms]),
        x,
        np.array([atom.GetTotalNumHs() for atom in atoms]),
        charges=np.array([atom.GetFormalCharge() for atom in atoms]),
        core=core.core,
    )
