"""What `molrl evaluate` adds to EDM's protocol: scaffolds, and plausible geometries where PoseBusters is installed."""

from dataclasses import replace
from pathlib import Path

import pytest
from command import molrl

from molrl.data.bonds import edm_table
from molrl.data.molecule import Molecule
from molrl.data.plausibility import plausible
from molrl.data.quality import measure, scaffolds
from molrl.data.smiles import read_smiles


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
    assert plausible(molecules, edm_table) == 1
    assert plausible([*molecules, *squeezed], edm_table) == 0.5


def test_evaluation_prints_every_figure_or_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "in.smi").write_text("Cc1ccccc1\nCCO\n", "utf-8")
    shown = molrl("evaluate", str(tmp_path / "in.smi")).out
    lines = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
    names = "atom_stability molecule_stability validity validity_connected uniqueness novelty internal_diversity"
    assert not [name for name in [*names.split(), "scaffolds", "posebusters"] if name not in lines]
    assert lines["scaffolds"][0] == "1"
    assert lines["novelty"][0] == "-"
    assert lines["posebusters"][0] == "1.0000" or shown.rstrip().endswith("pip install posebusters")
