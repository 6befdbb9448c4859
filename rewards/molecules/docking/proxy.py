"""A stand-in for docking: the best Vina score of the sample's own conformer in the pocket of a receptor."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem

from molrl.data.molecules.molecule import Molecule
from molrl.machine.device import choose_device
from molrl.rewards.molecules.docking.atom_types import Ligand, graph_ligand
from molrl.rewards.molecules.docking.placement import Placement, place
from molrl.rewards.molecules.docking.scoring_function import Ligands, Pocket
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.geometry import GeometryReward
from molrl.rewards.scores import Explained, Scored

CLOSEST = 0.5  # angstrom; atoms closer than that are no geometry
CLASH = 1.0  # angstrom that the surfaces of two atoms overlap; a hydrogen bond is at some 0.7


@dataclass(frozen=True, kw_only=True)
class DockingProxy(GeometryReward):
    """Minus the best Vina score in kcal/mol, larger is better; 0 for a bad sample and for one that binds nowhere.

    The geometry is kept as it is: what is searched is where it lies and how it is turned, while docking would also
    turn its rotors. Strain costs nothing. The score grows with the number of atoms, so the parts have it for each heavy
    atom too, with the share of the heavy atoms that clash with the receptor.

    Attributes:
        site: a sample that does not fit into its box is a bad one.
        starts: poses that are moved downhill.
        steps: gradient steps of each.
        seed: of the starts, the same for every sample.
        device: where poses are moved.
    """

    site: Site
    starts: int
    steps: int
    seed: int
    device: str = "cpu"
    pocket: Pocket = field(init=False, repr=False, compare=False)
    floor: ClassVar[float] = 0.0
    parts: ClassVar[tuple[str, ...]] = ("heavy_atoms", "per_heavy_atom", "clashes")

    def __post_init__(self) -> None:
        for name, least in (("starts", 1), ("steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: got {getattr(self, name)}, need at least {least}")
        device = choose_device(self.device)
        object.__setattr__(self, "pocket", Pocket(self.site.structure(), self.site.box(), device=device))

    def measured(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        positions = sample.positions[sample.numbers > 1]
        if closest(positions) < CLOSEST:
            return Scored(self.floor, f"no geometry: atoms closer than {CLOSEST} angstrom")
        try:
            ligand = graph_ligand(mol)
        except ValueError as error:
            return Scored(self.floor, str(error))
        found = place(
            self.pocket, ligand, torch.from_numpy(positions), starts=self.starts, steps=self.steps, seed=self.seed
        )
        if found is None:
            return Scored(self.floor, "box: the molecule does not fit in")
        value, n = max(-found.score, self.floor), len(ligand)
        clashes = clashing(self.pocket, ligand, found)
        return Explained(value, "", {"heavy_atoms": n, "per_heavy_atom": value / n, "clashes": clashes})


def clashing(pocket: Pocket, ligand: Ligand, placed: Placement) -> float:
    """The share of a ligand's atoms that overlap with one of the receptor by more than 1 angstrom."""
    x = placed.positions
    terms, felt = pocket.pairs(x[None], Ligands([ligand], dtype=x.dtype, device=x.device))
    return ((terms.repulsion > CLASH**2) & felt).any(-1).float().mean().item()


def closest(positions: NDArray[np.float32]) -> float:
    """The shortest distance between two of n atoms, angstrom; infinite for one."""
    x = positions.astype(np.float64)
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return float(distance.min(initial=np.inf))
