"""The benchmark of redocking: bond orders of crystal ligands, resumption, and the table."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from test_benchmarks import FOLDER, benchmark

SMILES = [
    "CC(=O)Nc1ccc(O)cc1",
    "C#CCN1C=NC2=C1C(=O)N(C)C(=O)N2C",
    "O=[N+]([O-])c1ccc(C#N)cc1",
    "NS(=O)(=O)c1ccc(Cl)s1",
    "CC(O)COP(=O)(O)O",
    "c1ccc2[nH]ccc2c1",
    "O=C(O)C1CC=CCC1N",
    "CN(C)C(=N)N1CCCC1",
    "C[N+](C)(C)CCO",
    "c1ccc(-c2ccncc2)cc1",
]


@pytest.fixture
def crystal_ligand(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return benchmark("crystal_ligand")


@pytest.fixture
def redocking(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return benchmark("redocking")


def geometry(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=3) == 0
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol)
    return Chem.RemoveAllHs(mol)


@pytest.mark.parametrize("smiles", SMILES)
def test_orders_follow_from_the_places_of_the_heavy_atoms(crystal_ligand: ModuleType, smiles: str) -> None:
    """In any order of the atoms; the state is the neutral one, but for nitro groups and quaternary nitrogens."""
    mol = geometry(smiles)
    order = np.random.default_rng(0).permutation(mol.GetNumAtoms()).tolist()
    mixed = Chem.RenumberAtoms(mol, order)
    elements = [atom.GetSymbol().upper() for atom in mixed.GetAtoms()]
    found = crystal_ligand.perceive(elements, mixed.GetConformer().GetPositions())
    assert Chem.MolToSmiles(found, isomericSmiles=False) == Chem.MolToSmiles(mol, isomericSmiles=False)
    assert [atom.GetSymbol().upper() for atom in found.GetAtoms()] == elements


def test_what_is_no_molecule_is_none(crystal_ligand: ModuleType) -> None:
    apart = np.array([[0.0, 0, 0], [9.0, 0, 0]])
    assert crystal_ligand.perceive(["C", "C"], apart) is None
    assert crystal_ligand.perceive(["C", "ZN"], apart / 6) is None


def test_states_that_differ_by_protons_are_the_same(crystal_ligand: ModuleType) -> None:
    neutral = crystal_ligand.neutral
    pair = [neutral(Chem.MolFromSmiles(one)) for one in ("C[NH2+]CC(=O)[O-]", "CNCC(=O)O")]
    assert pair[0] == pair[1]
    assert neutral(Chem.MolFromSmiles("C[N+](=O)[O-]")) == "C[N+](=O)[O-]"


def test_a_run_goes_on_after_its_last_whole_row(redocking: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    assert redocking.kept(out) == []
    rows = [{"name": "1abc_LIG", "failed": "x"}, {"name": "2abc_LIG", "failed": "y"}]
    out.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"name": "3abc')
    assert redocking.kept(out) == rows
    assert out.read_text().endswith('"y"}\n')


def test_the_table_counts_successes_and_names_failures(redocking: ModuleType) -> None:
    """Of four: ours two near, of which one is valid; 50 +- 25, 25 +- 22, in percent."""

    def result(deviation: float, failed: list[str] | None) -> dict[str, object]:
        return {"score": -7.0, "seconds": 3.0, "deviation": deviation, "failed_tests": failed}

    pairs = [(0.5, []), (1.9, ["volume"]), (2.1, []), (float("nan"), None)]
    rows = [{"name": f"{n}", "ours": result(*pair), "vina": result(9.0, [])} for n, pair in enumerate(pairs)]
    text = redocking.report([*rows, {"name": "4xyz_LIG", "failed": "cannot be embedded"}])
    assert "4 redocked, 1 failed\n  4xyz_LIG: cannot be embedded" in text
    assert "| docking_flexible | 50 +- 25 | 50 +- 25 | 25 +- 22 | -7.00 | 3.0 |" in text
    assert "| AutoDock Vina | 0 +- 0 | 100 +- 0 | 0 +- 0 |" in text


def test_the_protein_of_posebusters_has_no_atom_of_the_ligand(redocking: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "1abc_LIG.pdb"
    row = "{:6}{:5d}  {:3} {} A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00          {:>2}\n"
    path.write_text(
        row.format("ATOM", 1, "CA", "ALA", 1, 0, 0, 0, "C") + row.format("HETATM", 2, "C1", "LIG", 2, 9, 0, 0, "C")
    )
    mol = redocking.protein(path, "LIG")
    assert [atom.GetPDBResidueInfo().GetResidueName() for atom in mol.GetAtoms()] == ["ALA"]
