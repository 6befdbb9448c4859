"""Laws of the bond readers and of EDM's valence check."""

import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from rdkit import Chem

from molrl.data.molecules.bonds import THRESHOLDS, BondReader, edm_table, is_connected, rdkit_bonds, stable_atoms
from molrl.data.molecules.molecule import Molecule, count_hydrogens
from molrl.data.molecules.smiles import read_smiles

READERS = pytest.mark.parametrize("reader", [edm_table, rdkit_bonds])
ROUND_TRIPS = (
    *("C", "CCO", "c1ccncc1", "Cc1ccccc1", "CC(=O)O", "CC#N", "C1C=N1", "C1=CN1", "c1cc[nH]c1", "c1ccoc1", "NC=O"),
    *("CN(C)C", "O=C=O", "C#CC=O", "CC(F)(F)F", "O=c1cc[nH]c(=O)[nH]1", "OCC1CO1", "N#CC#N"),
)


def molecule(numbers: list[int], positions: NDArray[np.float64] | list[list[float]]) -> Molecule:
    return Molecule(np.array(numbers, dtype=np.int64), np.array(positions, dtype=np.float32).reshape(-1, 3))


def benzene() -> Molecule:
    """Build benzene with r(CC) = 1.393 and r(CH) = 1.090 angstrom: B3LYP, as in QM9."""
    angle = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(6)], axis=1)
    return molecule([6] * 6 + [1] * 6, np.concatenate([1.393 * ring, (1.393 + 1.090) * ring]))


def furan() -> Molecule:
    """Build furan (Bak et al., J. Mol. Spectrosc. 9, 124, 1962): CO 1.362, C=C 1.361, CC 1.431, CH 1.076."""
    half = np.deg2rad(106.55 / 2)
    alpha = np.array([1.362 * np.sin(half), -1.362 * np.cos(half), 0.0])
    beta = np.array([1.431 / 2, alpha[1] - np.sqrt(1.361**2 - (alpha[0] - 1.431 / 2) ** 2), 0.0])
    mirror = np.array([-1.0, 1.0, 1.0])
    heavy = np.stack([np.zeros(3), alpha, beta, beta * mirror, alpha * mirror])
    outwards = heavy[1:] - heavy.mean(0)
    hydrogens = heavy[1:] + 1.076 * outwards / np.linalg.norm(outwards, axis=1, keepdims=True)
    return molecule([8, 6, 6, 6, 6, 1, 1, 1, 1], np.concatenate([heavy, hydrogens]))


def smiles(reader: BondReader, sample: Molecule) -> str:
    mol, reason = reader(sample)
    assert mol is not None, reason
    return Chem.MolToSmiles(mol)


def test_the_table_calls_benzene_unstable_and_furan_stable() -> None:
    """No aromatic bond exists in the table: 139.3 pm reads as single, so every carbon of benzene has three bonds."""
    assert stable_atoms(benzene()).tolist() == [False] * 6 + [True] * 6
    assert stable_atoms(furan()).all()


def test_rdkit_reads_both_rings_where_the_table_reads_furan_only() -> None:
    assert smiles(rdkit_bonds, benzene()) == "c1ccccc1"
    assert smiles(rdkit_bonds, furan()) == smiles(edm_table, furan()) == "c1ccoc1"
    assert smiles(edm_table, benzene()) == "C1CCCCC1"  # sanitisation hides the missing bonds as hydrogens


@pytest.mark.parametrize("text", ROUND_TRIPS)
def test_a_molecule_without_hydrogen_positions_is_read_back_from_its_geometry(text: str) -> None:
    (embedded,), _ = read_smiles([text], "counts")
    assert smiles(rdkit_bonds, replace(embedded, graph=None)) == Chem.CanonSmiles(text)


@READERS
def test_the_order_of_the_atoms_does_not_matter(reader: BondReader) -> None:
    (embedded,), _ = read_smiles(["OCC1CN1C=O"])
    order = np.random.default_rng(0).permutation(len(embedded))
    for sample in (replace(embedded, graph=None), count_hydrogens(embedded)):
        rows = order[order < len(sample)]
        hydrogens = None if sample.hydrogens is None else sample.hydrogens[rows]
        shuffled = Molecule(sample.numbers[rows], sample.positions[rows], hydrogens)
        assert smiles(reader, shuffled) == smiles(reader, sample)
        assert stable_atoms(shuffled).tolist() == stable_atoms(sample)[rows].tolist()


def test_the_table_is_symmetric_in_the_two_elements() -> None:
    assert np.array_equal(THRESHOLDS, THRESHOLDS.swapaxes(1, 2))
    assert smiles(edm_table, molecule([6, 16], [[0, 0, 0], [1.61, 0, 0]])) == "C=S"
    assert smiles(edm_table, molecule([16, 6], [[0, 0, 0], [1.61, 0, 0]])) == "C=S"


@pytest.mark.parametrize(
    ("numbers", "length", "expected"),
    [
        ((6, 6), 1.639, "CC"),
        ((6, 6), 1.641, "C.C"),
        ((6, 6), 1.389, "C=C"),
        ((6, 6), 1.391, "CC"),
        ((6, 6), 1.229, "C#C"),
        ((6, 6), 1.231, "C=C"),
        ((6, 7), 1.189, "C#N"),
        ((7, 8), 1.259, "N=O"),
        ((9, 9), 1.30, "FF"),
        ((6, 11), 2.0, "C.[NaH]"),
    ],
)
def test_a_bond_ends_at_its_length_plus_margin(numbers: tuple[int, int], length: float, expected: str) -> None:
    """Lengths 154/134/120 pm for CC, margins 10/5/3 (EDM's published tables)."""
    pair = molecule(list(numbers), [[0, 0, 0], [0, length, 0]])
    assert smiles(edm_table, pair) == Chem.CanonSmiles(expected)


def test_hydrogen_counts_take_part_in_stability() -> None:
    pair = molecule([6, 8], [[0, 0, 0], [1.43, 0, 0]])
    assert stable_atoms(replace(pair, hydrogens=np.array([3, 1]))).tolist() == [True, True]
    assert stable_atoms(replace(pair, hydrogens=np.array([2, 1]))).tolist() == [False, True]
    assert stable_atoms(replace(pair, hydrogens=np.array([90, -1]))).tolist() == [False, False]


def test_both_settings_agree_on_the_stability_of_a_molecule() -> None:
    molecules, _ = read_smiles(["CCO", "c1ccccc1", "CC#N", "O=C=O", "C[N+](=O)[O-]"])
    for sample in molecules:
        assert stable_atoms(sample).all() == stable_atoms(count_hydrogens(sample)).all()


@READERS
@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (molecule([], []), "no atoms"),
        (molecule([6, 1], [[0, 0, 0], [np.nan, 0, 0]]), "non-finite positions"),
        (molecule([6, 1], [[0, 0, 0], [np.inf, 0, 0]]), "non-finite positions"),
        (molecule([0], [[0, 0, 0]]), "element"),
        (molecule([119], [[0, 0, 0]]), "element"),
        (replace(molecule([6], [[0, 0, 0]]), hydrogens=np.array([-1])), "hydrogens"),
        (replace(molecule([6], [[0, 0, 0]]), hydrogens=np.array([10**9])), "hydrogens"),
    ],
)
def test_what_is_no_molecule_is_refused_with_a_reason(reader: BondReader, sample: Molecule, reason: str) -> None:
    assert reader(sample) == (None, reason)
    assert not stable_atoms(sample).any()
    assert len(stable_atoms(sample)) == len(sample)


@READERS
def test_overfull_valence_is_a_reason_and_no_exception(reader: BondReader) -> None:
    hydrogens = molecule([6] + [1] * 6, np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)]))
    fluorines = molecule([6] + [9] * 6, 1.35 * hydrogens.positions.astype(np.float64))
    for crowd in (hydrogens, fluorines, replace(fluorines, hydrogens=np.zeros(7, np.int64))):
        mol, reason = reader(crowd)
        assert mol is None
        assert reason in ("valence", "bond perception")


def test_too_many_hydrogens_on_an_atom_cannot_be_read() -> None:
    for element, hydrogens in ((6, 5), (7, 5), (8, 4), (9, 3)):
        lone = replace(molecule([element], [[0, 0, 0]]), hydrogens=np.array([hydrogens]))
        assert rdkit_bonds(lone).mol is None


def test_missing_hydrogens_are_not_made_up() -> None:
    """RDKit accepts a carbene and adds its hydrogens, so that a policy could drop them at no cost."""
    lone = replace(molecule([6], [[0, 0, 0]]), hydrogens=np.array([2]))
    assert rdkit_bonds(lone) == (None, "valence")
    assert rdkit_bonds(replace(lone, hydrogens=np.array([3]))).mol is None
    assert smiles(rdkit_bonds, replace(lone, hydrogens=np.array([4]))) == "C"
    methylene = molecule([6, 1, 1], [[0, 0, 0], [0.8, 0.7, 0], [-0.8, 0.7, 0]])
    assert smiles(rdkit_bonds, methylene) == "[CH2]"


@READERS
def test_coincident_atoms_and_random_clouds_never_raise(reader: BondReader) -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 9, 30):
        for spread in (0.0, 0.5, 2.0):
            numbers = rng.choice([1, 6, 7, 8, 9, 16, 35, 80], n)
            sample = Molecule(numbers, (spread * rng.normal(size=(n, 3))).astype(np.float32))
            for each in (sample, replace(sample, hydrogens=rng.integers(0, 4, n))):
                mol, reason = reader(each)
                assert (mol is None) == bool(reason)


def test_perception_of_an_input_that_runs_for_ever_without_a_limit_is_bounded() -> None:
    """The input is an azide with four sulphates, after rdkit issue 9227."""
    (embedded,), _ = read_smiles(["[N-]=[N+]=NC1C(OS(=O)(=O)O)C(OS(=O)(=O)O)C(OS(=O)(=O)O)C(OS(=O)(=O)O)O1"])
    start = time.perf_counter()
    assert rdkit_bonds(replace(embedded, graph=None)).reason == "bond perception"
    rdkit_bonds(count_hydrogens(embedded))
    assert time.perf_counter() - start < 5


@READERS
def test_given_bonds_are_taken_over_and_perceived_otherwise(reader: BondReader) -> None:
    (embedded,), _ = read_smiles(["C[N+](=O)[O-]"])
    assert smiles(reader, embedded) == "C[N+](=O)[O-]"
    far = replace(embedded, positions=embedded.positions * 10)
    assert smiles(reader, far) == "C[N+](=O)[O-]"
    mol, _ = edm_table(replace(far, graph=None))
    assert mol is not None
    assert not is_connected(mol)


@READERS
def test_heavy_atoms_keep_their_order_and_positions(reader: BondReader) -> None:
    (embedded,), _ = read_smiles(["NCC(=O)OC"])
    order = np.random.default_rng(1).permutation(len(embedded))
    sample = Molecule(embedded.numbers[order], embedded.positions[order])
    mol, _ = reader(sample)
    assert mol is not None
    heavy = sample.numbers > 1
    assert [atom.GetAtomicNum() for atom in mol.GetAtoms()] == sample.numbers[heavy].tolist()
    np.testing.assert_allclose(mol.GetConformer().GetPositions(), sample.positions[heavy], atol=1e-6)


def test_only_one_fragment_is_connected() -> None:
    assert is_connected(Chem.MolFromSmiles("CCO"))
    assert not is_connected(Chem.MolFromSmiles("CC.O"))
    assert not is_connected(Chem.MolFromSmiles(""))
