"""Prepared and docked PDBQT files give the first ligand, without pseudo-atoms and without parts of the receptor."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molrl.data.files import EXAMPLES
from molrl.data.molecules.pdbqt import ELEMENTS, read_ligand, read_receptor
from molrl.rewards.molecules.docking.atom_types import structure_types
from molrl.rewards.molecules.docking.site import Site, ligand_positions

IMATINIB = (EXAMPLES / "1iep_ligand.pdbqt").read_text()

# A ring of eight atoms as Meeko 0.8.0 opens it: each CG0 has a G0 where the other one is.
RING = """\
ROOT
ATOM      1  C   UNL     1       0.000   0.000   0.000  1.00  0.00     0.053 C
ATOM      2  O   UNL     1       1.400   0.000   0.000  1.00  0.00    -0.300 OA
ENDROOT
BRANCH   1   3
ATOM      3  C   UNL     1      -0.700   1.300   0.000  1.00  0.00     0.000 CG0
ATOM      4  G   UNL     1       0.300   2.400   0.000  1.00  0.00     0.000 G0
ENDBRANCH   1   3
BRANCH   2   5
ATOM      5  C   UNL     1       0.300   2.400   0.000  1.00  0.00     0.000 CG0
ATOM      6  G   UNL     1      -0.700   1.300   0.000  1.00  0.00     0.000 G0
ENDBRANCH   2   5
TORSDOF 2
"""
WATER = "ATOM      3  WAT UNL     1       2.949  -1.362  -2.452  1.00  0.00     0.000 W \n"
RESIDUE = """\
BEGIN_RES PHE A 382
ROOT
ATOM      1  CA  PHE A 382      99.000  99.000  99.000  1.00  0.00     0.180 C
ENDROOT
BRANCH   1   2
ATOM      2  CB  PHE A 382      98.000  99.000  99.000  1.00  0.00     0.073 C
ENDBRANCH   1   2
END_RES PHE A 382
"""


def moved(text: str, by: float) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(
        f"{line[:30]}{float(line[30:38]) + by:8.3f}{line[38:]}" if line.startswith("ATOM") else line for line in lines
    )


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.pdbqt"
    path.write_text(text)
    return path


def test_an_opened_ring_has_its_atoms_once(tmp_path: Path) -> None:
    found = read_ligand(write(tmp_path, RING))
    assert found.types == ("C", "OA", "C", "C")
    assert found.positions[:, 1].tolist() == [0.0, 0.0, 1.3, 2.4]
    assert found.rotatable.tolist() == [[0, 2], [1, 3]]


POSES = {
    "models": "MODEL 1\n{0}ENDMDL\nMODEL 2\n{1}ENDMDL\n",
    "models without ends": "MODEL 1\n{0}MODEL 2\n{1}",
    "one after another": "{0}{1}",
    "remarks of Vina": "MODEL 1\nREMARK VINA RESULT:   -10.0      0.000      0.000\n{0}ENDMDL\n",
    "a flexible residue": "MODEL 1\n{0}" + RESIDUE + "ENDMDL\n",
    "a flexible residue before": RESIDUE + "{0}",
    "two ligands of one model": "MODEL 1\n{0}{1}ENDMDL\n",
}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("pattern", POSES.values(), ids=POSES.keys())
@given(data=st.data())
def test_the_first_pose_is_the_ligand(tmp_path: Path, pattern: str, data: st.DataObject) -> None:
    expected = read_ligand(EXAMPLES / "1iep_ligand.pdbqt")
    lines = IMATINIB.splitlines(keepends=True)
    atoms = [row for row, line in enumerate(lines) if line.startswith("ATOM")]
    for row in sorted(data.draw(st.lists(st.sampled_from(atoms), max_size=5)), reverse=True):
        lines.insert(row + 1, WATER)  # of hydrated docking
    path = write(tmp_path, pattern.format("".join(lines), moved(IMATINIB, 3.0)))
    found = read_ligand(path)
    assert found.types == expected.types
    assert (found.positions == expected.positions).all()
    assert (found.rotatable == expected.rotatable).all()
    site = Site(receptor=str(EXAMPLES / "1iep_pocket.pdbqt"), ligand=str(path))
    assert site.box() == Site(receptor=site.receptor, ligand=str(EXAMPLES / "1iep_ligand.pdbqt")).box()
    assert len(ligand_positions(str(path))) == 37


def test_a_molecule_prepared_by_meeko_is_read_atom_by_atom(tmp_path: Path) -> None:
    meeko = pytest.importorskip("meeko")
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    mol = Chem.AddHs(Chem.MolFromSmiles("O=C1CCCCCCCCCCC(O)CCN1"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    for options in ({"rigid_macrocycles": False}, {"rigid_macrocycles": True, "hydrate": True}):
        (setup,) = meeko.MoleculePreparation(**options).prepare(mol)
        text, _, _ = meeko.PDBQTWriterLegacy.write_string(setup)
        assert "CG0" in text or " W " in text
        found = read_ligand(write(tmp_path, text))
        heavy = found.positions[[ELEMENTS[kind] != "H" for kind in found.types]]
        positions = mol.GetConformer().GetPositions()[[atom.GetAtomicNum() > 1 for atom in mol.GetAtoms()]]
        assert sorted(map(tuple, heavy.tolist())) == sorted(map(tuple, positions.round(3).tolist()))


def test_selenium_in_a_receptor_is_read_as_sulfur(tmp_path: Path) -> None:
    """Vina 1.2.7: an equivalence of its atom types."""
    lines = (EXAMPLES / "1iep_pocket.pdbqt").read_text().splitlines()
    row = next(row for row, line in enumerate(lines) if line[77:].strip() in ("S", "SA"))
    receptors = []
    for kind in ("S", "Se"):
        lines[row] = f"{lines[row][:77]}{kind:2}"
        receptors.append(structure_types(read_receptor(write(tmp_path, "\n".join(lines)))))
    for sulfur, selenium in zip(*receptors, strict=True):
        np.testing.assert_array_equal(sulfur, selenium)
