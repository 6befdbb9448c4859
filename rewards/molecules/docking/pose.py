"""The Vina score of a sample where it lies in a pocket: for molecules that are drawn in the frame of the receptor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from rdkit import Chem

from molrl.data.molecules.molecule import Molecule
from molrl.machine.device import choose_device
from molrl.rewards.molecules.docking.atom_types import graph_ligand
from molrl.rewards.molecules.docking.ligand_efficiency import check_size_power, sized
from molrl.rewards.molecules.docking.proxy import MIN_DISTANCE, clash_fraction, min_distance
from molrl.rewards.molecules.docking.scoring_function import Ligands, Pocket
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.docking.surroundings import write_surroundings
from molrl.rewards.molecules.geometry import GeometryReward
from molrl.rewards.scores import Explained, Scored


@dataclass(frozen=True, kw_only=True)
class PoseScore(GeometryReward):
    """Minus the Vina score in kcal/mol of the sample as it lies, larger is better; 0 for a bad sample, for one outside
    the box, and for one that clashes more than it binds.

    Nothing is searched or relaxed. The score grows with the number of atoms, so the parts also give it for each heavy
    atom, with the fraction of the heavy atoms that clash with the receptor.

    Attributes:
        site: the receptor and a box, in which a good sample lies.
        device: of the computation.
        size_power: of the number of heavy atoms that the value is divided by (`ligand_efficiency`).
    """

    site: Site
    device: str = "cpu"
    size_power: float = 0.0
    pocket: Pocket = field(init=False, repr=False, compare=False)
    floor: ClassVar[float] = 0.0
    parts: ClassVar[tuple[str, ...]] = ("score", "heavy_atoms", "per_heavy_atom", "clashes")
    limits: ClassVar[Mapping[str, tuple[float, str]]] = {}

    def __post_init__(self) -> None:
        check_size_power(self.size_power)
        device = choose_device(self.device)
        object.__setattr__(self, "pocket", Pocket(self.site.structure(), self.site.box(), device=device))

    def surroundings(self) -> str:
        """Return the residues around the box, for a report (`molrl.exhibit.Scene`)."""
        return write_surroundings(self.site)

    def pose(self, sample: Molecule) -> Molecule:
        """Return the sample, which is not moved."""
        return sample

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        positions = sample.positions[sample.numbers > 1]
        if min_distance(positions) < MIN_DISTANCE:
            return Scored(self.floor, f"no geometry: atoms closer than {MIN_DISTANCE} angstrom")
        try:
            ligand = graph_ligand(mol)
        except ValueError as error:
            return Scored(self.floor, str(error))
        x = torch.from_numpy(positions.astype(np.float32)).to(self.pocket.centre)
        score = self.pocket.score(x[None], Ligands([ligand], dtype=x.dtype, device=x.device)).item()
        if score == np.inf:
            return Scored(self.floor, "box: the molecule lies outside, and a pose is not moved")
        value, parts = sized(max(-score, self.floor), len(ligand), self.size_power)
        return Explained(value, "", {**parts, "clashes": clash_fraction(self.pocket, ligand, x)})
