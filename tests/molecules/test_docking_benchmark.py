"""The benchmark of the docking reward counts correctly."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def docking() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_docking", FOLDER / "docking.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_benchmark_hides_a_package_that_it_needs() -> None:
    """A script's own folder comes first where modules are looked for."""
    names = [path.stem for path in FOLDER.glob("*.py")]
    specs = {name: importlib.machinery.PathFinder.find_spec(name) for name in names}
    assert not [name for name, spec in specs.items() if spec is not None and spec.origin is not None]  # no folder


def test_the_rank_correlation_is_that_of_spearman(docking: ModuleType) -> None:
    """Without ties 1 - 6 sum d^2 / (n^3 - n), d the differences of the ranks."""
    first = np.array([1.0, 5.0, 2.0, 9.0])
    assert docking.spearman(first, first**3) == pytest.approx(1.0)
    assert docking.spearman(first, -first) == pytest.approx(-1.0)
    swapped = np.array([1.0, 9.0, 2.0, 5.0])
    assert docking.spearman(first, swapped) == pytest.approx(1 - 6 * 2 / (4**3 - 4))
    assert docking.ranks(np.array([3.0, 1.0, 3.0, 7.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_the_docking_table_is_of_molecules_with_both_scores(docking: ModuleType) -> None:
    scores = np.array([-4.0, -5.0, -6.0, np.nan])
    table = docking.report(
        docking.Column(scores, 0.25),
        docking.Column(np.array([-4.5, -5.2, -6.9, -9.0]), 1.5),
        np.array([8.0, 8.0, 10.0, 9.0]),
        np.array([0.3, 0.4, 0.5, 0.0]),
    )
    assert "-5.00    -5.00" in table
    assert "-5.53    -5.20" in table
    assert "proxy: 1.000" in table
    assert "minus heavy atoms: 0.866" in table
    assert "3 molecules of 4, QED 0.400, heavy atoms 8.67, 33% within 0.5" in table
