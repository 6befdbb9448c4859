"""MOSES's metrics against the numbers of its package, against hand-computed cases, and as laws."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rdkit import Chem

from molrl.data.molecules import filters
from molrl.data.molecules.moses import (
    brics_fragments,
    cosine_similarity,
    fingerprints,
    frechet_chemnet_distance,
    internal_diversity,
    nearest_similarity,
    ring_scaffolds,
    wasserstein_distance,
)
from molrl.data.molecules.unembedded import Graphs
from molrl.models.molecules.metric_sections import moses_section

FIRST = Graphs.parse(
    (
        "CC(=O)Oc1ccccc1C(=O)O CC(C)Cc1ccc(C(C)C(=O)O)cc1 Cn1c(=O)c2c(ncn2C)n(C)c1=O CC(=O)Nc1ccc(O)cc1 "
        "Cc1cc(NS(=O)(=O)c2ccc(N)cc2)no1 Cc1ncc([N+](=O)[O-])n1CCO O=C(O)Cc1ccccc1Nc1c(Cl)cccc1Cl "
        "CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc21 CNCCC(Oc1ccc(C(F)(F)F)cc1)c1ccccc1 CC(C)NCC(O)COc1cccc2ccccc12"
    ).split()
)
SECOND = Graphs.parse(
    (
        "COc1ccc2[nH]c(S(=O)Cc3ncc(C)c(OC)c3C)nc2c1 O=c1[nH]cc(F)c(=O)[nH]1 CC(C)(C)NCC(O)c1ccc(O)c(CO)c1 "
        "CN(C)CCCN1c2ccccc2CCc2ccccc21 NC(N)=NC(=O)c1nc(Cl)c(N)nc1N CC(C)NCC(O)COc1ccc(CC(N)=O)cc1 "
        "Cc1ccc(-c2cc(C(F)(F)F)nn2-c2ccc(S(N)(=O)=O)cc2)cc1 CCOC(=O)C1=C(COCCN)NC(C)=C(C(=O)OC)C1c1ccccc1Cl "
        "O=C1Nc2ccc(Cl)cc2C(c2ccccc2)=NC1O OC(CCN1CCCCC1)(c1ccccc1)C1CC2C=CC1C2"
    ).split()
)
# moses.metrics of molsets 0.3.1 (fcd_torch 1.0.7) on the two lists: the first against the second, and back.
MOLSETS = {
    "moses_snn": (0.2329028218984604, 0.21866465359926224),
    "moses_fragments": (0.43037668342494384, 0.43037668342494384),
    "moses_scaffolds": (0.16666666666666663, 0.16666666666666663),
    "moses_intdiv1": (0.7824763584136963, 0.8170669460296631),
    "moses_intdiv2": (0.658284558820127, 0.6703497295531189),
    "moses_logp": (0.4580179999999998, 0.4580179999999998),
    "moses_sa": (0.6919047126414345, 0.6919047126414345),
    "moses_qed": (0.06276245404991808, 0.06276245404991808),
    "moses_weight": (61.600500000000025, 61.600500000000025),
}
MOLSETS_FCD = 46.3834796


def mols(*smiles: str) -> tuple[Chem.Mol, ...]:
    return Graphs.parse(smiles).mols


def numbers(values: Sequence[float]) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def test_the_numbers_are_those_of_the_package() -> None:
    for column, (samples, reference) in enumerate([(FIRST, SECOND), (SECOND, FIRST)]):
        figures = {metric.name: metric.value for metric in moses_section(samples, reference, "").metrics}
        for name, values in MOLSETS.items():
            assert figures[name] == pytest.approx(values[column], rel=1e-5), name


def test_the_frechet_distance_is_that_of_the_package() -> None:
    pytest.importorskip("fcd", reason="needs the extra fcd")
    value = frechet_chemnet_distance(FIRST.smiles, SECOND.smiles)
    assert value == pytest.approx(MOLSETS_FCD, rel=1e-4)
    assert frechet_chemnet_distance(FIRST.smiles, FIRST.smiles) == pytest.approx(0, abs=1e-3)
    assert frechet_chemnet_distance(FIRST.smiles, SECOND.smiles[:1]) is None


def test_two_molecules_without_a_common_environment_by_hand() -> None:
    prints = fingerprints(mols("CCO", "c1ccncc1"))
    assert internal_diversity(prints, 1) == pytest.approx(1 / 2)  # half of the pairs are of a molecule with itself
    assert internal_diversity(prints, 2) == pytest.approx(1 - math.sqrt(1 / 2))
    assert nearest_similarity(prints, prints[:1]) == pytest.approx(1 / 2)
    assert nearest_similarity(prints, prints) == 1
    assert nearest_similarity(prints[:0], prints) is None


def test_fragments_are_what_is_left_between_brics_bonds() -> None:
    (amide,) = mols("CCC(=O)Nc1ccccc1")
    assert brics_fragments([amide, amide]) == {"[1*]C(=O)CC": 2, "[5*]N[5*]": 2, "[16*]c1ccccc1": 2}
    assert brics_fragments(mols("CC", "CC", "C")) == {"CC": 2, "C": 1}


def test_scaffolds_have_two_rings_or_more() -> None:
    assert ring_scaffolds(mols("Cc1ccccc1", "CCO", "OCc1ccccc1-c1ccncc1", "c1ccc2ccccc2c1")) == {
        "c1ccc(-c2ccncc2)cc1": 1,
        "c1ccc2ccccc2c1": 1,
    }


def test_the_cosine_by_hand() -> None:
    assert cosine_similarity(Counter("aab"), Counter("abb")) == pytest.approx(4 / 5)
    assert cosine_similarity(Counter("a"), Counter("b")) == 0
    assert cosine_similarity(Counter("aabb"), Counter("ab")) == pytest.approx(1)
    assert cosine_similarity(Counter(), Counter("b")) is None


def test_the_wasserstein_distance_by_hand() -> None:
    assert wasserstein_distance(numbers([0, 1]), numbers([0, 1, 2, 3])) == pytest.approx(1)
    assert wasserstein_distance(numbers([5]), numbers([2, 10])) == pytest.approx(4)
    assert wasserstein_distance(numbers([]), numbers([1])) is None


VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=8)


@given(VALUES, VALUES)
def test_the_wasserstein_distance_is_the_mean_difference_of_quantiles(first: list[float], second: list[float]) -> None:
    """With each value repeated to a common length, the cheapest transport pairs them in order (Villani 2003, 2.18)."""
    pairs = zip(sorted(first * len(second)), sorted(second * len(first)), strict=True)
    expected = sum(abs(a - b) for a, b in pairs) / (len(first) * len(second))
    assert wasserstein_distance(numbers(first), numbers(second)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("smiles", "passes"),
    [
        ("CC(=O)Oc1ccccc1C(=O)O", True),
        ("Cc1ncc([N+](=O)[O-])n1CCO", False),  # charged
        ("C1CCCCCCC1", False),  # eight atoms in a ring
        ("C1CCCCCC1", True),
        ("C[Si](C)(C)C", False),
        ("Ic1ccccc1", False),
        ("O=C1C=CC(=O)C=C1", False),  # a quinone, quinone_A of PAINS
    ],
)
def test_the_filters_one_by_one(smiles: str, passes: bool) -> None:
    assert filters.passes_filters(mols(smiles)[0]) == passes


def test_the_patterns_of_molsets_are_used_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of that name whose tables have two patterns: acyl guanidines, and hydrogens on oxygen."""
    (tmp_path / "molsets-0.3.1.dist-info").mkdir()
    (tmp_path / "molsets-0.3.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: molsets\n")
    tables = tmp_path / "moses" / "metrics"
    tables.mkdir(parents=True)
    (tables / "mcf.csv").write_text("names,smarts\nMCF1,C(=O)N=C(N)N\n")
    (tables / "wehi_pains.csv").write_text('"[#8]-[#1]","<regId=an_alcohol(1)>"\n')
    before = filters.mcf_is_installed()
    filters.molsets_patterns.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(tmp_path))
            assert filters.mcf_is_installed()
            guanidine, alcohol, ether = mols("NC(N)=NC(=O)c1nc(Cl)c(N)nc1N", "CCO", "COC")
            assert [filters.passes_filters(mol) for mol in (guanidine, alcohol, ether)] == [False, False, True]
            assert "moses_filters" in [metric.name for metric in moses_section(FIRST, None, "").metrics]
    finally:
        filters.molsets_patterns.cache_clear()
    assert filters.mcf_is_installed() == before


def test_without_a_reference_the_figures_say_what_they_need() -> None:
    missing = {metric.name: metric.meaning for metric in moses_section(FIRST, None, "").metrics if metric.value is None}
    assert set(missing) == {f"moses_{name}" for name in "snn fragments scaffolds fcd logp sa qed weight".split()}
    assert all(meaning.startswith("needs a reference") for meaning in missing.values())


def test_no_valid_molecule_gives_no_figures_and_no_error() -> None:
    nothing = Graphs.parse([])
    for samples, reference in itertools.product((nothing, FIRST), repeat=2):
        values = [metric.value for metric in moses_section(samples, reference, "").metrics]
        assert all(value is None or math.isfinite(value) for value in values)
    assert {metric.value for metric in moses_section(nothing, nothing, "").metrics} == {None}
