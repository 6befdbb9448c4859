"""Cores from files: what is read, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from core_files import core_file
from rdkit import Chem

from molrl.data.molecules.core_file import read_core


def test_each_new_bond_takes_a_hydrogen(tmp_path: Path) -> None:
    core = read_core(core_file(tmp_path, "CC(=O)[NH2]"), [1, 4, 4])
    assert core.molecule.hydrogens is not None
    assert core.molecule.hydrogens.tolist() == [2, 0, 0, 0]
    assert core.molecule.core is not None
    assert core.molecule.core.open.tolist() == [1, 0, 0, 2]
    assert core.molecule.core.bonds.tolist() == [[0, 1, 1], [1, 2, 2], [1, 3, 1]]
    assert core.places == "C1, N4"
    assert core.pieces == 1


def test_positions_are_those_of_the_file_to_the_bit(tmp_path: Path) -> None:
    path = core_file(tmp_path, "c1ccoc1")
    (mol,) = Chem.SDMolSupplier(path)
    expected = mol.GetConformer().GetPositions().astype(np.float32)
    assert np.array_equal(read_core(path, 1).molecule.positions, expected)


def test_records_are_pieces(tmp_path: Path) -> None:
    core = read_core(core_file(tmp_path, "c1ccccc1", "CO"), [1, 7])
    assert core.pieces == 2
    assert core.places == "C1, C7"
    assert len(core.molecule) == 8


@pytest.mark.parametrize(
    ("smiles", "attach", "message"),
    [
        (["CC"], None, r"attach=\[\]: no atom is named; each new bond takes a hydrogen, which C1, C2 have"),
        (["CC"], 3, r"attach=\[3\]: got 3, .*core.sdf has heavy atoms 1 to 2"),
        (["CC"], [0], r"got 0, .* has heavy atoms 1 to 2"),
        (["CF"], [2], r"atom 2 has 0 hydrogens; each new bond takes a hydrogen, which C1 have"),
        (["C"], [1] * 5, "atom 1 has 4 hydrogens"),
        (["FC(F)(F)F"], [1], "no atom has a hydrogen, so nothing can be attached"),
    ],
)
def test_impossible_bonds_are_refused(smiles: list[str], attach: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_core(core_file(tmp_path, *smiles), attach)  # type: ignore[arg-type]


def test_overlapping_pieces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"overlap, \d\.\d\d angstrom apart without a bond"):
        read_core(core_file(tmp_path, "CC", "CC", shift=0.9), 1)


def test_a_piece_that_nothing_would_link_is_refused(tmp_path: Path) -> None:
    """Each of several pieces needs an atom in attach; a single one has it anyway."""
    path = core_file(tmp_path, "CC", "CO", "CC")
    with pytest.raises(ValueError, match=r"attach=\[1, 5\]: the piece of .*core.sdf with atoms 3, 4 has none"):
        read_core(path, [1, 5])
    assert read_core(path, [1, 3, 5]).pieces == 3


def test_files_without_a_geometry_or_bonds_are_refused(tmp_path: Path) -> None:
    flat = tmp_path / "flat.sdf"
    flat.write_text(Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")) + "$$$$\n")
    with pytest.raises(ValueError, match=r"core=.*flat.sdf: .*no 3D coordinates"):
        read_core(str(flat), 1)
    with pytest.raises(ValueError, match=r"core=x.xyz: need bonds and a geometry, a .sdf or .mol file"):
        read_core("x.xyz", 1)
    with pytest.raises(ValueError, match=r"missing\.sdf"):
        read_core(str(tmp_path / "missing.sdf"), 1)
    many = core_file(tmp_path, *["C"] * 9)
    with pytest.raises(ValueError, match="got 9 records, need 1 to 8"):
        read_core(many, 1)
