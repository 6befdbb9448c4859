"""Strain: how much energy a geometry gives off when a force field relaxes it."""

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

WORST = 100.0  # kcal/mol for each heavy atom; a bond stretched by half an angstrom costs about as much
SWAMPED = 1e12  # kcal/mol; an energy beyond it does not change when a geometry relaxes, in double precision


@dataclass(frozen=True, kw_only=True)
class Strain(GeometryReward):
    """E(as generated) - E(relaxed) in kcal/mol for each heavy atom, in [0, 100]: a metric, smaller is better.

    MMFF94 (Halgren 1996, doi:10.1002/(SICI)1096-987X(199604)17:5/6<490::AID-JCC1>3.0.CO;2-P), and UFF (Rappe et al.
    1992, doi:10.1021/ja00051a040) where MMFF94 lacks an atom type; NaN ("no force field") where both do. 100 for a bad
    sample and for anything worse, such as overlapping atoms. Hydrogens without positions are placed and relaxed before
    the first energy, everything else held fixed, so that only the generated atoms are judged.

    Attributes:
        steps: of minimisation at most; one that has not converged by then gives a lower bound.
    """

    steps: int
    floor: ClassVar[float] = WORST

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}, need at least 1")

    def measured(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        with rdBase.BlockLogs():
            whole, given = all_atoms(mol, sample)
            if len(Chem.GetMolFrags(whole)) > 1:
                return Scored(self.floor, "stray hydrogen")
            before = place_hydrogens(whole, given, self.steps)
            if before is None:
                return Scored(math.nan, "no force field")
            start = before.CalcEnergy()
            if not start < SWAMPED:
                return Scored(WORST)
            after = force_field(whole)
            try:
                after.Minimize(maxIts=self.steps)
            except RuntimeError:  # RDKit's line search finds no way down where forces are absurd
                return Scored(WORST)
            drop = (start - after.CalcEnergy()) / mol.GetNumHeavyAtoms()
        return Scored(min(max(drop, 0.0), WORST) if math.isfinite(drop) else WORST)


def all_atoms(mol: Chem.Mol, sample: Molecule) -> tuple[Chem.Mol, int]:
    """A molecule with every hydrogen as an atom at a position, and how many atoms, the first ones, have their own."""
    known, _ = attach_bonds(sample, lambda _: Reading(mol, ""))
    Chem.SanitizeMol(known)
    return Chem.AddHs(known, addCoords=True), known.GetNumAtoms()


def place_hydrogens(whole: Chem.Mol, given: int, steps: int) -> Any:
    """Relax all atoms but the first `given` in place; returns the force field, or None, nothing done, without one."""
    field = force_field(whole)
    if field is not None and given < whole.GetNumAtoms():
        for atom in range(given):
            field.AddFixedPoint(atom)
        with suppress(RuntimeError):  # RDKit's line search finds no way down where forces are absurd
            field.Minimize(maxIts=steps)
    return field


def force_field(mol: Chem.Mol) -> Any:
    """MMFF94 or else UFF, ready to use; None if neither has all parameters."""
    if (properties := rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)) is not None:
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        field = rdForceFieldHelpers.UFFGetMoleculeForceField(mol)
    else:
        return None
    if field is not None:
        field.Initialize()
    return field
