"""Laws of standardisation: one spelling for a molecule, charges by protons alone, and a reason for what is left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolDescriptors

from molrl.data.molecules.neutralise import neutral
from molrl.data.molecules.standardise import Fragments, Treatment, standardise

MOLECULES = (
    *("CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O", "C[N+](C)(C)CC(=O)[O-]", "O=[N+]([O-])c1ccccc1", "F/C=C/Cl", "C1CC2CCC1O2"),
    *("Cn1c(=O)c2c(ncn2C)n(C)c1=O", "CS(=O)(=O)N", "c1ccc2[nH]ccc2c1", "[2H]C(F)Cl", "C[Si](C)(C)C", "CB(O)O"),
)


def standard(smiles: str, fragments: Fragments = "largest", *, neutralise: bool = True) -> str:
    """Return the standardised SMILES or the reason."""
    mol = standardise(smiles, Treatment(fragments, neutralise))
    return mol if isinstance(mol, str) else Chem.MolToSmiles(mol)


@given(st.sampled_from(MOLECULES), st.integers(0, 2**31 - 1))
def test_every_spelling_of_a_molecule_has_one_standard_which_is_its_own(smiles: str, seed: int) -> None:
    (spelling,) = Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(smiles), 1, randomSeed=seed)
    assert standard(spelling) == standard(smiles)
    assert standard(standard(smiles)) == standard(smiles)


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("CC(=O)[O-].[Na+]", "CC(=O)O"),
        ("Cl.NCCc1ccccc1", "NCCc1ccccc1"),
        ("C[NH3+].[Cl-]", "CN"),
        ("CCO.CCO", "CCO"),  # equal ones
        ("OCCO.CCCN", "OCCO"),  # four heavy atoms each: 62.04 against 59.07 daltons
        ("CCCO.CC(C)O", "CC(C)O"),  # equally heavy: the first in order of SMILES
        ("O=S(=O)(O)O.O=S(=O)(O)O.CN", "CN"),  # an acid of more heavy atoms is not organic
        ("[O-][Cl+3]([O-])([O-])[O-].[CH3:7][NH3+:1]", "CN"),
        ("F[P-](F)(F)(F)(F)F.CC[n+]1ccn(C)c1", "CC[n+]1ccn(C)c1"),  # no proton explains this charge
        ("[NH3+]CC(=O)[O-]", "NCC(=O)O"),
        ("C[N+](C)(C)CC(=O)[O-]", "C[N+](C)(C)CC(=O)[O-]"),
        ("[O-][n+]1ccccc1", "[O-][n+]1ccccc1"),
        ("[CH3:1][C@H]([CH3:2])O", "CC(C)O"),  # a stereo centre only by its atom maps
        ("OC(=O)C[C@H](C)CC(=O)[O-]", "CC(CC(=O)O)CC(=O)O"),  # and one only by a charge
    ],
)
def test_a_salt_is_its_neutral_parent(smiles: str, expected: str) -> None:
    assert standard(smiles) == Chem.CanonSmiles(expected)


def test_charges_stay_unless_neutral_molecules_are_asked_for() -> None:
    assert standard("C[NH3+].[Cl-]", neutralise=False) == "C[NH3+]"


@pytest.mark.parametrize(
    ("smiles", "fragments", "reason"),
    [
        ("CC(=O)[O-].[Na+]", "refuse", "several fragments: CC(=O)[O-], [Na+]"),
        ("Cl.Br.I.CN", "refuse", "several fragments: CN, I, Br, ..."),
        ("[Fe]", "largest", "metal: Fe"),
        ("C[Hg]C", "largest", "metal: Hg"),
        ("CO[Ti](OC)(OC)OC.[Na+]", "largest", "metal: Ti"),
        ("[Na+].[Cl-]", "largest", "inorganic: no carbon"),
        ("O", "refuse", "inorganic: no carbon"),
        ("C*", "largest", "dummy or query atom"),
        ("C1CC", "largest", "not a SMILES"),
        ("CN(C)(C)C", "largest", "not a SMILES"),  # five bonds
        ("", "largest", "not a SMILES"),
        ("Cé", "largest", "not a SMILES"),
        ("C" * 513, "largest", "more than 512 heavy atoms"),
        ("C" * 10_001, "largest", "more than 10000 characters"),
    ],
)
def test_what_is_left_out_has_a_short_category_and_a_name(smiles: str, fragments: Fragments, reason: str) -> None:
    assert standard(smiles, fragments) == reason


def test_a_large_counter_ion_costs_nothing() -> None:
    assert standard("C" * 600 + ".[Na+]") == "more than 512 heavy atoms"
    assert standard("CN." + "O" * 600) == "CN"


def test_an_unknown_treatment_is_refused() -> None:
    with pytest.raises(ValueError, match="fragments: got 'biggest', allowed: largest, refuse, keep"):
        Treatment("biggest")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "smiles",
    [
        *("C[NH3+]", "CC(=O)[O-]", "[NH3+]CC(=O)[O-]", "[O-]c1ccccc1", "c1cc[nH+]cc1", "C[N+](C)(C)CC(=O)[O-]"),
        *("C[S-]", "[2H]C[NH3+]", "O=[N+]([O-])CC[NH3+]", "[NH3+]CC[NH3+]"),
    ],
)
def test_hydrogens_with_positions_move_as_implicit_ones_do(smiles: str) -> None:
    """The heavy atoms stay where they are, and no hydrogen is left without a position."""
    flat = Chem.MolFromSmiles(smiles)
    full = Chem.AddHs(flat)
    assert rdDistGeom.EmbedMolecule(full, randomSeed=7) == 0
    moved, expected = neutral(full), neutral(flat)
    assert Chem.MolToSmiles(Chem.RemoveAllHs(moved)) == Chem.MolToSmiles(Chem.RemoveAllHs(expected))
    assert rdMolDescriptors.CalcMolFormula(moved) == rdMolDescriptors.CalcMolFormula(expected)
    assert all(atom.GetTotalNumHs() == 0 for atom in moved.GetAtoms())
    heavy = [[atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1] for mol in (full, moved)]
    np.testing.assert_array_equal(
        full.GetConformer().GetPositions()[heavy[0]], moved.GetConformer().GetPositions()[heavy[1]]
    )
    distance = Chem.Get3DDistanceMatrix(moved) + 9 * np.eye(moved.GetNumAtoms())
    assert distance.min() > 0.8
