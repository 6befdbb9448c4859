"""Molecules in a report: formulas, structures and what the samples are made of."""

import io

import numpy as np
from PIL import Image
from rdkit import Chem

from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.perception import perceive_bonds
from molrl.exhibit import Counts
from molrl.models.molecules.exhibits import count_makeup, exhibit_molecule

ANGLE = np.arange(6) * np.pi / 3
RING = np.column_stack([np.cos(ANGLE), np.sin(ANGLE), np.zeros(6)])
BENZENE = Molecule(
    np.array([6] * 6 + [1] * 6), np.concatenate([1.39 * RING, 2.48 * RING]).astype(np.float32), name="</script>"
)
ETHANE = Molecule(  # two staggered methyl groups
    np.array([6, 6] + [1] * 6),
    np.array(
        [[0, 0, 0.76], [0, 0, -0.76]]
        + [[1.02 * np.cos(a), 1.02 * np.sin(a), 1.16] for a in ANGLE[::2]]
        + [[1.02 * np.cos(a), 1.02 * np.sin(a), -1.16] for a in ANGLE[1::2]],
        np.float32,
    ),
)
APART = Molecule(np.array([6, 6]), np.zeros((2, 3), np.float32))


def test_a_molecule_has_its_formula_its_structure_and_facts() -> None:
    shown = exhibit_molecule(BENZENE, perceive_bonds, {"c1ccccc1"})
    assert shown.title == "c1ccccc1"
    assert shown.facts == {
        **{"valid": "yes", "heavy atoms": 6, "scaffold": "c1ccccc1", "rings": "1", "aromatic": "yes", "novel": "no"}
    }
    assert Image.open(io.BytesIO(shown.image)).format == "PNG"
    mol = Chem.MolFromMolBlock(shown.sdf, removeHs=False)
    assert np.allclose(mol.GetConformer().GetPositions(), BENZENE.positions, atol=1e-4)
    assert sorted(bond.GetBondTypeAsDouble() for bond in mol.GetBonds()) == [1.0] * 6 + [1.5] * 6


def test_what_cannot_be_read_says_why_and_still_has_its_atoms() -> None:
    shown = exhibit_molecule(APART, perceive_bonds, None)
    assert (shown.title, shown.facts) == ("not readable: overlap", {"valid": "no", "heavy atoms": 2})
    assert shown.image == b""
    assert Chem.MolFromMolBlock(shown.sdf, sanitize=False).GetNumAtoms() == 2


def test_the_makeup_is_counted_over_the_readable_molecules() -> None:
    found = count_makeup([perceive_bonds(molecule) for molecule in (BENZENE, ETHANE, APART)])
    assert found == {
        "elements": Counts({"C": 8}, 8, "heavy atoms"),
        "heavy atoms per molecule": Counts({"6": 1, "2": 1}, 2, "molecules"),
        "rings per molecule": Counts({"1": 1, "0": 1}, 2, "molecules"),
        "ring sizes": Counts({"6": 1}, 1, "rings"),
        "molecules with a functional group": Counts({}, 2, "molecules"),
        "scaffolds": Counts({"c1ccccc1": 1, "none (no rings)": 1}, 2, "molecules"),
    }
    assert all(counts.total == 0 for counts in count_makeup([perceive_bonds(APART)]).values())
