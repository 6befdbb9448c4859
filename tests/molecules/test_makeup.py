"""A run says what its samples are made of before and after, and names what moved far."""

import math

import pytest

from molrl.data.molecules.bonds import Reading
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.perception import perceive_bonds
from molrl.data.molecules.smiles import read_smiles
from molrl.models.molecules.makeup import describe_changes, measure_makeup


def samples(*smiles: str) -> tuple[list[Molecule], list[Reading]]:
    molecules, _ = read_smiles(smiles, "counts")
    return molecules, [perceive_bonds(molecule) for molecule in molecules]


def test_the_makeup_of_four_molecules() -> None:
    """Counted by hand: two of four have N, one has S, one is charged; rings 1, 1, 0 and 2."""
    molecules, readings = samples("c1ccncc1", "c1ccccc1", "CS(C)=O", "C[N+]1(C)CCC2CC21")
    makeup = measure_makeup(molecules, readings)
    assert {name: value for name, value in makeup.items() if name != "circles"} == {
        "molecules_with_C": 1.0,
        "molecules_with_N": 0.5,
        "molecules_with_O": 0.25,
        "molecules_with_S": 0.25,
        "molecules_with_charges": 0.25,
        "rings": 1.0,
        "distinct_scaffolds": 3.0,
    }
    assert makeup["circles"] == 3.0  # pyridine and benzene have a Tanimoto similarity of 0.33


def test_elements_of_unreadable_samples_are_listed_and_their_shares_are_of_the_valid() -> None:
    molecules, readings = samples("CO", "CN")
    makeup = measure_makeup(molecules, [readings[0], Reading(None, "valence")])
    assert (makeup["molecules_with_O"], makeup["molecules_with_N"]) == (1.0, 0.0)


def test_without_a_valid_molecule_shares_are_unknown() -> None:
    molecules, _ = samples("CO")
    makeup = measure_makeup(molecules, [Reading(None, "valence")])
    assert math.isnan(makeup["molecules_with_O"])
    assert math.isnan(makeup["rings"])
    assert makeup["circles"] == 0.0


BEFORE = {"validity": 1.0, "aromatic": 0.5, "molecules_with_N": 0.5, "rings": 2.0, "mean_heavy_atoms": 20.0}
VARIED = {"distinct_scaffolds": 90.0, "circles": 50.0}


@pytest.mark.parametrize(
    ("after", "n", "lines"),
    [
        ({}, 1000, []),
        ({"molecules_with_N": 0.05}, 1000, ["molecules with N: 50% before, 5% after"]),
        ({"molecules_with_N": 0.42}, 1000, []),  # less than a fifth
        ({"molecules_with_N": 0.35}, 1000, ["molecules with N: 50% before, 35% after"]),
        ({"molecules_with_N": 0.35}, 60, []),  # 0.15 with a standard error of 0.09
        ({"aromatic": 0.9}, 1000, ["aromatic molecules: 50% before, 90% after"]),
        ({"rings": 2.5}, 1000, ["rings per molecule: 2 before, 2.5 after"]),
        ({"mean_heavy_atoms": 25.0}, 1000, ["heavy atoms per molecule: 20 before, 25 after"]),
        ({"distinct_scaffolds": 70.0}, 100, ["different scaffolds among 100 samples: 90 before, 70 after"]),
        ({"circles": 41.0}, 100, []),
        ({"rings": math.nan, "molecules_with_N": math.nan}, 1000, []),
    ],
)
def test_what_moved_by_more_than_a_fifth_is_named(after: dict[str, float], n: int, lines: list[str]) -> None:
    before = {**BEFORE, **VARIED}
    assert describe_changes(before, {**before, **after}, n) == lines


def test_an_element_that_vanished_or_appeared_is_named() -> None:
    before = {"validity": 1.0, "molecules_with_S": 0.2, "molecules_with_P": 0.0}
    after = {"validity": 1.0, "molecules_with_P": 0.1}
    assert describe_changes(before, after, 500) == [
        "molecules with S: 20% before, 0% after",
        "molecules with P: 0% before, 10% after",
    ]
