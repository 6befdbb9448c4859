"""The descriptors of molecules by which a run keeps variety, by hand."""

import pytest
from rdkit import Chem

from molrl.data.molecules.bonds import Reading
from molrl.data.molecules.perception import perceive_bonds
from molrl.data.molecules.smiles import read_smiles
from molrl.models.molecules.outcomes import describe_molecule


def described(smiles: str, reference: frozenset[str] | None = None) -> dict[str, str]:
    (molecule,), _ = read_smiles([smiles], "counts")
    return dict(describe_molecule(perceive_bonds(molecule), reference))


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("Cc1ccncc1", {"bucket": "c1ccncc1", "elements": "C N", "rings": "1", "aromatic": "yes"}),
        ("OC1CC2(C1)CC2F", {"bucket": "C1CC2(C1)CC2", "elements": "C O F", "rings": "2", "aromatic": "no"}),
        ("CCO", {"bucket": "acyclic", "elements": "C O", "rings": "0", "aromatic": "no"}),
    ],
)
def test_descriptors_of_a_molecule(smiles: str, expected: dict[str, str]) -> None:
    got = described(smiles)
    assert {name: got[name] for name in expected} == expected
    assert "novel" not in got


def test_rings_beyond_four_are_four() -> None:
    assert described("C12C3C4C1C5C2C3C45")["rings"] == "4"  # cubane has five


def test_two_spellings_and_two_mirror_images_are_one_molecule() -> None:
    assert described("OCC")["identity"] == described("C(C)O")["identity"]
    assert described("C[C@H](O)F")["identity"] == described("C[C@@H](O)F")["identity"]


def test_a_molecule_of_the_training_set_is_not_novel() -> None:
    assert described("OCC", frozenset({"CCO"}))["novel"] == "no"
    assert described("OCC", frozenset({"CCN"}))["novel"] == "yes"


def test_what_cannot_be_read_or_falls_apart_has_no_descriptors() -> None:
    assert describe_molecule(Reading(None, "valence"), None) == {}
    assert describe_molecule(Reading(Chem.MolFromSmiles("CC.CO"), ""), None) == {}
