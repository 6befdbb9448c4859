"""The strain of a docked pose: what its conformation costs beside the best one that the molecule has alone."""

import math
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from molrl.data.molecules.embedding import EMBEDDING_ATTEMPTS, EMBEDDING_SECONDS, FORCE_FIELD, RELAXATION_STEPS

MAX_SHIFT = 0.3  # angstrom that a heavy atom of the pose moves freely in its relaxation
RESTRAINT = 100.0  # kcal/mol per square angstrom beyond


def pose_strain(pose: Chem.Mol, conformers: int, seed: int) -> float:
    """Return E(pose) - E(global minimum) in kcal/mol by MMFF94s; NaN without parameters or conformers.

    The pose is relaxed first, each heavy atom within 0.3 angstrom of its place: a scoring function does not see
    lengths and angles, whose energy would drown that of the torsions. The global minimum is the lowest of an ensemble
    of relaxed conformers (ETKDGv3), that of the pose among them, so strain is not negative but for the restraint.

    Args:
        pose: heavy atoms with positions, angstrom.
    """
    with rdBase.BlockLogs():
        complete = Chem.AddHs(pose, addCoords=True)
        if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(complete):
            return math.nan
        free = Chem.Mol(complete)
        settings: Any = rdDistGeom.ETKDGv3()  # RDKit declares its numbers as objects
        settings.randomSeed, settings.maxIterations, settings.timeout = seed, EMBEDDING_ATTEMPTS, EMBEDDING_SECONDS
        settings.clearConfs = False
        try:
            rdDistGeom.EmbedMultipleConfs(free, conformers, settings)
            relaxed = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(
                free, mmffVariant=FORCE_FIELD, maxIters=RELAXATION_STEPS
            )
            bound = restrained_energy(complete)
        except (ValueError, RuntimeError):
            return math.nan
        return bound - min(float(energy) for _, energy in relaxed)


def restrained_energy(mol: Chem.Mol) -> float:
    """Return the energy of a molecule relaxed near its positions, without that of the restraint, kcal/mol."""
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant=FORCE_FIELD)
    field: Any = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() > 1:
            field.MMFFAddPositionConstraint(atom.GetIdx(), MAX_SHIFT, RESTRAINT)
    field.Initialize()
    field.Minimize(maxIts=RELAXATION_STEPS)
    plain: Any = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    return float(plain.CalcEnergy())
