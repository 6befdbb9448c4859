"""Strain energy: the energy that a geometry loses when a force field relaxes it."""

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from rdkit import Chem, rdBase
from rdkit.Chem import rdForceFieldHelpers

from molrl.data.molecules.bonds import Reading, attach_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.geometry import GeometryReward
from molrl.rewards.scores import Scored

MAX_STRAIN = 100.0  # kcal/mol for each heavy atom; a bond stretched by half an angstrom costs about as much
MAX_ENERGY = 1e12  # kcal/mol; beyond it double precision does not resolve what a relaxation changes


@dataclass(frozen=True, kw_only=True)
class Strain(GeometryReward):
    """The strain E(as generated) - E(relaxed) in kcal/mol for each heavy atom, in [0, 100]: smaller is better.

    MMFF94 (Halgren 1996, doi:10.1002/(SICI)1096-987X(199604)17:5/6<490::AID-JCC1>3.0.CO;2-P), and UFF (Rappe et al.
    1992, doi:10.1021/ja00051a040) where MMFF94 lacks an atom type; NaN ("no force field") where both do. 100 for a bad
    sample and for anything worse, such as overlapping atoms. Hydrogens without positions are placed and relaxed before
    the first energy, everything else held fixed, so that the value depends on the generated atoms only.

    Attributes:
        steps: of minimisation at most; one that has not converged by then gives a lower bound.
    """

    steps: int
    floor: ClassVar[float] = MAX_STRAIN

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}, need at least 1")

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        with rdBase.BlockLogs():
            complete, given = add_hydrogens(mol, sample)
            if len(Chem.GetMolFrags(complete)) > 1:
                return Scored(self.floor, "stray hydrogen")
            before = relax_added(complete, given, self.steps)
            if before is None:
                return Scored(math.nan, "no force field")
            start = before.CalcEnergy()
            if not start < MAX_ENERGY:
                return Scored(MAX_STRAIN)
            after = force_field(complete)
            try:
                after.Minimize(maxIts=self.steps)
            except RuntimeError:  # RDKit's line search fails where forces are absurd
                return Scored(MAX_STRAIN)
            drop = (start - after.CalcEnergy()) / mol.GetNumHeavyAtoms()
        return Scored(min(max(drop, 0.0), MAX_STRAIN) if math.isfinite(drop) else MAX_STRAIN)


def add_hydrogens(mol: Chem.Mol, sample: Molecule) -> tuple[Chem.Mol, int]:
    """Return a molecule with all its hydrogens as atoms with positions, and how many atoms the sample places itself.

    Those come first.
    """
    sampled, _ = attach_bonds(sample, lambda _: Reading(mol, ""))
    Chem.SanitizeMol(sampled)
    return Chem.AddHs(sampled, addCoords=True), sampled.GetNumAtoms()


def relax_added(mol: Chem.Mol, given: int, steps: int) -> Any:
    """Relax all atoms but the first `given` in place; return the force field, or None if there is none for them."""
    field = force_field(mol)
    if field is not None and given < mol.GetNumAtoms():
        for atom in range(given):
            field.AddFixedPoint(atom)
        with suppress(RuntimeError):  # RDKit's line search fails where forces are absurd
            field.Minimize(maxIts=steps)
    return field


def force_field(mol: Chem.Mol) -> Any:
    """Return MMFF94 or else UFF for a molecule, initialised; None if neither has all parameters."""
    if (properties := rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)) is not None:
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        field = rdForceFieldHelpers.UFFGetMoleculeForceField(mol)
    else:
        return None
    if field is not None:
        field.Initialize()
    return field
