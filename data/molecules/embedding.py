"""A SMILES to a geometry: ETKDG embedding and force field relaxation, bounded and seeded."""

from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from molrl.data.molecules.entries import MAX_HEAVY
from molrl.data.molecules.graphs import clear_maps, graph_problem

SEED = 7
EMBEDDING_SECONDS = 10  # per molecule; reports of half an hour exist (rdkit issue 8259)
EMBEDDING_ATTEMPTS = 50
FORCE_FIELD = "MMFF94s"  # Halgren, J. Comput. Chem. 20, 720, 1999: conjugated nitrogens planar, as in crystals
RELAXATION_STEPS = 500
MAX_LENGTH = 10_000  # characters of one SMILES


def parse(smiles: str, max_heavy: int = MAX_HEAVY) -> Chem.Mol | str:
    """Parse a SMILES of one or several fragments without its atom maps, or return why that is impossible."""
    if len(smiles) > MAX_LENGTH:
        return f"more than {MAX_LENGTH} characters"
    mol = Chem.MolFromSmiles(smiles) if smiles.isascii() else None  # RDKit would silently stop at other characters
    if mol is None or mol.GetNumAtoms() == 0:
        return "not a SMILES"
    if mol.GetNumHeavyAtoms() > max_heavy:
        return f"more than {max_heavy} heavy atoms"
    if problem := graph_problem(mol):
        return problem
    clear_maps(mol)
    return mol


def embed(smiles: str, max_heavy: int = MAX_HEAVY, seed: int = SEED) -> Chem.Mol | str:
    """Embed a SMILES with ETKDGv3 and relax it with MMFF94s, or with UFF where MMFF lacks an atom type.

    Returns the molecule with one conformer, implicit hydrogens of the SMILES as its last atoms, or the reason why there
    is none.
    """
    with rdBase.BlockLogs():
        mol = parse(smiles, max_heavy)
        if isinstance(mol, str):
            return mol
        if len(Chem.GetMolFrags(mol)) > 1:
            return "several fragments"
        mol = Chem.AddHs(mol)
        settings: Any = rdDistGeom.ETKDGv3()  # RDKit declares its numbers as objects
        settings.randomSeed = seed
        settings.maxIterations = EMBEDDING_ATTEMPTS
        settings.timeout = EMBEDDING_SECONDS
        try:
            if rdDistGeom.EmbedMolecule(mol, settings) != 0:
                return "no embedding"
            if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
                rdForceFieldHelpers.MMFFOptimizeMolecule(mol, mmffVariant=FORCE_FIELD, maxIters=RELAXATION_STEPS)
            elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
                rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=RELAXATION_STEPS)
            else:
                return "no force field"
        except (ValueError, RuntimeError):
            return "no embedding"
    return mol if np.isfinite(mol.GetConformer().GetPositions()).all() else "no embedding"
