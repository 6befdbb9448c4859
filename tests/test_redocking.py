"""The benchmarks of flexible docking: bond orders of crystal ligands, resumption, and the tables."""

import argparse
import re
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
def rows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return benchmark("rows")


@pytest.fixture
def flexible(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return benchmark("docking_flexible")


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


def test_a_run_goes_on_after_its_last_whole_row(rows: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "new" / "rows.jsonl"
    first = rows.Rows(out, {"seed": 0})
    first.add({"name": "1abc_LIG", "failed": "x"})
    first.add({"name": "2abc_LIG", "failed": "y"})
    with out.open("a") as file:
        file.write('{"name": "3abc')
    again = rows.Rows(out, {"seed": 0})
    assert again.rows == first.rows
    assert [name in again for name in ("2abc_LIG", "3abc_LIG")] == [True, False]
    again.add({"name": "3abc_LIG"})
    assert [row["name"] for row in rows.Rows(out, {"seed": 0}).rows] == ["1abc_LIG", "2abc_LIG", "3abc_LIG"]


def test_rows_of_other_settings_are_refused_and_stay(rows: ModuleType, tmp_path: Path) -> None:
    rows.Rows(tmp_path / "rows.jsonl", {"seed": 0}).add({"name": "a"})
    with pytest.raises(ValueError, match=r"got rows of {'seed': 0}, need {'seed': 1} or another file"):
        rows.Rows(tmp_path / "rows.jsonl", {"seed": 1})
    assert "a" in rows.Rows(tmp_path / "rows.jsonl", {"seed": 0})


def result(score: float, deviation: float, failed: list[str] | None = None, seconds: float = 3.0) -> dict[str, object]:
    return {"score": score, "vinardo": -5.0, "seconds": seconds, "deviation": deviation, "failed_tests": failed}


def test_the_table_counts_successes_and_names_failures(redocking: ModuleType) -> None:
    """Two of four poses of ours are near and one of them valid: 50 and 25 %, with binomial errors of 25 and 22."""
    pairs = [(0.5, []), (1.9, ["volume"]), (2.1, []), (float("nan"), None)]
    scores = [-6.0, -7.0, -8.0, float("nan")]
    rows = [
        {"name": f"{n}", "ours": result(score, *pair), "vina": result(-7.0, 9.0 if n else float("nan"), [])}
        for n, (score, pair) in enumerate(zip(scores, pairs, strict=True))
    ]
    text = redocking.report([*rows, {"name": "4xyz_LIG", "failed": "cannot be embedded"}])
    assert text.splitlines()[:4] == [
        "4 redocked, 1 failed",
        "  0: the pose by AutoDock Vina has other bonds than the file",
        "  3: no pose by docking_flexible",
        "  4xyz_LIG: cannot be embedded",
    ]
    ours = next(line for line in text.splitlines() if "| docking_flexible" in line)
    assert re.fullmatch(r"\| docking_flexible \| 50 ± 2\d \| 50 ± 2\d \| 25 ± 2\d \| -7.00 \| 3.0 \|", ours)
    assert "| AutoDock Vina | 0 ± 0 | 100 ± 0 | 0 ± 0 | -7.00 | 3.0 |" in text


def test_one_ligand_without_a_pose_is_named_and_spoils_no_number(flexible: ModuleType) -> None:
    """Differences of the other four: -0.2, 0.4, 0.1, -1.0 kcal/mol; the last two change ranks; Vina takes twice."""
    vinas, differences = [-9.0, -8.0, -7.0, -6.0], [-0.2, 0.4, 0.1, -1.0]
    rows = [
        {"name": f"l{n}", "ours": result(b + d, 1.0 + n), "vina": result(b, 0.5, seconds=6.0)}
        for n, (b, d) in enumerate(zip(vinas, differences, strict=True))
    ]
    nothing = {"name": "big", "ours": result(float("nan"), float("nan")), "vina": result(-5.0, 0.5, seconds=6.0)}
    text = flexible.report([*rows, nothing, {"name": "odd", "failed": "RuntimeError: x"}])
    assert "6 ligands, 5 docked, 4 with a pose of both\n  big: no pose by docking_flexible\n  odd: RuntimeError" in text
    assert "nan" not in text
    values = dict(re.findall(r"^\| (.*?) \| (-?[\d.]+) ± ", text, re.MULTILINE))
    assert values["ours - Vina's, median, kcal/mol"] == "-0.050"
    assert values["\\|difference\\|, median, kcal/mol"] == "0.300"
    assert (values["within 0.5 kcal/mol"], values["Spearman"]) == ("0.750", "0.800")
    assert values["Vina's CPU seconds / ours, median"] == "2.000"
    assert re.search(r"\| docking_flexible \| -7.30 \| -5.00 \| 20 ± \d+ \| 3.0 \|", text)  # of five


def test_a_ligand_that_breaks_a_package_is_a_row(flexible: ModuleType) -> None:
    """An element without a radius ends in the row of its ligand, not in the end of the run."""
    mol = geometry("C[Se]C")
    case = flexible.Case("odd:0", mol, flexible.Site(receptor="none.pdb", ligand="LIG", margin=4.0))
    effort = {"chains": 1, "steps": 0, "evaluations": 1, "exhaustiveness": 1}
    row = flexible.compare(case, argparse.Namespace(seed=0, **effort))
    assert row["failed"].startswith(("ValueError: ", "FileNotFoundError: "))
    assert "odd:0: " in flexible.report([row])


def test_the_protein_of_posebusters_has_no_atom_of_the_ligand(redocking: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "1abc_LIG.pdb"
    row = "{:6}{:5d}  {:3} {} A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00          {:>2}\n"
    path.write_text(
        row.format("ATOM", 1, "CA", "ALA", 1, 0, 0, 0, "C") + row.format("HETATM", 2, "C1", "LIG", 2, 9, 0, 0, "C")
    )
    mol = redocking.protein(path, "LIG")
    assert [atom.GetPDBResidueInfo().GetResidueName() for atom in mol.GetAtoms()] == ["ALA"]
