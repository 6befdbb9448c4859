"""The judge of the hit-to-lead arena: what is measured of each sample, the same for every arm.

A sample is valid if its bonds can be read, it is one molecule, and the core is as it was, to the bit, with new bonds at
the attachment points alone. Molecules and substituents are compared with the known ones by neutral canonical SMILES
without stereo marks; tautomers differ.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from lead_cuts import molecule_key, substituents_of
from rdkit import Chem

from molrl.data.molecules.bonds import attach_bonds, is_connected
from molrl.data.molecules.molecule import Molecule
from molrl.models.molecules.growth_decoder import GrowthDecoder
from molrl.rewards.molecules.docking.atom_types import graph_ligand
from molrl.rewards.molecules.docking.pose_strain import pose_strain
from molrl.rewards.molecules.docking.proxy import clash_fraction
from molrl.rewards.molecules.docking.scoring_function import Ligands, Pocket, with_types
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.docking.vinardo import VINARDO

STRAIN_CONFORMERS = 20
STRAIN_SEED = 0


@dataclass(frozen=True)
class Measures:
    """The measures of a sample.

    Attributes:
        new_atoms: heavy atoms outside the core; 0 where a baseline has no molecule.
        reason: why it is not valid, or "".
        key: SMILES of the molecule, "" for one that is not valid.
        substituents: SMILES with *, in the order of the sites; none for one that is not valid, or where new atoms link
            two sites.
        vina, vinardo: minus the scores where it lies, at least 0, kcal/mol; 0 outside the box, as the reward has it.
        clashes: share of the heavy atoms that overlap with the receptor.
        strain: kcal/mol; NaN where it is not computed.
    """

    new_atoms: int
    reason: str = ""
    key: str = ""
    substituents: tuple[str, ...] = ()
    vina: float = 0.0
    vinardo: float = 0.0
    clashes: float = 0.0
    strain: float = math.nan


@dataclass(frozen=True, eq=False)
class Judge:
    """A judge of samples in a pocket.

    Attributes:
        site: the pocket and its box.
    """

    site: Site

    @cached_property
    def pocket(self) -> Pocket:
        """Return the pocket for Vina's score, which the reward is."""
        return Pocket(self.site.structure(), self.site.box())

    @cached_property
    def second(self) -> Pocket:
        """Return the pocket for Vinardo's score, which nothing is chosen or trained by."""
        return Pocket(self.site.structure(), self.site.box(), function=VINARDO)

    def measure(self, sample: Molecule | None, decoder: GrowthDecoder) -> Measures:
        """Measure a sample that grew from the core of a decoder; None stands for a molecule that was not made."""
        if sample is None:
            return Measures(0, "not made")
        mol, size = read_sample(sample, decoder), len(decoder.core.molecule)
        return Measures(len(sample) - size, mol) if isinstance(mol, str) else self.measure_pose(mol, range(size))

    def measure_pose(self, mol: Chem.Mol, core: Sequence[int]) -> Measures:
        """Measure a molecule where it lies.

        Args:
            mol: heavy atoms with positions.
            core: its atoms that are the core.
        """
        vina, vinardo = (self.score(mol, pocket) for pocket in (self.pocket, self.second))
        return Measures(
            new_atoms=mol.GetNumAtoms() - len(core),
            key=molecule_key(mol),
            substituents=substituents_of(mol, core),
            vina=vina,
            vinardo=vinardo,
            clashes=self.clashes(mol),
        )

    def score(self, mol: Chem.Mol, pocket: Pocket) -> float:
        """Return minus the score of a pose, at least 0, kcal/mol."""
        ligand, x = graph_ligand(mol), positions(mol)
        typed = with_types(ligand, pocket.function)
        score = pocket.score(x[None], Ligands([typed], dtype=x.dtype)).item()
        return max(-score, 0.0)

    def clashes(self, mol: Chem.Mol) -> float:
        """Return the share of the heavy atoms of a pose that overlap with the receptor by more than 1 angstrom."""
        return clash_fraction(self.pocket, graph_ligand(mol), positions(mol))


def read_sample(sample: Molecule, decoder: GrowthDecoder) -> Chem.Mol | str:
    """Return a sample with its bonds and positions, or why it is not valid."""
    mol, reason = attach_bonds(sample, decoder.reader)
    if reason:
        return reason.partition(":")[0]
    if not is_connected(mol):
        return "fragments"
    if not decoder.keeps_core(sample):
        return "core"
    Chem.SanitizeMol(mol)
    return mol


def positions(mol: Chem.Mol) -> Any:
    """Return the positions of a molecule as a tensor [n, 3], angstrom."""
    return torch.tensor(mol.GetConformer().GetPositions(), dtype=torch.float32)


def strain_of(mol: Chem.Mol) -> float:
    """Return the strain of a pose by MMFF94s against the best of an ensemble, kcal/mol; see `pose_strain`."""
    return pose_strain(mol, STRAIN_CONFORMERS, STRAIN_SEED).total
