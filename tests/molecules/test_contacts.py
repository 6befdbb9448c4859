"""The residues that a pose is in contact with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem
from test_pose import IMATINIB, RECEPTOR

from molrl.data.molecules.pdbqt import ELEMENTS, Structure, read_receptor, residue_label
from molrl.rewards.molecules.docking.atom_types import graph_ligand
from molrl.rewards.molecules.docking.contacts import UNNAMED, contact_pairs, count_contacts, name_contacts
from molrl.rewards.molecules.docking.scoring_function import Pocket
from molrl.rewards.molecules.docking.site import Site

LIGAND = Chem.RemoveAllHs(Chem.MolFromMolFile(IMATINIB))
CRYSTAL = torch.tensor(LIGAND.GetConformer().GetPositions(), dtype=torch.float32)


def pocket(receptor: str | Structure = RECEPTOR) -> Pocket:
    box = Site(receptor=RECEPTOR, ligand=IMATINIB).box()
    return Pocket(
        receptor if isinstance(receptor, Structure) else Site(receptor=receptor, ligand=IMATINIB).structure(), box
    )


def pdb_of_pdbqt(folder: Path) -> str:
    """Write the receptor as a PDB file, whose columns up to the temperature are the same."""
    atoms = [line for line in Path(RECEPTOR).read_text().splitlines() if line.startswith("ATOM")]
    rows = [f"{line[:66]:76}{ELEMENTS[line[77:].strip()].upper():>2}" for line in atoms]
    path = folder / "pocket.pdb"
    path.write_text("\n".join([*rows, "END", ""]))
    return str(path)


def test_imatinib_has_the_hydrogen_bonds_of_its_crystal() -> None:
    """Nagar et al. 2002, Cancer Res. 62, 4236: Met318, Thr315, Glu286, Asp381, and Ile360 and His361 of piperazine."""
    named = name_contacts(pocket(), graph_ligand(LIGAND), CRYSTAL)
    assert {"A:GLU286", "A:THR315", "A:MET318", "A:ILE360", "A:ASP381"} <= set(named["hydrogen_bonds_with"].split())
    assert {"A:LEU248", "A:PHE382", "A:LEU370"} <= set(named["hydrophobic_contacts_with"].split())


def test_names_are_those_of_the_atoms_that_are_near() -> None:
    """Each pair that is counted has the distance of its two atoms in the file, over all of the pose."""
    near, structure = pocket(), read_receptor(RECEPTOR)
    pairs = contact_pairs(near, graph_ligand(LIGAND), CRYSTAL)
    (rows,) = near.neighbours(CRYSTAL[None])
    heavy = np.array([ELEMENTS[kind] != "H" for kind in structure.types])
    for name, limit in (("hydrogen_bonds", 3.6), ("hydrophobic_contacts", 5.6)):
        for atom, column in pairs[name].nonzero().tolist():
            label = near.residues[rows[atom, column]]
            same = heavy & np.array([one == label for one in structure.residues])
            distance = np.linalg.norm(structure.positions[same] - CRYSTAL[atom].numpy(), axis=-1)
            assert distance.min() < limit
    assert count_contacts(near, graph_ligand(LIGAND), CRYSTAL)["hydrogen_bonds"] == pairs["hydrogen_bonds"].sum()


def test_a_pdb_file_names_the_same_residues(tmp_path: Path) -> None:
    first, second = (
        name_contacts(pocket(file), graph_ligand(LIGAND), CRYSTAL) for file in (RECEPTOR, pdb_of_pdbqt(tmp_path))
    )
    assert first == second


def test_a_receptor_without_names_says_so() -> None:
    structure = read_receptor(RECEPTOR)
    named = name_contacts(pocket(replace(structure, residues=())), graph_ligand(LIGAND), CRYSTAL)
    assert set(named.values()) == {UNNAMED}
    some = replace(structure, residues=("", *structure.residues[1:]))
    assert name_contacts(pocket(some), graph_ligand(LIGAND), CRYSTAL) == name_contacts(
        pocket(), graph_ligand(LIGAND), CRYSTAL
    )


@pytest.mark.parametrize(
    ("chain", "name", "number", "label"),
    [
        ("A", "MET", "318", "A:MET318"),
        ("", "THR", "315A", "THR315A"),
        ("A", "UNK", "1", ""),
        ("A", "", "1", ""),
        ("A", "M T", "1", ""),
    ],
)
def test_labels_of_residues(chain: str, name: str, number: str, label: str) -> None:
    assert residue_label(chain, name, number) == label
