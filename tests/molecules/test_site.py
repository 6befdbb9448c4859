"""Sites of docking: a receptor and a box from files, from names in files, or from a benchmark's targets."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from molrl.data.files import EXAMPLES
from molrl.rewards.molecules.docking.scoring_function import Box, Pocket
from molrl.rewards.molecules.docking.site import Site, ligand_positions

RECEPTOR, LIGAND = str(EXAMPLES / "1iep_pocket.pdbqt"), str(EXAMPLES / "1iep_ligand.pdbqt")
CENTRE, SIZE = [15.190, 53.903, 16.917], [20.0, 20.0, 20.0]
LYSINE = "ATOM      1  NZ  LYS A   1      10.000  50.000  15.000  1.00  0.00           N\n"
IMATINIB = "HETATM    2  C1  STI A   2      14.000  50.000  15.000  1.00  0.00           C\n"


def test_the_box_around_a_ligand_has_its_atoms_and_the_margin_inside() -> None:
    box = Site(receptor=RECEPTOR, ligand=LIGAND, margin=3.0).box()
    positions = ligand_positions(LIGAND)
    assert len(positions) == 37
    assert box.low == pytest.approx(positions.min(0) - 3.0)
    assert box.high == pytest.approx(positions.max(0) + 3.0)


def test_a_ligand_may_be_in_any_file_with_a_geometry(tmp_path: Path) -> None:
    path = tmp_path / "ligand.sdf"
    mol = Chem.MolFromXYZBlock("3\n\nC 1 2 3\nO 2 2 3\nN 1 2 5\n")
    path.write_text(Chem.MolToMolBlock(mol))
    assert Site(receptor=RECEPTOR, ligand=str(path), margin=1.0).box() == Box([1.5, 2.0, 4.0], [3.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.smi", "CCO ethanol\n", "x.smi: need a file with a geometry, .pdbqt, .sdf"),
        ("x.sdf", "no molecule\n", "ligand .*x.sdf: "),
        ("x.pdbqt", "ROOT\n", "x.pdbqt: no atoms"),
    ],
)
def test_a_ligand_without_a_geometry_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        Site(receptor=RECEPTOR, ligand=str(tmp_path / name)).box()


def test_the_ligand_may_be_a_name_in_the_file_of_the_receptor(tmp_path: Path) -> None:
    path = tmp_path / "complex.pdb"
    path.write_text(LYSINE + IMATINIB)
    site = Site(receptor=str(path), ligand="STI", margin=4.0)
    assert site.box() == Box([14.0, 50.0, 15.0], [8.0, 8.0, 8.0])
    with pytest.warns(UserWarning, match="left out of the receptor: 1 STI"):
        assert len(Pocket(site.structure(), site.box())) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"receptor": "x.gro"}, "receptor x.gro: need a .pdb, .ent, .cif, .mmcif or .pdbqt file, or dockstring:TARGET"),
        ({"receptor": RECEPTOR, "keep": ["HOH"]}, "keep=.'HOH'.: is for PDB and mmCIF files, of others all is kept"),
        ({"receptor": "x.pdb", "keep": "HOH"}, r"keep: got 'HOH', need a list of residue names, \[HOH\]"),
        ({"receptor": RECEPTOR, "margin": -1.0}, "margin: got -1.0, need at least 0 angstrom"),
    ],
)
def test_what_is_no_receptor_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Site(centre=CENTRE, size=SIZE, **settings).structure()  # type: ignore[arg-type]


@pytest.fixture
def dockstring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a package of that name that must not be imported, with one target, and return its box file."""
    targets = tmp_path / "dockstring/resources/targets"
    targets.mkdir(parents=True)
    (tmp_path / "dockstring/__init__.py").write_text("raise ImportError('openbabel')")
    (targets / "ABL1_target.pdbqt").write_text(Path(RECEPTOR).read_text())
    box = targets / "ABL1_conf.txt"
    box.write_text(
        "center_x = 15.19\ncenter_y = 53.903\ncenter_z = 16.917\n\nsize_x = 20\nsize_y=22.5\nsize_z = 20.0\n"
    )
    monkeypatch.delitem(sys.modules, "dockstring", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return box


def test_a_target_of_dockstring_brings_receptor_and_box(dockstring: Path) -> None:
    site = Site(receptor="dockstring:ABL1")
    assert site.box() == Box([15.19, 53.903, 16.917], [20.0, 22.5, 20.0])
    assert len(site.structure()) == len(Site(receptor=RECEPTOR, ligand=LIGAND).structure())
    assert Site(receptor="dockstring:ABL1", centre=CENTRE, size=SIZE).box() == Box(tuple(CENTRE), tuple(SIZE))
    with pytest.raises(ValueError, match="dockstring:DRD9: no such target, known are ABL1"):
        Site(receptor="dockstring:DRD9").structure()
    dockstring.write_text("center_x = 15.19\n")
    with pytest.raises(ValueError, match=r"ABL1_conf.txt: got 1 of center_x, ... size_z, need all six"):
        site.box()


def test_dockstring_that_is_not_installed_is_said_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "dockstring", raising=False)
    with pytest.raises(ValueError, match=r"dockstring is not installed: pip install 'molrl\[docking\]'"):
        Site(receptor="dockstring:ABL1").structure()


def test_the_targets_of_the_installed_package_can_be_read() -> None:
    if importlib.util.find_spec("dockstring") is None:
        pytest.skip("dockstring is not installed")
    site = Site(receptor="dockstring:DRD2")
    box, receptor = site.box(), site.structure()
    assert box == Box([9.25, 6.167, -7.0], [30.0, 30.0, 32.0])
    assert len(Pocket(receptor, box)) > 500
    assert np.isfinite(receptor.positions).all()
