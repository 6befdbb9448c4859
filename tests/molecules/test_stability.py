"""Stability by valence: drugs are stable, radicals are not, and hydrogens that a reader adds do not count."""

from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem

from molrl.data.files import Skipped
from molrl.data.molecules.bonds import Reading, edm_table, rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.quality import measure, measure_readings
from molrl.data.molecules.records import parse_line
from molrl.data.molecules.smiles import Line, read_smiles
from molrl.data.molecules.stability import is_allowed, valence_stable_atoms

DRUGS = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "atorvastatin, carboxylate": "CC(C)c1c(C(=O)Nc2ccccc2)c(-c2ccccc2)c(-c2ccc(F)cc2)n1CCC(O)CC(O)CC(=O)[O-]",
    "bortezomib, boronic acid": "CC(C)CC(NC(=O)C(Cc1ccccc1)NC(=O)c1cnccn1)B(O)O",
    "captopril, thiol": "CC(CS)C(=O)N1CCCC1C(=O)O",
    "chlordiazepoxide, N-oxide": "CN=C1C[N+]([O-])=C(c2ccccc2)c2cc(Cl)ccc2N1",
    "diclofenac sodium": "[Na+].O=C([O-])Cc1ccccc1Nc1c(Cl)cccc1Cl",
    "fosfomycin, P(V)": "CC1OC1P(=O)(O)O",
    "gabapentin, zwitterion": "[NH3+]CC1(CC(=O)[O-])CCCCC1",
    "imatinib": "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1",
    "minoxidil, aromatic N-oxide": "Nc1cc(N2CCCCC2)nc(N)[n+]1[O-]",
    "neostigmine, ammonium": "CN(C)C(=O)Oc1cccc([N+](C)(C)C)c1",
    "nitrofurantoin, nitro": "O=C1CN(N=Cc2ccc([N+](=O)[O-])o2)C(=O)N1",
    "nitroglycerin written with five bonds": "O=N(=O)OCC(ON(=O)=O)CON(=O)=O",
    "omeprazole, S+/O-": "COc1ccc2[nH]c([S+]([O-])Cc3ncc(C)c(OC)c3C)nc2c1",
    "sildenafil, sulfonamide": "CCCc1nn(C)c2c1nc(-c1cc(S(=O)(=O)N3CCN(C)CC3)ccc1OCC)[nH]c2=O",
    "zidovudine, azide": "Cc1cn(C2CC(N=[N+]=[N-])C(CO)O2)c(=O)[nH]c1=O",
}

# (element, charge, sum of bond orders) that "GEOM-Drugs Revisited" found in its data without aromatic bonds
# (arXiv:2505.00169, corrected valency table).
CORRECTED_TABLE = (
    "H0:1 C0:4 C-1:3 C+1:3 N0:3 N+1:4 N-1:2 N-2:1 O0:2 O-1:1 O+1:3 F0:1 S0:2 S0:6 S+1:3 S+2:4 S-1:1 P0:3 P0:5 P+1:4 "
    "Cl0:1 Cl+1:2 Br0:1 Br+1:2 I0:1 I+1:2 I+2:3 B0:3 B-1:4 Si0:4 Bi0:3"
)
ODD_IN_THAT_TABLE = "S0:3 S+3:2 S+3:5 Si+1:5 Bi+2:5"  # open shells, or one bond more than the element has electrons for


def graph(smiles: str) -> Molecule:
    entry = parse_line(Line("here", smiles, smiles))
    assert not isinstance(entry, Skipped), entry
    return entry


def allowed(text: str) -> bool:
    """Tell whether an atom such as `S+1:3` is allowed."""
    label, valence = text.split(":")
    symbol = label.rstrip("+-0123456789")
    atom = Chem.Atom(symbol)
    atom.SetFormalCharge(int(label.removeprefix(symbol)))
    return is_allowed(atom, int(valence))


@pytest.mark.parametrize("name", DRUGS)
def test_drugs_are_stable(name: str) -> None:
    molecule = graph(DRUGS[name])
    stable = valence_stable_atoms(rdkit_bonds(molecule), molecule)
    assert len(stable) == len(molecule)
    assert stable.all()


def test_the_table_allows_what_real_molecules_have_and_no_open_shells() -> None:
    assert [text for text in CORRECTED_TABLE.split() if not allowed(text)] == []
    assert [text for text in ODD_IN_THAT_TABLE.split() if allowed(text)] == []


@pytest.mark.parametrize(
    "text", "C0:3 C0:5 N0:4 N0:5 N+1:3 O0:1 O0:3 O+1:2 O-1:2 S0:5 P0:4 F0:2 B0:4 H0:2 Fe0:2".split()
)
def test_a_bond_too_few_or_too_many_is_not_allowed(text: str) -> None:
    assert not allowed(text)


@pytest.mark.parametrize(
    ("smiles", "unstable"),
    [("C[CH2]", [1]), ("C[CH]C", [1]), ("C[O]", [1]), ("CN(C)[O]", [3]), ("[CH2]", [0]), ("C.[H]", [1])],
)
def test_the_atom_with_the_unpaired_electron_is_the_unstable_one(smiles: str, unstable: list[int]) -> None:
    molecule = graph(smiles)
    assert np.flatnonzero(~valence_stable_atoms(rdkit_bonds(molecule), molecule)).tolist() == unstable


@pytest.mark.parametrize("smiles", ["Cc1ncc[nH]1", "OC(=O)C=C", "CC(=O)NS(C)(=O)=O"])
def test_one_hydrogen_more_or_less_makes_exactly_its_atom_unstable(smiles: str) -> None:
    """A graph whose hydrogens are not those of the molecule is one that the reader has completed."""
    molecule = graph(smiles)
    assert molecule.hydrogens is not None
    reading = rdkit_bonds(molecule)
    for atom in range(len(molecule)):
        for change in (-1, 1):
            hydrogens = molecule.hydrogens.copy()
            hydrogens[atom] += change
            if hydrogens[atom] >= 0:
                stable = valence_stable_atoms(reading, replace(molecule, hydrogens=hydrogens))
                assert np.flatnonzero(~stable).tolist() == [atom]


def test_a_missing_hydrogen_atom_is_missed_also_if_the_reader_adds_it() -> None:
    (ethane,), _ = read_smiles(["CC"])
    bare = replace(ethane, graph=None)
    assert valence_stable_atoms(edm_table(bare), bare).tolist() == [True, True]
    short = Molecule(bare.numbers[:-1], bare.positions[:-1])
    reading = edm_table(short)
    assert reading.mol is not None
    assert Chem.MolToSmiles(reading.mol) == "CC"
    assert valence_stable_atoms(reading, short).tolist() == [True, False]


def test_a_stray_hydrogen_leaves_nothing_stable() -> None:
    (ethane,), _ = read_smiles(["CC"])
    stray = np.where(np.arange(8)[:, None] == 7, np.float32(20), ethane.positions)
    molecule = Molecule(ethane.numbers, stray)
    assert not valence_stable_atoms(edm_table(molecule), molecule).any()


def test_aromatic_and_kekule_forms_are_counted_alike() -> None:
    molecule = graph("Cn1cc[n+](C)c1")
    assert molecule.graph is not None
    kekule = Chem.Mol(molecule.graph)
    Chem.Kekulize(kekule, clearAromaticFlags=True)
    for mol in (molecule.graph, kekule):
        assert valence_stable_atoms(Reading(mol, ""), molecule).all()


def test_an_unreadable_molecule_has_unstable_heavy_atoms() -> None:
    (ethanol,), _ = read_smiles(["CCO"])
    assert valence_stable_atoms(Reading(None, "overlap"), ethanol).tolist() == [False] * 3


def test_records_that_gave_no_molecule_count_as_invalid_and_unstable() -> None:
    molecules = [graph(DRUGS["aspirin"]), graph("C[CH2]")]
    quality = measure_readings(molecules, [rdkit_bonds(one) for one in molecules], unread={"valence or aromaticity": 2})
    assert quality.n == 4
    assert quality.validity == pytest.approx(2 / 4)
    assert quality.valence_molecule_stability == pytest.approx(1 / 4)
    assert quality.valence_atom_stability == pytest.approx(14 / 15)
    assert quality.unreadable == {"valence or aromaticity": 2}


def test_without_a_geometry_there_is_no_stability_by_distance() -> None:
    quality = measure([graph("C"), graph("CCO")], rdkit_bonds)
    assert (quality.edm_atom_stability, quality.edm_molecule_stability) == (None, None)
    assert quality.valence_molecule_stability == 1
