"""Forces and energies by GFN2-xTB (Bannwarth, Ehlert and Grimme 2019, doi:10.1021/acs.jctc.8b01176), with tblite.

Tblite, which is imported when a sample is scored, works in Bohr and Hartree; this module in angstrom, eV and kcal/mol.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.geometry import GeometryReward
from molrl.rewards.molecules.relaxation import Floats, Point, lengths, relax
from molrl.rewards.molecules.strain import add_hydrogens, relax_added
from molrl.rewards.scores import Explained, Scored
from molrl.rewards.wrapping import explanation, parts_of

BOHR = 0.529177210903  # angstrom (CODATA 2018)
HARTREE = 27.211386245988  # eV (CODATA 2018)
KCAL = 23.060547830619  # kcal/mol in one eV (CODATA 2018)
MIN_DISTANCE = 0.4  # angstrom; no bond is half as long
MAX_FORCE = 5.0  # eV/angstrom
MAX_STRAIN = 100.0  # kcal/mol for each heavy atom, as for the strain of force fields
FORCE_FIELD_STEPS = 200
HYDROGEN_TOLERANCE = 0.02  # eV/angstrom; a hundredth of what noise of 0.1 angstrom costs
TOLERANCE = 0.005  # eV/angstrom; a methyl group on its barrier feels 0.03


class GFN2:
    """The energy surface of a closed-shell molecule; each point starts from the density of the one before.

    Raises:
        RuntimeError: GFN2-xTB has no parameters for an element, or the density does not converge.
    """

    def __init__(self, numbers: NDArray[np.int64], positions: Floats, charge: int) -> None:
        interface: Any = import_module("tblite.interface")
        self.calculator = interface.Calculator("GFN2-xTB", numbers, positions / BOHR, charge, 0)
        self.calculator.set("verbosity", 0)
        self.result: Any = None

    def __call__(self, positions: Floats) -> tuple[float, Floats]:
        """Return energy in eV and gradient in eV/angstrom [n, 3] at positions in angstrom [n, 3]."""
        self.calculator.update(positions / BOHR)
        self.result = self.calculator.singlepoint(self.result)
        return float(self.result.get("energy")) * HARTREE, self.result.get("gradient") * (HARTREE / BOHR)


@dataclass(frozen=True, kw_only=True)
class QuantumReward(GeometryReward):
    """A value by GFN2-xTB of a connected closed-shell molecule; a floor for others and for atoms within 0.4 angstrom.

    The charge is that of the bonds as read. NaN ("GFN2-xTB") for elements beyond radon and for a density that does not
    converge. Hydrogens without positions are placed by geometry, relaxed by a force field and then by GFN2-xTB itself,
    everything else held fixed, so that the value depends on the generated atoms only: the energy is that of the
    nearest minimum in the positions of the added hydrogens.

    Attributes:
        hydrogen_steps: of the relaxation of such hydrogens by GFN2-xTB, at most. 0 leaves them to the force field: six
            times as fast, but these pull on relaxed heavy atoms with some 0.3 eV/angstrom.
    """

    hydrogen_steps: int

    def __post_init__(self) -> None:
        if self.hydrogen_steps < 0:
            raise ValueError(f"hydrogen_steps: got {self.hydrogen_steps}, need at least 0")
        if find_spec("tblite") is None:
            raise ImportError(f"{type(self).__name__} needs tblite: pip install 'molrl[xtb]'")

    @abstractmethod
    def value(self, surface: GFN2, point: Point, sample: Molecule) -> Scored:
        """Return the value; the first atoms of the point are those of the sample."""

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        if atoms_coincide(sample.positions):
            return Scored(self.floor, f"overlap: atoms within {MIN_DISTANCE} angstrom")
        with rdBase.BlockLogs():
            complete, given = add_hydrogens(mol, sample)
            if len(Chem.GetMolFrags(complete)) > 1:
                return Scored(self.floor, "stray hydrogen")
            relax_added(complete, given, FORCE_FIELD_STEPS)
        numbers = np.array([atom.GetAtomicNum() for atom in complete.GetAtoms()])
        charge = Chem.GetFormalCharge(mol)
        if (numbers.sum() - charge) % 2:
            return Scored(self.floor, "radical: odd number of electrons")
        positions, free = complete.GetConformer().GetPositions(), np.arange(len(numbers)) >= given
        try:
            surface = GFN2(numbers, positions, charge)
            point = relax(surface, positions, free, self.hydrogen_steps, HYDROGEN_TOLERANCE)
            return self.value(surface, point, sample)
        except RuntimeError as error:
            return Scored(math.nan, f"GFN2-xTB: {error}")

    def explain(self, sample: Molecule, /) -> dict[str, float]:
        """Return the parts of the value; NaN for a bad sample."""
        return explanation(self.parts, {}) | dict(parts_of(self.score_one(sample)))

    parts: ClassVar[tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Force(QuantumReward):
    """Minus the root mean square force on the atoms of a sample in eV/angstrom, in [-5, 0]; -5 for a bad sample.

    F = sqrt(sum_i |F_i|^2 / n), the force reward of RLPF (arXiv:2508.16521), whose code has -5 for what it cannot
    compute. Hydrogens that the sample does not place are not counted: where these are relaxed, the force on the rest
    is minus the gradient of the energy as a function of the generated positions alone. The parts are the largest force
    on one of the atoms, in eV/angstrom, and the total energy in Hartree, which compares geometries of one molecule
    only.
    """

    floor: ClassVar[float] = -MAX_FORCE
    parts: ClassVar[tuple[str, ...]] = ("largest", "energy")

    def value(self, surface: GFN2, point: Point, sample: Molecule) -> Scored:
        forces = lengths(point.gradient[: len(sample)])
        mean = math.sqrt(np.square(forces).mean())
        parts = {"largest": float(forces.max()), "energy": point.energy / HARTREE}
        return Explained(0.0 - min(mean, MAX_FORCE), "", parts)


@dataclass(frozen=True, kw_only=True)
class Energy(QuantumReward):
    """The strain E(as generated) - E(relaxed) in kcal/mol for each heavy atom, in [0, 100]: smaller is better.

    100 for a bad sample and for anything worse. The parts are the two energies in Hartree.

    Attributes:
        steps: of the relaxation of all atoms at most; one that has not converged by then gives a lower bound.
    """

    steps: int
    floor: ClassVar[float] = MAX_STRAIN
    parts: ClassVar[tuple[str, ...]] = ("generated", "relaxed")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}, need at least 1")

    def value(self, surface: GFN2, point: Point, sample: Molecule) -> Scored:
        low = relax(surface, point.positions, np.ones(len(point.positions), np.bool_), self.steps, TOLERANCE)
        drop = (point.energy - low.energy) * KCAL / (sample.numbers > 1).sum()
        parts = {"generated": point.energy / HARTREE, "relaxed": low.energy / HARTREE}
        return Explained(min(max(float(drop), 0.0), MAX_STRAIN), "", parts)


def atoms_coincide(positions: NDArray[np.float32]) -> bool:
    """Return True if two of the atoms at positions [n, 3] are closer than MIN_DISTANCE."""
    x = positions.astype(np.float64)
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return bool(distance.min(initial=np.inf) < MIN_DISTANCE)
