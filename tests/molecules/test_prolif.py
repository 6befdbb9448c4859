"""Contacts of imatinib beside those of ProLIF (Bouysset and Fiorucci 2021, doi:10.1186/s13321-021-00548-6).

The extra prolif; `docs/results/docking.md` says why they differ where they do.
"""

from collections import defaultdict

import numpy as np
import pytest
from rdkit import Chem
from test_contacts import CRYSTAL, LIGAND, pdb_of_pdbqt, pocket
from test_pose import IMATINIB

from molrl.data.molecules.chains import read_groups
from molrl.data.molecules.residues import DONORS
from molrl.rewards.molecules.docking.atom_types import graph_ligand
from molrl.rewards.molecules.docking.contacts import name_contacts
from molrl.rewards.molecules.docking.interactions import LIMITS, Kind, ligand_roles, nearest, residue_roles

KINDS = {"HBDonor": "hbond", "HBAcceptor": "hbond", "Hydrophobic": "hydrophobic"}


@pytest.fixture(scope="module")
def receptor(tmp_path_factory: pytest.TempPathFactory) -> str:
    return pdb_of_pdbqt(tmp_path_factory.mktemp("prolif"))


@pytest.fixture(scope="module")
def theirs(receptor: str) -> dict[str, set[str]]:
    """Return the residues by kind, with hydrogens of RDKit on both sides, which the pose of a crystal lacks."""
    prolif = pytest.importorskip("prolif")
    protein = Chem.AddHs(Chem.MolFromPDBFile(receptor), addCoords=True, addResidueInfo=True)
    ligand = Chem.AddHs(Chem.MolFromMolFile(IMATINIB), addCoords=True)
    sides = (prolif.Molecule.from_rdkit(one) for one in (ligand, protein))
    found: dict[str, set[str]] = defaultdict(set)
    for (_, residue), made in prolif.Fingerprint(list(KINDS)).generate(*sides, metadata=True).items():
        for name in made:
            found[KINDS[name]].add(f"{residue.chain}:{residue.name}{residue.number}")
    return found


def rules(receptor: str, kind: Kind) -> set[str]:
    """Return the residues that make an interaction by the rules of `reward=interactions`."""
    groups = [group for group in read_groups(receptor) if group.name in DONORS]
    around = np.array([atom.position for group in groups for atom in group.heavy])
    ligand = ligand_roles(LIGAND, LIGAND.GetConformer().GetPositions())
    return {
        f"{group.place[0]}:{group.name}{group.place[1]}"
        for group in groups
        if nearest(kind, residue_roles(group, around), ligand) <= LIMITS[kind]
    }


def test_the_hydrogen_bonds_of_imatinib(receptor: str) -> None:
    """Helix C, the gatekeeper, the hinge and DFG are bound; the ammonium is too oblique for the rules."""
    assert rules(receptor, "hbond") == {"A:GLU286", "A:THR315", "A:MET318", "A:ASP381"}


def test_hydrogen_bonds(receptor: str, theirs: dict[str, set[str]]) -> None:
    """Five of ProLIF; a bond of the ammonium makes 88 degrees with the line to Ile360, His361 has one by distance."""
    both = {"A:GLU286", "A:THR315", "A:MET318", "A:ASP381"}
    assert theirs["hbond"] == both | {"A:ILE360"}
    assert rules(receptor, "hbond") == both
    terms = name_contacts(pocket(), graph_ligand(LIGAND), CRYSTAL)["hydrogen_bonds_with"]
    assert set(terms.split()) == both | {"A:ILE360", "A:HIS361"}


def test_hydrophobic_contacts(receptor: str, theirs: dict[str, set[str]]) -> None:
    """ProLIF goes to 4.5 angstrom, the rules to 4.0: three residues; it has sulfur, and not the methyl of Thr315.

    The term of Vina goes to some 5.3, and covers all of them but sulfur's, whose residue has a carbon near too.
    """
    both = {"A:LEU248", "A:TYR253", "A:LYS271", "A:ILE313", "A:ASP381", "A:PHE382"}
    ours = rules(receptor, "hydrophobic")
    assert theirs["hydrophobic"] & ours == both
    assert theirs["hydrophobic"] - ours == {"A:GLU286", "A:PHE317", "A:LEU370", "A:MET290"}
    assert ours - theirs["hydrophobic"] == {"A:THR315"}
    terms = name_contacts(pocket(), graph_ligand(LIGAND), CRYSTAL)["hydrophobic_contacts_with"]
    assert theirs["hydrophobic"] <= set(terms.split())
