"""The composition table counts what is in the files of a run, and nothing else."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from rdkit import Chem
from rdkit.Chem.rdDistGeom import EmbedMolecule

FILE = Path(__file__).parents[2] / "benchmarks" / "composition.py"


@pytest.fixture(scope="module")
def composition() -> ModuleType:
    spec = importlib.util.spec_from_file_location("composition", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(smiles: str, reward: str, reason: str = "") -> str:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    EmbedMolecule(mol, randomSeed=7)
    note = f">  <unreadable>\n{reason}\n\n" if reason else ""
    return f"{Chem.MolToMolBlock(Chem.RemoveHs(mol), kekulize=False)}>  <reward>\n{reward}\n\n{note}$$$$\n"


def test_every_measure_of_a_known_file(composition: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "before.sdf"
    records = [
        record("c1ccncc1", "0.5"),
        record("C1CCCCC1", "0.4"),
        record("C1CCCCC1", "nan"),
        record("CCO", "0", "valence"),
    ]
    path.write_text("".join(records))
    found = composition.measure_composition(composition.read_samples(path), {"C1CCCCC1"})
    assert {name: value.mean for name, value in found.items()} == pytest.approx(
        {
            "mean reward, all samples": 0.3,
            "mean reward, valid molecules": 0.45,
            "valid": 0.75,
            "heavy atoms, all samples": 21 / 4,
            "with nitrogen": 1 / 3,
            "rings per molecule": 1.0,
            "without a ring": 0.0,
            "aromatic": 1 / 3,
            "unique": 2 / 3,
            "novel": 1 / 2,
        }
    )


def test_means_and_changes_of_two_runs_have_the_standard_error_over_the_runs(composition: ModuleType) -> None:
    pairs = ((0.4, 0.5), (0.6, 0.9))
    runs = [
        {when: {"valid": composition.Value(mean, 0.1)} for when, mean in zip(composition.FILES, pair, strict=True)}
        for pair in pairs
    ]
    assert composition.table(runs).splitlines()[-1] == "| valid | 0.500 ± 0.100 | 0.700 ± 0.200 | +0.200 ± 0.100 |"
