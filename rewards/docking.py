"""A stand-in for docking: the best Vina score of the sample's own conformer in the pocket of a receptor."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from molrl.data.bonds import BondReader
from molrl.data.molecule import Molecule
from molrl.data.pdbqt import read_receptor
from molrl.rewards.graph import sound
from molrl.rewards.placement import place
from molrl.rewards.scores import PerSample, Scored
from molrl.rewards.vina import Box, Pocket
from molrl.rewards.vina_types import graph_ligand

CLOSEST = 0.5  # angstrom; atoms closer than that are no geometry


@dataclass(frozen=True, kw_only=True)
class DockingProxy(PerSample[Molecule]):
    """Minus the best Vina score in kcal/mol, larger is better; 0 for a bad sample and for one that binds nowhere.

    The geometry is kept as it is: what is searched is where it lies and how it is turned, while docking would also
    turn its rotors. Strain costs nothing. The score grows with the number of atoms.

    Attributes:
        receptor: a PDBQT file; water and other ligands in it count as receptor.
        box: where the ligand may be; a sample that does not fit in is a bad one.
        starts: poses that are moved downhill.
        steps: gradient steps of each.
        seed: of the starts, the same for every sample.
    """

    receptor: str
    box: Box
    starts: int
    steps: int
    seed: int
    reader: BondReader
    pocket: Pocket = field(init=False, repr=False, compare=False)
    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        for name, least in (("starts", 1), ("steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: got {getattr(self, name)}, need at least {least}")
        object.__setattr__(self, "pocket", Pocket(read_receptor(self.receptor), self.box))

    def judge(self, sample: Molecule, /) -> Scored:
        mol, reason = sound(self.reader, sample)
        if mol is None:
            return Scored(self.floor, reason)
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
        return Scored(max(-found.score, self.floor))


def closest(positions: NDArray[np.float32]) -> float:
    """The shortest distance between two of n atoms, angstrom; infinite for one."""
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return float(distance.min(initial=np.inf))
