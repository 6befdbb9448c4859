"""Files of cores for tests: fragments that are embedded here."""

from pathlib import Path

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom


def core_file(folder: Path, *smiles: str, shift: float = 6.0) -> str:
    """Write an SDF with a record for each SMILES, hydrogens included, each moved along x from the one before."""
    path = folder / "core.sdf"
    with Chem.SDWriter(str(path)) as writer:
        for row, text in enumerate(smiles):
            mol = Chem.AddHs(Chem.MolFromSmiles(text))
            assert rdDistGeom.EmbedMolecule(mol, randomSeed=3) == 0
            conformer = mol.GetConformer()
            conformer.SetPositions(np.round(conformer.GetPositions() + np.array([20 + shift * row, 5, -3]), 4))
            writer.write(mol)
    return str(path)
