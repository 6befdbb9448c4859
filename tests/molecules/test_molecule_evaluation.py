"""Metrics of `molrl evaluate` beside EDM's protocol: scaffolds, and plausible geometries by PoseBusters."""

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from command import molrl

from molrl.data.molecules.bonds import edm_table
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.plausibility import PoseBustersCheck
from molrl.data.molecules.quality import measure, scaffolds
from molrl.data.molecules.smiles import read_smiles
from molrl.models.molecules.evaluation import PoseBustersResult, describe_posebusters, run_posebusters


@pytest.fixture(scope="module")
def molecules() -> list[Molecule]:
    return read_smiles(["Cc1ccccc1", "CCO", "OC(=O)c1ccccc1", "C1CCC1Cc1ccccc1"])[0]


def test_a_scaffold_is_the_rings_and_what_links_them() -> None:
    assert scaffolds(["Cc1ccccc1", "OC(=O)c1ccccc1", "CCO", "N[C@H]1CC1", "C1CC1CCc1ccccc1O"]) == {
        "c1ccccc1", "C1CC1", "c1ccc(CCC2CC2)cc1",
    }  # fmt: skip


def test_distinct_scaffolds_are_counted(molecules: list[Molecule]) -> None:
    assert measure(molecules, edm_table).scaffolds == 2
    assert measure([], edm_table).scaffolds == 0


def test_squeezed_geometries_are_not_plausible(molecules: list[Molecule]) -> None:
    pytest.importorskip("posebusters")
    squeezed = [replace(molecule, positions=0.6 * molecule.positions) for molecule in molecules]
    passes = PoseBustersCheck("mol_fast", edm_table)
    assert [passes(molecule) for molecule in [*molecules, *squeezed]] == [True] * 4 + [False] * 4
    assert PoseBustersCheck("mol", edm_table)(molecules[1])
    assert run_posebusters([*molecules, *squeezed], edm_table, "mol_fast", 60.0) == PoseBustersResult(4, 8, {})


def test_without_time_nothing_is_tested_and_the_line_says_so(molecules: list[Molecule]) -> None:
    pytest.importorskip("posebusters")
    result = run_posebusters(molecules, edm_table, "mol_fast", 1e-9)
    assert (result, result.pass_rate) == (PoseBustersResult(0, 0, {}), None)
    text = describe_posebusters(result, "mol_fast", 4, 1e-9)
    assert text == "pass all tests of 'mol_fast', of 0 that 1e-09 s allowed, of 4 molecules"


def test_a_large_file_is_sampled_and_what_has_no_answer_is_counted() -> None:
    assert (
        describe_posebusters(PoseBustersResult(150, 200, {}), "mol", 9000, 60.0)
        == "pass all tests of 'mol', of 200 chosen evenly of 9000 molecules"
    )
    lost = describe_posebusters(PoseBustersResult(1, 2, {"timeout": 1}), "mol", 3, 60.0)
    assert lost == "pass all tests of 'mol', of 2; 1 more without an answer (timeout)"
    assert PoseBustersResult(1, 2, {"timeout": 1}).pass_rate == 0.5


def test_evaluation_prints_every_figure_or_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "in.smi").write_text("Cc1ccccc1\nCCO\n", "utf-8")
    shown = molrl("evaluate", str(tmp_path / "in.smi")).out
    lines = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
    names = "atom_stability molecule_stability validity validity_connected uniqueness novelty internal_diversity"
    assert not [name for name in [*names.split(), "scaffolds", "posebusters"] if name not in lines]
    assert lines["scaffolds"][0] == "1"
    assert lines["novelty"][0] == "-"
    if find_spec("posebusters"):
        assert "posebusters            1.0000  pass all tests of 'mol_fast', of 2\n" in shown
    else:
        assert "posebusters                 -  not installed: pip install 'molrl[posebusters]'\n" in shown


def test_a_missing_posebusters_is_a_line_that_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "posebusters", None)
    (tmp_path / "in.smi").write_text("CCO\n", "utf-8")
    shown = molrl("evaluate", str(tmp_path / "in.smi"), f"out={tmp_path / 'out.json'}").out
    assert "posebusters                 -  not installed: pip install 'molrl[posebusters]'\n" in shown
    assert json.loads((tmp_path / "out.json").read_text())["posebusters"] is None
