"""Drawings and geometries: RDKit's rule for the dimension of a record, in every reader of SDF files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor

from molrl.data.files import Skipped
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import Record, has_geometry, molecule_of
from molrl.data.molecules.sdf import Block, parse_record
from molrl.data.molecules.unembedded import read_unembedded
from molrl.models.molecules.reference import load_reference
from molrl.rewards.molecules.geometry import NO_GEOMETRY
from molrl.rewards.molecules.plausibility import Plausibility


def record(code: str, heights: list[float], *, v3000: bool) -> str:
    """Return a mol block of ethanol, drawn and with z coordinates, with a dimension code in its second line."""
    mol = Chem.MolFromSmiles("CCO")
    rdDepictor.Compute2DCoords(mol)
    for atom, z in enumerate(heights):
        x, y, _ = mol.GetConformer().GetAtomPosition(atom)
        mol.GetConformer().SetAtomPosition(atom, (x, y, z))
    title, _, *rest = Chem.MolToMolBlock(mol, forceV3000=v3000).split("\n")
    return "\n".join([title, f"  program 0102030405{code}", *rest])


def is_three_dimensional(block: str) -> bool:
    """Return whether RDKit calls the record three-dimensional."""
    with rdBase.BlockLogs():
        return bool(Chem.MolFromMolBlock(block).GetConformer().Is3D())


@settings(deadline=None)
@given(
    code=st.sampled_from(["", "2D", "3D", "2d", "3d", "  "]),
    heights=st.lists(st.sampled_from([0.0, 0.0, 1e-5, -1e-4, 0.3, -2.0]), min_size=3, max_size=3),
    v3000=st.booleans(),
)
def test_a_record_is_a_geometry_where_rdkit_says_so(code: str, heights: list[float], v3000: bool) -> None:
    text = record(code, heights, v3000=v3000)
    geometry = is_three_dimensional(text)
    block = Block(1, 1, text)
    graph = molecule_of(Record(1, "", block), embedded=False)
    assert isinstance(graph, Molecule)
    assert has_geometry(graph) == geometry
    assert isinstance(parse_record(block, "file", 9), Molecule) == geometry
    embedded = molecule_of(Record(1, "", block), embedded=True)
    assert isinstance(embedded, Molecule)
    assert has_geometry(embedded)
    assert (len(embedded) == 3) == geometry  # an embedding has the hydrogens


def test_a_drawing_without_a_code_is_no_geometry_and_a_geometry_called_2d_is_one(tmp_path: Path) -> None:
    """The positions of a drawing would give finite values of rewards that depend on them."""
    drawing, geometry = record("", [0, 0, 0], v3000=False), record("2D", [0, 0, 0.5], v3000=False)
    entry = molecule_of(Record(1, "", Block(1, 1, drawing)), embedded=False)
    assert isinstance(entry, Molecule)
    assert Plausibility(reader=rdkit_bonds).score_one(entry).reason == NO_GEOMETRY
    other = molecule_of(Record(1, "", Block(1, 1, geometry)), embedded=False)
    assert isinstance(other, Molecule)
    assert other.positions[2, 2] == np.float32(0.5)
    (tmp_path / "x.sdf").write_text(f"{drawing}$$$$\n{geometry}$$$$\n")
    molecules, report = read(tmp_path / "x.sdf")
    assert (len(molecules), report.skipped) == (1, (Skipped("record 1, line 1", "no 3D coordinates"),))


def test_atoms_in_one_place_are_no_geometry_whatever_the_code() -> None:
    text = record("3D", [0, 0, 0], v3000=False)
    lines = text.split("\n")
    lines[4:7] = ["    0.0000    0.0000    0.0000" + line[30:] for line in lines[4:7]]
    assert parse_record(Block(1, 1, "\n".join(lines)), "file", 9) == Skipped("record 1, line 1", "no 3D coordinates")


@pytest.mark.parametrize("code", ["", "2D"])
def test_drawings_are_evaluated_as_graphs(tmp_path: Path, code: str) -> None:
    path = tmp_path / "x.sdf"
    path.write_text(record(code, [0, 0, 0], v3000=False) + "$$$$\n")
    (molecule,), report = read_unembedded(path, "file")
    assert (has_geometry(molecule), report.skipped) == (False, ())
    reference = load_reference("reference", str(path), rdkit_bonds, "file", perceive=False)
    assert (reference.smiles, reference.edm_smiles) == (["CCO"], None)
