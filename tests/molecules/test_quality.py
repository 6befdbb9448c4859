"""Laws of the evaluation protocol and of the enumerated data set."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from molrl.data.molecules.bonds import edm_table, rdkit_bonds, stable_atoms
from molrl.data.molecules.enumerated import enumerate_molecules, enumerate_smiles
from molrl.data.molecules.molecule import Molecule, Molecules, count_hydrogens
from molrl.data.molecules.quality import Quality, fragment_smiles, internal_diversity, measure, smiles_set
from molrl.data.molecules.smiles import read_smiles


@pytest.fixture(scope="module")
def known() -> list[Molecule]:
    molecules, _ = read_smiles(["CCO", "CC#N", "C1CC1", "CNC=O", "c1ccncc1"], "counts")
    return [replace(molecule, graph=None) for molecule in molecules]


def broken(molecule: Molecule) -> Molecule:
    return replace(molecule, positions=np.full_like(molecule.positions, np.nan))


def join(first: Molecule, second: Molecule) -> Molecule:
    """Return two molecules, 50 angstrom from each other, as one."""
    assert first.hydrogens is not None
    assert second.hydrogens is not None
    return Molecule(
        np.concatenate([first.numbers, second.numbers]),
        np.concatenate([first.positions, second.positions + np.float32(50)]),
        np.concatenate([first.hydrogens, second.hydrogens]),
    )


def test_fractions_count_what_they_say(known: list[Molecule]) -> None:
    samples = [*known, known[0], broken(known[1]), join(known[0], known[3])]
    quality = measure(samples, rdkit_bonds, reference=frozenset({"CCO"}))
    assert quality.n == 8
    assert quality.validity == pytest.approx(7 / 8)
    assert quality.validity_connected == pytest.approx(6 / 8)
    assert quality.uniqueness == pytest.approx(5 / 7)  # the second ethanol and the amide of the pair are repeats
    assert quality.novelty == pytest.approx(4 / 5)
    assert quality.aromatic == pytest.approx(1 / 7)
    assert quality.unreadable == {"non-finite positions": 1}
    assert quality.mean_heavy_atoms == pytest.approx(sum(map(len, samples)) / 8)
    assert sum(quality.sizes.values()) == 8
    assert sum(quality.elements.values()) == sum(map(len, samples))


def test_stability_is_of_all_molecules_and_of_all_atoms(known: list[Molecule]) -> None:
    samples = [known[0], known[1], broken(known[0])]
    quality = measure(samples, edm_table)
    assert quality.edm_molecule_stability == pytest.approx(2 / 3)
    assert quality.edm_atom_stability == pytest.approx(6 / 9)


def test_the_order_of_the_samples_does_not_matter(known: list[Molecule]) -> None:
    forth, back = measure(known, rdkit_bonds), measure(known[::-1], rdkit_bonds)
    assert forth.internal_diversity == pytest.approx(back.internal_diversity)
    assert replace(forth, internal_diversity=None) == replace(back, internal_diversity=None)


def test_a_set_measured_against_itself_holds_nothing_new(known: list[Molecule]) -> None:
    assert measure(known, rdkit_bonds, smiles_set(known, rdkit_bonds)).novelty == 0


def test_nothing_gives_no_fractions_and_no_error() -> None:
    quality = measure([], edm_table, frozenset())
    assert quality.n == 0
    assert quality.validity is None
    assert quality.novelty is None


def test_the_largest_fragment_gives_the_smiles(known: list[Molecule]) -> None:
    assert fragment_smiles(rdkit_bonds(join(known[0], known[4]))) == "c1ccncc1"
    assert fragment_smiles(rdkit_bonds(broken(known[0]))) == ""


def test_diversity_is_zero_for_copies_and_more_for_the_unlike() -> None:
    assert internal_diversity(["CCO", "CCO", "CCO"]) == pytest.approx(0)
    assert internal_diversity(["CCO", "c1ccncc1"]) == pytest.approx(1)  # no environment in common
    assert internal_diversity(["CCO"]) is None


def test_a_result_survives_json(known: list[Molecule]) -> None:
    quality = measure(known, rdkit_bonds)
    assert json.loads(json.dumps(quality.as_dict())) == quality.as_dict()
    assert set(quality.as_dict()) == set(Quality.__dataclass_fields__)


def test_small_molecules_are_enumerated_completely() -> None:
    complete = set(enumerate_smiles(3, width=10**6, seed=0))
    expected = ["C", "N", "O", "CC", "CO", "CN", "C=C", "C#C", "C=O", "C=N", "C#N", "CCC", "CCO", "COC", "CC#N", "NC=O"]
    assert complete >= {Chem.CanonSmiles(text) for text in [*expected, "O=CO", "C1CC1", "C1CO1", "C=CC"]}
    assert not complete & {"OO", "OCO", "C=C=C", "C=CO"}
    assert complete == set(enumerate_smiles(3, width=10**6, seed=1))


def test_enumerated_molecules_are_distinct_valid_and_stable_mostly(tmp_path: Path) -> None:
    molecules = enumerate_molecules(40, max_heavy=5, seed=3, cache=tmp_path)
    quality = measure(molecules, rdkit_bonds)
    assert len(molecules) == len(set(molecules.names)) == 40
    assert quality.validity_connected == quality.uniqueness == 1
    assert np.mean([stable_atoms(molecule).all() for molecule in molecules]) > 0.8


def test_enumeration_is_determined_by_its_arguments_and_cached(tmp_path: Path) -> None:
    first = enumerate_molecules(12, max_heavy=4, seed=5, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    again, afresh = (
        enumerate_molecules(12, max_heavy=4, seed=5, cache=tmp_path),
        enumerate_molecules(12, max_heavy=4, seed=5, cache=None),
    )
    for other in (again, afresh):
        assert other.names == first.names
        np.testing.assert_array_equal(other.positions, first.positions)
    assert enumerate_molecules(12, max_heavy=4, seed=6, cache=None).names != first.names
    file.write_bytes(file.read_bytes()[:100])
    assert enumerate_molecules(12, max_heavy=4, seed=5, cache=tmp_path).names == first.names


def test_counts_are_the_same_molecules_without_their_hydrogens(tmp_path: Path) -> None:
    whole = enumerate_molecules(8, max_heavy=4, cache=tmp_path)
    counted = enumerate_molecules(8, max_heavy=4, cache=tmp_path, counts=True)
    assert counted.names == whole.names
    assert counted.hydrogens is not None
    assert counted.hydrogens.sum() == (whole.numbers == 1).sum()


@pytest.mark.parametrize(("n", "max_heavy"), [(0, 5), (5, 0), (5, 99), (1000, 2)])
def test_impossible_requests_name_what_is_possible(n: int, max_heavy: int) -> None:
    with pytest.raises(ValueError, match=r"enumerated molecules: .*n="):
        enumerate_molecules(n, max_heavy, cache=None)


def test_packed_molecules_are_the_molecules(known: list[Molecule]) -> None:
    packed = Molecules.pack(known)
    for row in (0, 3, -1):
        np.testing.assert_array_equal(packed[row].positions, known[row].positions)
        np.testing.assert_array_equal(packed[row].numbers, known[row].numbers)
        assert packed[row].name == known[row].name
    assert packed[1:4:2].names == (known[1].name, known[3].name)
    np.testing.assert_array_equal(packed.take(np.array([4, 0]))[1].positions, known[0].positions)
    with pytest.raises(IndexError):
        packed[5]


def test_packing_refuses_a_mixture_of_settings(known: list[Molecule]) -> None:
    with pytest.raises(ValueError, match="all or none"):
        Molecules.pack([known[0], replace(known[1], hydrogens=None)])


def test_counting_refuses_a_molecule_without_heavy_atoms_and_a_stray_hydrogen() -> None:
    with pytest.raises(ValueError, match="no heavy atoms"):
        count_hydrogens(Molecule(np.array([1]), np.zeros((1, 3), np.float32)))
    with pytest.raises(ValueError, match="hydrogen without a heavy atom"):
        count_hydrogens(Molecule(np.array([6, 1]), np.array([[0, 0, 0], [2, 0, 0]], np.float32)))
