"""`molrl evaluate` for molecules: every figure is there or says what it needs, and no sample is left out."""

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command import complaint, molrl

from molrl.data.molecules.bonds import edm_table, rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.plausibility import PoseBustersCheck
from molrl.data.molecules.quality import fragment_smiles, measure, scaffolds
from molrl.data.molecules.sdf import write_sdf
from molrl.data.molecules.smiles import read_smiles
from molrl.data.molecules.unembedded import read_canonical_smiles, read_unembedded
from molrl.models.molecules.evaluation import PoseBustersResult, choose_evenly, describe_posebusters, run_posebusters
from molrl.models.molecules.metric_table import Metric, Section, format_sections
from molrl.models.molecules.reference import load_reference


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
    text = describe_posebusters(result, "mol_fast", 4, 4, 1e-9)
    assert text == "pass all tests of 'mol_fast', of 0 that 1e-09 s allowed, of 4 molecules"


def test_a_large_file_is_sampled_and_what_has_no_answer_is_counted() -> None:
    assert (
        describe_posebusters(PoseBustersResult(150, 200, {}), "mol", 200, 9000, 60.0)
        == "pass all tests of 'mol', of 200 chosen evenly of 9000 molecules"
    )
    lost = describe_posebusters(PoseBustersResult(1, 2, {"timeout": 1}), "mol", 3, 3, 60.0)
    assert lost == "pass all tests of 'mol', of 2; 1 more without an answer (timeout)"
    assert PoseBustersResult(1, 2, {"timeout": 1}).pass_rate == 0.5


@pytest.mark.parametrize(("most", "expected"), [(None, range(9)), (9, range(9)), (3, {0, 4, 8}), (1, {0})])
def test_an_even_choice_takes_molecules_from_all_parts_of_the_file(most: int | None, expected: Iterable[int]) -> None:
    molecules = [Molecule(numbers=np.array([6]), positions=np.full((1, 3), row, dtype=np.float32)) for row in range(9)]
    assert {int(molecule.positions[0, 0]) for molecule in choose_evenly(molecules, most)} == set(expected)


@pytest.fixture(scope="module")
def sdf(molecules: list[Molecule], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of toluene and ethanol with all atoms, and a carbon with five bonds."""
    path = tmp_path_factory.mktemp("samples") / "in.sdf"
    write_sdf([replace(molecule, graph=None) for molecule in molecules[:2]], path, rdkit_bonds)
    atoms = [(0.0, 0.0, 0.0), *((1.0, 0.2 * n, 0.0) for n in range(5))]
    block = [f"{x:10.4f}{y:10.4f}{z:10.4f} {'H' if row else 'C'}   0" for row, (x, y, z) in enumerate(atoms)]
    bonds = [f"  1  {n}  1  0" for n in range(2, 7)]
    text = "\n".join(["five", "     molrl          3D", "", "  6  5  0  0  0  0            999 V2000", *block, *bonds])
    path.write_text(f"{path.read_text()}{text}\nM  END\n$$$$\n")
    return path


def lines(shown: str) -> dict[str, list[str]]:
    """Return the words of each line of a table by its name."""
    return {words[0]: words[1:] for line in shown.splitlines() if (words := line.split())}


FIGURES = (
    "validity validity_connected valence_atom_stability valence_molecule_stability uniqueness novelty aromatic "
    "mean_heavy_atoms internal_diversity scaffolds circles moses_intdiv1 moses_intdiv2 moses_snn moses_fragments "
    "moses_scaffolds moses_fcd moses_logp moses_sa moses_qed moses_weight"
).split()
GEOMETRIC = (
    "edm_atom_stability edm_molecule_stability edm_validity edm_uniqueness edm_valid_and_unique edm_novelty "
    "edm_geom_validity posebusters"
).split()
COMPOSITION = [f"variation_{name}" for name in "elements sizes rings ring_sizes groups".split()]


def test_evaluation_prints_every_figure_or_how_to_get_it(sdf: Path, tmp_path: Path) -> None:
    shown = molrl("evaluate", str(sdf), f"out={tmp_path / 'out.json'}").out
    table = lines(shown)
    assert [name for name in [*FIGURES, *GEOMETRIC] if name not in table] == []
    assert table["scaffolds"][0] == "1"
    assert table["novelty"][0] == "-"
    assert table["moses_snn"] == ["-", "needs", "a", "reference"]
    if find_spec("posebusters"):
        assert table["posebusters"] == "1.0000 pass all tests of 'mol_fast', of 2".split()
    else:
        assert table["posebusters"] == "- not installed: pip install 'molrl[posebusters]'".split()
    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures) >= {*FIGURES, *GEOMETRIC, "sizes", "elements", "unreadable"}


def test_a_record_without_sound_bonds_is_an_invalid_sample(sdf: Path, tmp_path: Path) -> None:
    """The file has three records; the carbon with five bonds must not be left out of the denominators."""
    shown = molrl("evaluate", str(sdf), f"out={tmp_path / 'out.json'}", "posebusters=null").out
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["n"] == 3
    for name in ("validity", "valence_molecule_stability", "edm_validity"):
        assert figures[name] == pytest.approx(2 / 3)
    assert figures["edm_molecule_stability"] == pytest.approx(1 / 3)  # toluene is aromatic
    assert "unreadable: 1 valence or aromaticity" in shown


def test_a_set_against_itself_is_at_no_distance(sdf: Path, tmp_path: Path) -> None:
    molrl("evaluate", str(sdf), f"reference={sdf}", f"out={tmp_path / 'out.json'}", "posebusters=null")
    figures = json.loads((tmp_path / "out.json").read_text())
    assert {figures[name] for name in COMPOSITION} == {0.0}
    assert {figures[f"moses_{name}"] for name in ("logp", "sa", "qed", "weight")} == {0.0}
    assert [figures[name] for name in ("moses_snn", "moses_fragments")] == pytest.approx([1, 1])
    assert (figures["novelty"], figures["edm_novelty"]) == (0, 0)


def test_smiles_are_read_as_graphs_alone(sdf: Path, tmp_path: Path) -> None:
    """A salt, which embedding refuses, is fine; figures of geometries are not made up; what is no SMILES is invalid."""
    (tmp_path / "in.smi").write_text("[Na+].CC(=O)[O-]\nCCO\nCCX\n")
    shown = molrl("evaluate", str(tmp_path / "in.smi"), f"reference={tmp_path / 'in.smi'}", "threads=1").out
    table = lines(shown)
    assert table["valence_atom_stability"][0] == "1.0000"
    assert table["validity"][0] == table["valence_molecule_stability"][0] == "0.6667"
    assert not [name for name in GEOMETRIC if name in table]
    assert "EDM's protocol (Hoogeboom et al. 2022): needs geometries" in shown
    shown = molrl("evaluate", str(sdf), f"reference={tmp_path / 'in.smi'}", "posebusters=null").out
    assert lines(shown)["edm_novelty"][:3] == ["-", "needs", "a"]
    assert "perceive=true" in complaint(["evaluate", str(tmp_path / "in.smi"), "perceive=true"], 2)


def test_smiles_of_a_reference_are_those_that_a_reader_gives(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("smiles\nC[C@H](N)C(=O)O\n[Na+].[O-]c1ccccc1\nC1=CC=CC=C1\n[H]C([H])=O\nF/C=C/F\nwrong\n")
    texts, report = read_canonical_smiles(path)
    molecules, other = read_unembedded(path, "file")
    assert texts == [fragment_smiles(rdkit_bonds(molecule)) for molecule in molecules]
    assert (report.count, report.skipped) == (other.count, other.skipped)
    assert texts[1] == "[O-]c1ccccc1"


def test_at_most_so_many_reference_molecules_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "reference.smi"
    path.write_text("".join(f"{'C' * n}\n" for n in range(1, 12)))
    reference = load_reference("reference", str(path), rdkit_bonds, "file", perceive=False)
    assert reference.choose(3).smiles == ("C", "C" * 6, "C" * 11)
    assert len(reference.choose(None)) == len(reference.choose(99)) == 11
    (tmp_path / "in.smi").write_text("CCCC\n")
    shown = molrl("evaluate", str(tmp_path / "in.smi"), f"reference={path}", "max_reference=3").out
    assert f"against 3 of 11 molecules of {path}" in shown
    assert lines(shown)["novelty"][0] == "0.0000"  # butane is in the reference, though not among the three


def test_a_missing_posebusters_is_a_line_that_says_how_to_get_it(
    sdf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "posebusters", None)
    shown = molrl("evaluate", str(sdf), f"out={tmp_path / 'out.json'}").out
    assert lines(shown)["posebusters"] == "- not installed: pip install 'molrl[posebusters]'".split()
    assert json.loads((tmp_path / "out.json").read_text())["posebusters"] is None


def test_a_missing_fcd_is_a_line_that_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcd", None)
    (tmp_path / "in.smi").write_text("CCO\nCC\n")
    shown = molrl("evaluate", str(tmp_path / "in.smi"), f"reference={tmp_path / 'in.smi'}").out
    assert lines(shown)["moses_fcd"] == "- not installed: pip install 'molrl[fcd]'".split()


def test_a_number_has_its_place_and_a_missing_one_a_dash() -> None:
    table = [
        Section("first", [Metric("share", 0.5, "of all"), Metric("count", 3, "")]),
        Section("second", [Metric("missing", None, "why")]),
    ]
    assert [line.rstrip() for line in format_sections(table).splitlines()] == [
        "first",
        "  share                           0.5000  of all",
        "  count                                3",
        "",
        "second",
        "  missing                              -  why",
    ]


def test_coordinates_that_molrl_made_are_called_so(tmp_path: Path, sdf: Path) -> None:
    """The geometries of `molrl score` with embed=true say nothing of a model, whatever the figures."""
    (tmp_path / "in.smi").write_text("CCO\nc1ccccc1\nCCN\n")
    scored = tmp_path / "scored.sdf"
    settings = ["reward=qed", "reward.workers=0", "embed=true", f"out={scored}"]
    assert molrl("score", f"file={tmp_path / 'in.smi'}", *settings).code == 0
    printed = molrl("evaluate", str(scored), "posebusters=null").out
    assert "; bonds: by distance alone; molrl embedded 3 of 3 itself\n" in printed
    both = tmp_path / "both.sdf"
    both.write_text(scored.read_text() + sdf.read_text())
    printed = molrl("evaluate", str(both), "seconds=1").out
    assert "\ngeometry; molrl embedded 3 of " in printed
    assert "embedded" not in molrl("evaluate", str(sdf), "posebusters=null").out
