"""Molecules as a report shows them: structural formulas, 3D structures, and what the samples are made of."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from rdkit import Chem

from molrl.data.molecules.bonds import BondReader, Reading, attach_bonds
from molrl.data.molecules.composition import (
    count_elements,
    count_ring_sizes,
    count_rings,
    count_sizes,
)
from molrl.data.molecules.drawing import draw_molecule, given_atoms
from molrl.data.molecules.graphs import constitution
from molrl.data.molecules.groups import patterns
from molrl.data.molecules.molecule import Molecule
from molrl.exhibit import Counts, Exhibit, encode_drawing
from molrl.models.molecules.outcomes import describe_molecule, scaffold

EXTRA_DESCRIPTORS = ("bucket", "rings", "aromatic", "novel")  # descriptors beside a formula
LABELS = {"bucket": "scaffold"}  # of descriptors, where the name says too little
NO_SCAFFOLD = "none (no rings)"


def exhibit_molecule(molecule: Molecule, reader: BondReader, reference: Container[str] | None) -> Exhibit:
    """Return a molecule with its formula, its structure, and facts such as rings and scaffold; a reason for none.

    The core of a grown molecule is shaded in the formula.
    """
    reading = reader(molecule)
    facts: dict[str, str | float] = {"heavy atoms": int((molecule.numbers > 1).sum())}
    if core := given_atoms(molecule):
        facts["core"] = f"{len(core)} atoms" + (", shaded" if reading.mol else "")
    if reading.mol is None:
        return Exhibit(f"not readable: {reading.reason}", {"valid": "no", **facts}, sdf=structure(molecule, reader))
    described = describe_molecule(reading, reference)
    more = {LABELS.get(name, name): described[name] for name in EXTRA_DESCRIPTORS if name in described}
    return Exhibit(
        title=constitution(reading.mol),
        facts={"valid": "yes", **facts, **more},
        image=encode_drawing(draw_molecule(reading.mol, core)),
        sdf=structure(molecule, reader),
    )


def structure(molecule: Molecule, reader: BondReader) -> str:
    """Return a molfile with the bonds that the reader finds, in Kekulé form where there is one."""
    mol, _ = attach_bonds(molecule, reader)
    try:
        return str(Chem.MolToMolBlock(mol, includeStereo=False))
    except ValueError:  # aromatic rings without a Kekulé form
        return str(Chem.MolToMolBlock(mol, includeStereo=False, kekulize=False))


def count_makeup(readings: Sequence[Reading]) -> Mapping[str, Counts]:
    """Return how often elements, sizes, rings, functional groups and scaffolds occur among the readable molecules."""
    mols = [reading.mol for reading in readings if reading.mol is not None]
    return {
        "elements": distribution(count_elements(mols), "heavy atoms"),
        "heavy atoms per molecule": distribution(count_sizes(mols), "molecules"),
        "rings per molecule": distribution(count_rings(mols), "molecules"),
        "ring sizes": distribution(count_ring_sizes(mols), "rings"),
        "molecules with a functional group": Counts(with_group(mols), len(mols), "molecules"),
        "scaffolds": distribution(count_scaffolds(mols), "molecules"),
    }


def distribution(counts: Mapping[Any, int], of: str) -> Counts:
    """Return counts of outcomes of which each thing has one."""
    return Counts({str(name): number for name, number in counts.items()}, sum(counts.values()), of)


def with_group(mols: Sequence[Chem.Mol]) -> dict[str, int]:
    """Return the number of molecules that have each functional group at least once, without those of none."""
    counts = {name: sum(mol.HasSubstructMatch(group) for mol in mols) for name, group in patterns().items()}
    return {name: number for name, number in counts.items() if number}


def count_scaffolds(mols: Sequence[Chem.Mol]) -> dict[str, int]:
    """Return the number of molecules of each Bemis-Murcko scaffold (1996, doi:10.1021/jm9602928)."""
    counts: dict[str, int] = {}
    for mol in mols:
        name = scaffold(constitution(mol)) or NO_SCAFFOLD
        counts[name] = counts.get(name, 0) + 1
    return counts
