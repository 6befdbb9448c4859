"""Docked poses as SDF files: one file for each molecule, the best pose first."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rdkit import Chem

from molrl.data.molecules.sdf import record_text
from molrl.machine.files import replace_file
from molrl.rewards.molecules.docking.contacts import count_contacts, name_contacts
from molrl.rewards.molecules.docking.monte_carlo import DockedPose
from molrl.rewards.molecules.docking.preparation import Prepared, place
from molrl.rewards.molecules.docking.scoring_function import Pocket


def write_poses(folder: Path, mol: Chem.Mol, poses: Sequence[tuple[DockedPose, Prepared]], pocket: Pocket) -> Path:
    """Write poses with hydrogens, scores and contacts to a file; one of the same molecule is replaced.

    Its name is a hash of the canonical SMILES of the molecule as it was before its preparation, which is the title of
    the records.
    """
    smiles = Chem.MolToSmiles(mol)
    path = folder / f"{hashlib.sha256(smiles.encode()).hexdigest()[:16]}.sdf"
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(pose_text(smiles, rank, pose, one, pocket) for rank, (pose, one) in enumerate(poses, 1))
    replace_file(path, text.encode())
    return path


def pose_text(smiles: str, rank: int, pose: DockedPose, prepared: Prepared, pocket: Pocket) -> str:
    """Return the SDF record of a pose."""
    bare = place(prepared.mol, pose.positions.double().cpu().numpy())
    complete = Chem.AddHs(bare, addCoords=True)
    Chem.Kekulize(complete, clearAromaticFlags=True)
    ligand = prepared.flexible.ligand
    contacts = {name: f"{count:g}" for name, count in count_contacts(pocket, ligand, pose.positions).items()}
    fields = {"rank": rank, "score": f"{pose.score:.3f}", "internal_energy": f"{pose.internal:.3f}"}
    return record_text(complete, smiles, {**fields, **contacts, **name_contacts(pocket, ligand, pose.positions)})
