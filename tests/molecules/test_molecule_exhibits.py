"""Molecules in a report: formulas, structures and what the samples are made of."""

import io
from dataclasses import replace

import numpy as np
from PIL import Image
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molrl.data.molecules.drawing import SHADE, draw_molecule
from molrl.data.molecules.molecule import Core, Molecule
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


def shaded_pixels(image: Image.Image) -> int:
    """Return how many pixels have the colour of a shaded part."""
    pixels = np.asarray(image.convert("RGB")).astype(float)
    return int((np.abs(pixels - 255 * np.array(SHADE)) < 8).all(-1).sum())


def test_the_core_of_a_grown_molecule_is_shaded() -> None:
    """Toluene from benzene; what has no core has no shade, and half of the core half of it."""
    mol = Chem.AddHs(Chem.MolFromSmiles("c1ccccc1C"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    ring = np.array([(0, 1, 2), (1, 2, 1), (2, 3, 2), (3, 4, 1), (4, 5, 2), (0, 5, 1)])
    toluene = Molecule(
        np.full(7, 6),
        mol.GetConformer().GetPositions()[:7].astype(np.float32),
        np.array([1, 1, 1, 1, 1, 0, 3]),
        charges=np.zeros(7, np.int64),
    )
    grown = replace(toluene, core=Core(ring, np.array([0, 0, 0, 0, 0, 1])))
    plain, shown = (exhibit_molecule(one, perceive_bonds, None) for one in (toluene, grown))
    assert plain.title == shown.title == "Cc1ccccc1"
    assert (plain.facts.get("core"), shown.facts["core"]) == (None, "6 atoms, shaded")
    areas = [shaded_pixels(Image.open(io.BytesIO(one.image))) for one in (plain, shown)]
    assert areas[0] == 0
    assert areas[1] > 500
    whole, half = (shaded_pixels(draw_molecule(Chem.MolFromSmiles("c1ccccc1C"), range(n))) for n in (6, 3))
    assert 0.3 < half / whole < 0.7


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
