"""The strain of a pose: what its conformation costs beside those that the molecule has alone."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from molrl.data.molecules.embedding import EMBEDDING_ATTEMPTS, EMBEDDING_SECONDS, FORCE_FIELD, RELAXATION_STEPS
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.docking.preparation import MAX_CONFORMERS, embed_conformers, place, with_stereo
from molrl.rewards.molecules.docking.proxy import MIN_DISTANCE, min_distance
from molrl.rewards.molecules.geometry import GeometryReward
from molrl.rewards.scores import Explained, Scored

MAX_SHIFT = 0.3  # angstrom that a heavy atom of the pose moves freely in its relaxation
RESTRAINT = 100.0  # kcal/mol per square angstrom beyond
MAX_STRAIN = 100.0  # kcal/mol


class Strains(NamedTuple):
    """The strain of a pose, kcal/mol: NaN where it cannot be computed.

    Attributes:
        total: above the lowest minimum of an ensemble of conformers.
        local: above the minimum that the pose relaxes to, at most the total.
    """

    total: float
    local: float


NO_STRAIN = Strains(math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class PoseStrain(GeometryReward):
    """The strain E(pose) - E(global minimum) of a sample where it lies, kcal/mol in [0, 100]: smaller is better.

    100 for a bad sample and for anything worse; NaN ("no force field") where MMFF94s has no parameters and where no
    conformer can be embedded. A part is the local strain, above the minimum that the pose itself relaxes to. See
    `pose_strain`.

    Attributes:
        conformers: of the ensemble whose lowest is the global minimum.
        seed: of the ensemble, the same for every sample.
    """

    conformers: int
    seed: int
    floor: ClassVar[float] = MAX_STRAIN
    parts: ClassVar[tuple[str, ...]] = ("local",)

    def __post_init__(self) -> None:
        if not 1 <= self.conformers <= MAX_CONFORMERS:
            raise ValueError(f"conformers: got {self.conformers}, need 1 to {MAX_CONFORMERS}")

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        positions = sample.positions[sample.numbers > 1]
        if min_distance(positions) < MIN_DISTANCE:
            return Scored(self.floor, f"no geometry: atoms closer than {MIN_DISTANCE} angstrom")
        pose = place(with_stereo(mol, positions), positions)
        strains = pose_strain(pose, self.conformers, self.seed)
        if math.isnan(strains.total):
            return Scored(math.nan, "no force field: MMFF94s has no parameters, or no conformer was embedded")
        total, local = (min(max(one, 0.0), MAX_STRAIN) for one in strains)
        return Explained(total, "", {"local": local})


def pose_strain(pose: Chem.Mol, conformers: int, seed: int) -> Strains:
    """Return the strain of a pose by MMFF94s; NaN without parameters or conformers.

    The pose is relaxed first, each heavy atom within 0.3 angstrom of its place: a scoring function does not see
    lengths and angles, whose energy would drown that of the torsions. The global minimum is the lowest of an ensemble
    of relaxed conformers (ETKDGv3), that of the pose among them, so strain is not negative but for the restraint.

    Args:
        pose: heavy atoms with positions, angstrom, and stereochemistry.
        conformers: of the ensemble, at least 1.
        seed: of the ensemble.
    """
    with rdBase.BlockLogs():
        complete = Chem.AddHs(pose, addCoords=True)
        if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(complete):
            return NO_STRAIN
        free = Chem.Mol(complete)
        settings: Any = rdDistGeom.ETKDGv3()  # RDKit declares its numbers as objects
        settings.randomSeed, settings.maxIterations, settings.timeout = seed, EMBEDDING_ATTEMPTS, EMBEDDING_SECONDS
        settings.clearConfs = False
        try:
            embedded = embed_conformers(free, conformers, settings)
            relaxed = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(
                free, mmffVariant=FORCE_FIELD, maxIters=RELAXATION_STEPS
            )
            bound = restrained_energy(complete)
        except (ValueError, RuntimeError):
            return NO_STRAIN
        if not embedded:
            return NO_STRAIN
        energies = [float(energy) for _, energy in relaxed]  # the first is that of the pose
        return Strains(bound - min(energies), bound - energies[0])


def restrained_energy(mol: Chem.Mol) -> float:
    """Return the energy of a molecule relaxed near its positions, without that of the restraint, kcal/mol."""
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant=FORCE_FIELD)
    field: Any = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() > 1:
            field.MMFFAddPositionConstraint(atom.GetIdx(), MAX_SHIFT, RESTRAINT)
    field.Initialize()
    field.Minimize(maxIts=RELAXATION_STEPS)
    plain: Any = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    return float(plain.CalcEnergy())
