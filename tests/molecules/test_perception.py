"""The choice of the bond reader by what is known, and the way of atom types through files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import molrl
from rdkit import Chem

from molrl.data.molecules.bonds import Reading, rdkit_bonds
from molrl.data.molecules.molecule import Hydrogens, Molecule, Molecules
from molrl.data.molecules.perception import perceive_bonds, without_bonds
from molrl.data.molecules.sdf import read_sdf, write_sdf
from molrl.data.molecules.smiles import read_smiles
from molrl.data.molecules.valence import valence_bonds

CHARGED = ("C[N+](=O)[O-]", "[NH3+]CC(=O)[O-]", "CN=[N+]=[N-]", "C[n+]1ccccc1", "CS(C)(=O)=O", "COP(=O)([O-])[O-]")


def typed(smiles: str, hydrogens: Hydrogens = "counts") -> Molecule:
    """Return the types and the positions of the atoms of a molecule, without its bonds."""
    (molecule,), _ = read_smiles([smiles], hydrogens)
    return without_bonds(molecule)


def smiles_of(reading: Reading) -> str:
    """Return canonical SMILES without stereo marks, or the reason why there is none."""
    return reading.reason if reading.mol is None else Chem.MolToSmiles(reading.mol, isomericSmiles=False)


@pytest.mark.parametrize("hydrogens", ["atoms", "counts"])
def test_charges_decide_which_reader_reads(hydrogens: Hydrogens) -> None:
    for smiles in CHARGED:
        assert smiles_of(perceive_bonds(typed(smiles, hydrogens))) == Chem.CanonSmiles(smiles)
    for smiles in (*CHARGED, "CC(=O)Nc1ccccc1", "OCC#N"):
        untyped = replace(typed(smiles, hydrogens), charges=None)
        assert smiles_of(perceive_bonds(untyped)) == smiles_of(rdkit_bonds(untyped))


def test_without_charges_types_are_incomplete() -> None:
    with pytest.raises(ValueError, match="no formal charges"):
        valence_bonds(replace(typed("CCO"), charges=None))


def test_given_bonds_are_taken_over() -> None:
    (nitro,), _ = read_smiles(["C[N+](=O)[O-]"], "counts")
    torn = replace(nitro, positions=10 * nitro.positions)
    for known in (torn, replace(torn, charges=None)):
        assert smiles_of(perceive_bonds(known)) == "C[N+](=O)[O-]"
    assert perceive_bonds(without_bonds(torn)) == (None, "valence")


@pytest.mark.parametrize("hydrogens", ["atoms", "counts"])
def test_packed_bonds_are_not_perceived_again(hydrogens: Hydrogens) -> None:
    """Arrays keep no graph; stereo marks follow from the geometry, which is too rough here to perceive anything."""
    smiles = [*CHARGED, "C[C@H](N)C(=O)O", "F/C=C/Cl", "c1cc[nH]c1", "O=C(O)c1ccc[nH]c1=O"]
    molecules, _ = read_smiles(smiles, hydrogens)
    noise = np.random.default_rng(0)
    for molecule, text in zip(Molecules.pack(molecules), smiles, strict=True):
        shift = noise.normal(0, 0.2, molecule.positions.shape).astype(np.float32)
        known = perceive_bonds(replace(molecule, positions=molecule.positions + shift))
        assert known.mol is not None
        assert smiles_of(known) == Chem.CanonSmiles(Chem.MolToSmiles(Chem.MolFromSmiles(text), isomericSmiles=False))
        exact = perceive_bonds(molecule)
        assert exact.mol is not None
        assert Chem.MolToSmiles(exact.mol) == Chem.CanonSmiles(text)


def test_bonds_that_give_no_molecule_are_no_molecule() -> None:
    (nitro,), _ = read_smiles(["C[N+](=O)[O-]"], "counts")
    assert perceive_bonds(replace(nitro, graph=None, charges=np.zeros(4, np.int64))) == (None, "valence")
    assert perceive_bonds(replace(nitro, graph=None, charges=np.full(4, 9))) == (None, "charges")


@pytest.mark.parametrize("hydrogens", ["atoms", "counts"])
def test_written_types_and_bonds_come_back(hydrogens: Hydrogens, tmp_path: Path) -> None:
    samples = [typed(smiles, hydrogens) for smiles in CHARGED]
    assert write_sdf(samples, tmp_path / "x.sdf", perceive_bonds) == len(CHARGED)
    back, _ = read_sdf(tmp_path / "x.sdf", hydrogens)
    for sample, molecule in zip(samples, back, strict=True):
        assert molecule.graph is not None
        assert Chem.MolToSmiles(Chem.RemoveHs(molecule.graph)) == Chem.CanonSmiles(sample.name)
        np.testing.assert_array_equal(molecule.charges, sample.charges)
        np.testing.assert_array_equal(molecule.hydrogens, sample.hydrogens)
        assert smiles_of(perceive_bonds(without_bonds(molecule))) == Chem.CanonSmiles(sample.name)


def test_an_unreadable_molecule_is_written_with_its_types(tmp_path: Path) -> None:
    sample = typed("C[NH3+]")
    torn = replace(sample, positions=5 * sample.positions)
    assert write_sdf([torn], tmp_path / "x.sdf", perceive_bonds) == 0
    text = (tmp_path / "x.sdf").read_text()
    assert "M  CHG  1   2   1" in text
    assert "<unreadable>\nvalence" in text
    (back,), _ = read_sdf(tmp_path / "x.sdf")
    np.testing.assert_array_equal(back.hydrogens, sample.hydrogens)


def test_evaluation_perceives_bonds_from_the_types_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.sdf"
    assert write_sdf([typed(smiles) for smiles in CHARGED], path, perceive_bonds) == len(CHARGED)
    done = molrl("evaluate", str(path), "perceive=true", "posebusters=null")
    assert "bonds: by perceive_bonds" in done.out
    assert "validity               1.0000" in done.out


def test_a_typed_molecule_that_is_unreadable_stays_so_in_a_file(tmp_path: Path) -> None:
    """A carbon with three hydrogens has no bond order left for a double bond; the file keeps that it was known."""
    apart = np.array([[0, 0, 0], [1.33, 0, 0]], np.float32)
    ethene = Molecule(np.array([6, 6]), apart, hydrogens=np.array([2, 2]), charges=np.array([0, 0]))
    radical = replace(ethene, hydrogens=np.array([3, 2]))
    assert write_sdf([ethene, radical], tmp_path / "x.sdf", perceive_bonds) == 1
    molecules, _ = read_sdf(tmp_path / "x.sdf")
    assert [perceive_bonds(molecule).reason for molecule in molecules] == ["", "valence"]
    assert molecules[1].charges is not None
    write_sdf([replace(radical, charges=None)], tmp_path / "untyped.sdf", perceive_bonds)
    assert read_sdf(tmp_path / "untyped.sdf")[0][0].charges is None
