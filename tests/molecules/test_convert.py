"""Laws of conversion: what both sides can hold survives a round trip, and what is no molecule is refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.convert import from_ase, from_pyg, from_rdkit, to_ase, to_pyg, to_rdkit
from molrl.data.molecules.molecule import Molecule, Molecules, count_hydrogens
from molrl.data.molecules.pyg import load_pyg, pyg_molecules
from molrl.data.molecules.smiles import read_smiles

SMILES = (
    *("CC(=O)Nc1ccc(O)cc1", "C[N+](=O)[O-]", "C#N", "c1cc[nH]c1", "C[N+](C)(C)CC(=O)[O-]", "F/C=C/Cl"),
    *("Cn1c(=O)c2c(ncn2C)n(C)c1=O", "c1ccc2[nH]cnc2c1", "O=S(=O)(O)C", "C", "[C-]#[O+]", "c1ccccc1-c1ccccc1"),
)
FIELDS = ("numbers", "positions", "hydrogens", "charges", "bonds")


@pytest.fixture(scope="module", params=["atoms", "counts"])
def molecules(request: pytest.FixtureRequest) -> Sequence[Molecule]:
    found, report = read_smiles(SMILES, request.param)
    assert not report.skipped
    return Molecules.pack(found)  # so that no graph helps


def assert_equal(one: Molecule, other: Molecule, fields: Sequence[str] = FIELDS) -> None:
    assert one.name == other.name
    for field in fields:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=f"{one.name}: {field}")


# RDKit


def test_known_bonds_give_the_molecule_of_the_smiles_and_back(molecules: Sequence[Molecule]) -> None:
    for molecule, smiles in zip(molecules, SMILES, strict=True):
        mol = to_rdkit(molecule, rdkit_bonds)
        assert Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False) == Chem.MolToSmiles(
            Chem.MolFromSmiles(smiles), isomericSmiles=False
        )
        assert mol.GetNumAtoms() == len(molecule)
        hydrogen_free = molecule.hydrogens is not None and not molecule.hydrogens.any()  # then none is missing
        assert_equal(from_rdkit(mol), replace(molecule, hydrogens=None) if hydrogen_free else molecule)


def test_unknown_bonds_are_read_off_the_geometry(molecules: Sequence[Molecule]) -> None:
    for molecule, smiles in zip(molecules, SMILES, strict=True):
        if Chem.GetFormalCharge(Chem.MolFromSmiles(smiles)) or "+" in smiles:
            continue
        mol = to_rdkit(replace(molecule, bonds=None, charges=None), rdkit_bonds)
        assert [atom.GetAtomicNum() for atom in mol.GetAtoms()] == molecule.numbers.tolist()
        assert Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False) == Chem.MolToSmiles(
            Chem.MolFromSmiles(smiles), isomericSmiles=False
        )


def test_a_graph_is_copied_with_its_stereo_marks() -> None:
    (molecule,), _ = read_smiles(["F/C=C/Cl"])
    mol = to_rdkit(molecule, rdkit_bonds)
    assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == Chem.CanonSmiles("F/C=C/Cl")
    assert mol is not molecule.graph


def test_each_conformer_can_be_chosen() -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles("CCCO"))
    mol.SetProp("_Name", "propanol")
    ids = list(rdDistGeom.EmbedMultipleConfs(mol, 3, randomSeed=7))
    for number in ids:
        molecule = from_rdkit(mol, number)
        expected = mol.GetConformer(number).GetPositions().astype(np.float32)
        np.testing.assert_array_equal(molecule.positions, expected)
        assert molecule.name == "propanol"
        assert molecule.graph is not None
        assert molecule.graph.GetNumConformers() == 1
    np.testing.assert_array_equal(from_rdkit(mol).positions, from_rdkit(mol, ids[0]).positions)
    with pytest.raises(ValueError, match=r"conformer: got 7, the RDKit molecule has \[0, 1, 2\]"):
        from_rdkit(mol, 7)
    with pytest.raises(ValueError, match="conformer: got -1, the RDKit molecule has none"):
        from_rdkit(Chem.MolFromSmiles("C"))


def test_bonds_that_no_molecule_has_are_refused() -> None:
    bonds = np.array([[0, 1, 3], [1, 2, 3]])
    with pytest.raises(ValueError, match="molecule 'odd': its bonds give no molecule"):
        to_rdkit(Molecule(np.array([6, 6, 6]), np.eye(3, dtype=np.float32), name="odd", bonds=bonds), rdkit_bonds)
    far = Molecule(np.array([6, 6]), np.array([[0, 0, 0], [0.1, 0, 0]], np.float32), name="odd")
    with pytest.raises(ValueError, match="molecule 'odd': its bonds cannot be read: overlap"):
        to_rdkit(far, rdkit_bonds)


# PyTorch Geometric


def test_pyg_data_hold_everything(molecules: Sequence[Molecule]) -> None:
    pytest.importorskip("torch_geometric")
    for molecule in molecules:
        assert_equal(from_pyg(to_pyg(molecule)), molecule)
        bare = replace(molecule, hydrogens=None, charges=None, bonds=None)
        assert_equal(from_pyg(to_pyg(bare)), bare)


def test_pyg_batches_shift_the_bonds(molecules: Sequence[Molecule]) -> None:
    """The batch is one graph, whose bonds are those of the molecules one after another."""
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Batch

    batch = Batch.from_data_list([to_pyg(molecule) for molecule in molecules])
    offset, expected = 0, []
    for molecule in molecules:
        assert molecule.bonds is not None
        expected += [(i + offset, j + offset, order) for i, j, order in molecule.bonds.tolist()]
        offset += len(molecule)
    ends, orders = batch["edge_index"].T.tolist(), batch["bond_order"].tolist()
    assert sorted((*end, order) for end, order in zip(ends, orders, strict=True) if end[0] < end[1]) == sorted(expected)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"z": [6]}, "missing fields: pos"),
        ({"pos": [[0.0, 0, 0]]}, "missing fields: z"),
        ({"z": [6.5], "pos": [[0.0, 0, 0]]}, "atomic numbers: got float32"),
        ({"z": [0], "pos": [[0.0, 0, 0]]}, "atomic numbers: got 0 to 0, allowed: 1 to 118"),
        ({"z": [6, 8], "pos": [[0.0, 0, 0]]}, r"positions: got shape \(1, 3\), expected \(2, 3\)"),
        ({"z": [6], "pos": [[0.0, float("nan"), 0]]}, "non-finite positions"),
        ({"z": [], "pos": []}, "atomic numbers: got float32 of shape|no atoms"),
        (
            {"z": [6, 8], "pos": [[0.0, 0, 0], [1, 0, 0]], "edge_index": [[0], [2]], "bond_order": [1]},
            "bonds: got atoms or orders out of range",
        ),
    ],
)
def test_pyg_items_that_are_no_molecules_are_named(fields: dict[str, list[float]], reason: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Data

    data = Data(**{name: torch.tensor(value) for name, value in fields.items()})
    with pytest.raises(ValueError, match=reason):
        from_pyg(data)
    methane = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3))
    found, report = pyg_molecules([methane, data, methane], "counts")
    assert found.names == ("item 1", "item 3")
    assert [item.where for item in report.skipped] == ["item 2"]


def test_any_pyg_data_set_is_named_by_its_class(tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric")
    for name in ("NoSuchSet", "Data", "__name__"):
        with pytest.raises(ValueError, match=f"data.dataset: got '{name}', allowed: the name of a data set"):
            load_pyg(name, tmp_path, {})
    with pytest.raises(ValueError, match="cannot be read as PyG's MD17"):
        load_pyg("MD17", tmp_path, {"name": "no such molecule"})


# ASE


def test_ase_atoms_hold_everything_but_bonds(molecules: Sequence[Molecule]) -> None:
    pytest.importorskip("ase")
    for molecule in molecules:
        back = from_ase(to_ase(molecule))
        assert back.bonds is None
        assert_equal(back, molecule, FIELDS[:-1])


def test_ase_atoms_of_anyone_are_read() -> None:
    pytest.importorskip("ase")
    from ase import Atoms

    molecule = from_ase(Atoms("OH2", positions=[[0, 0, 0.117], [0, 0.757, -0.469], [0, -0.757, -0.469]]))
    assert molecule.numbers.tolist() == [8, 1, 1]
    assert (molecule.name, molecule.hydrogens, molecule.charges) == ("", None, None)
    counts = count_hydrogens(molecule).hydrogens
    assert counts is not None
    assert counts.tolist() == [2]
    with pytest.raises(ValueError, match="periodic structure"):
        from_ase(Atoms("C", positions=[[0, 0, 0]], cell=[3, 3, 3], pbc=True))
    with pytest.raises(ValueError, match="atomic numbers: got 0 to 6"):
        from_ase(Atoms("XC", positions=[[0, 0, 0], [1, 0, 0]]))
