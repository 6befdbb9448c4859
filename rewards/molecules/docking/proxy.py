"""A proxy for docking: the best Vina score of the sample's own conformer in the pocket of a receptor."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from rdkit import Chem
from torch import Tensor

from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import has_geometry
from molrl.machine.device import choose_device
from molrl.rewards.molecules.docking.atom_types import Ligand, graph_ligand
from molrl.rewards.molecules.docking.gradient import rotation_between, score_gradient
from molrl.rewards.molecules.docking.ligand_efficiency import check_size_power, sized
from molrl.rewards.molecules.docking.placement import Placement, place
from molrl.rewards.molecules.docking.scoring_function import Ligands, Pocket, with_types
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.docking.surroundings import write_surroundings
from molrl.rewards.molecules.docking.vinardo import VINARDO
from molrl.rewards.molecules.geometry import GeometryReward, heavy_graph
from molrl.rewards.molecules.graph import read_sound
from molrl.rewards.scores import Explained, Scored

MIN_DISTANCE = 0.5  # angstrom between two atoms of a valid geometry
MAX_ROTORS = 2  # of a ligand that a rigid placement serves; beyond, 2.6 kcal/mol are lost (docs/results/docking.md)
CLASH_OVERLAP = 1.0  # angstrom by which the surfaces of two clashing atoms overlap; those of a hydrogen bond some 0.7


@dataclass(frozen=True, kw_only=True)
class DockingProxy(GeometryReward):
    """Minus the best Vina score in kcal/mol, larger is better; 0 for a bad sample and for one that binds nowhere.

    The geometry is rigid: position and orientation are searched, while docking would also turn the rotors. Strain costs
    nothing. The score grows with the number of atoms, so the parts also give it for each heavy atom, with the fraction
    of the heavy atoms that clash with the receptor. Values come with their gradient by the positions, kcal/mol per
    angstrom, in which the types of the atoms are held (`score_gradient`); that by hydrogens is zero.

    Attributes:
        site: the receptor and a box, into which a good sample must fit.
        starts: poses that are relaxed.
        steps: gradient steps of each.
        seed: of the starts, the same for every sample.
        device: of the search.
        size_power: of the number of heavy atoms that the value is divided by (`ligand_efficiency`).
    """

    site: Site
    starts: int
    steps: int
    seed: int
    device: str = "cpu"
    size_power: float = 0.0
    pocket: Pocket = field(init=False, repr=False, compare=False)
    has_gradient: ClassVar[bool] = True
    floor: ClassVar[float] = 0.0
    parts: ClassVar[tuple[str, ...]] = ("score", "heavy_atoms", "per_heavy_atom", "clashes", "rotors")
    limits: ClassVar[Mapping[str, tuple[float, str]]] = {
        "rotors": (
            MAX_ROTORS,
            f"with more than {MAX_ROTORS} rotors, which are not turned: reward=docking_flexible turns them",
        )
    }

    def __post_init__(self) -> None:
        for name, minimum in (("starts", 1), ("steps", 0)):
            if getattr(self, name) < minimum:
                raise ValueError(f"{name}: got {getattr(self, name)}, need at least {minimum}")
        check_size_power(self.size_power)
        device = choose_device(self.device)
        object.__setattr__(self, "pocket", Pocket(self.site.structure(), self.site.box(), device=device))

    def surroundings(self) -> str:
        """Return the residues around the box, for a report (`molrl.exhibit.Scene`)."""
        return write_surroundings(self.site)

    def pose(self, sample: Molecule) -> Molecule | None:
        """Return the sample at the pose that its value is of, its hydrogens moved along; None where it has no pose."""
        mol, _ = read_sound(self.reader, sample) if has_geometry(sample) else (None, "")
        positions = torch.from_numpy(sample.positions[sample.numbers > 1])
        if mol is None or min_distance(positions.numpy()) < MIN_DISTANCE:
            return None
        try:
            placement = self.search(graph_ligand(heavy_graph(mol)), positions)
        except ValueError:
            return None
        if placement is None:
            return None
        heavy = placement.positions.to(positions)
        turn = rotation_between(positions, heavy)
        moved = (torch.from_numpy(sample.positions) - positions.mean(0)) @ turn + heavy.mean(0)
        return replace(sample, positions=moved.numpy().astype(np.float32))

    def search(self, ligand: Ligand, positions: Tensor) -> Placement | None:
        """Return the best pose of a ligand whose heavy atoms have these positions [n, 3]; None: it fits nowhere."""
        return place(self.pocket, ligand, positions, starts=self.starts, steps=self.steps, seed=self.seed)

    def placed(self, mol: Chem.Mol, sample: Molecule) -> tuple[Ligand, Placement] | Scored:
        """Return a ligand at its best pose, or the value and the reason of one that has none."""
        positions = sample.positions[sample.numbers > 1]
        if min_distance(positions) < MIN_DISTANCE:
            return Scored(self.floor, f"no geometry: atoms closer than {MIN_DISTANCE} angstrom")
        try:
            ligand = graph_ligand(mol)
        except ValueError as error:
            return Scored(self.floor, str(error))
        placement = self.search(ligand, torch.from_numpy(positions))
        return Scored(self.floor, "box: the molecule does not fit in") if placement is None else (ligand, placement)

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        found = self.placed(mol, sample)
        if isinstance(found, Scored):
            return found
        ligand, placement = found
        n, positions = len(ligand), sample.positions[sample.numbers > 1]
        value, parts = sized(max(-placement.score, self.floor), n, self.size_power)
        clashes = clash_fraction(self.pocket, ligand, placement.positions)
        gradient = np.zeros(sample.positions.shape)
        if value > self.floor:
            slopes = score_gradient(self.pocket, ligand, torch.from_numpy(positions), placement)
            gradient[sample.numbers > 1] = -slopes.double().cpu().numpy() / n**self.size_power
        return Explained(value, "", {**parts, "clashes": clashes, "rotors": ligand.rotors}, gradient)

    @property
    def held_out_reward(self) -> "VinardoOfPose":
        """Return the judge of a policy that follows this score: Vinardo's score of the same poses."""
        return VinardoOfPose(docking=self, reader=self.reader)


@dataclass(frozen=True, kw_only=True)
class VinardoOfPose(GeometryReward):
    """Minus the Vinardo score in kcal/mol of the pose that a docking reward finds by Vina's; 0 for a bad sample.

    Vinardo has other radii and weights (`vinardo`). A molecule that is better by Vina alone fits the faults of its
    function.

    Attributes:
        docking: finds the pose.
    """

    docking: DockingProxy
    pocket: Pocket = field(init=False, repr=False, compare=False)
    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        site, device = self.docking.site, self.docking.pocket.centre.device
        object.__setattr__(self, "pocket", Pocket(site.structure(), site.box(), device=device, function=VINARDO))

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        found = self.docking.placed(mol, sample)
        if isinstance(found, Scored):
            return found
        ligand, placement = found
        x = placement.positions
        score = self.pocket.score(
            x[None], Ligands([with_types(ligand, VINARDO)], dtype=x.dtype, device=x.device)
        ).item()
        value, _ = sized(max(-score, self.floor), len(ligand), self.docking.size_power)
        return Scored(value)


def clash_fraction(pocket: Pocket, ligand: Ligand, x: Float[Tensor, "n 3"]) -> float:
    """Return the fraction of a ligand's atoms, at x, that overlap with one of the receptor by more than 1 angstrom."""
    terms, in_range = pocket.pairs(x[None], Ligands([ligand], dtype=x.dtype, device=x.device))
    return ((terms.repulsion > CLASH_OVERLAP**2) & in_range).any(-1).float().mean().item()


def min_distance(positions: NDArray[np.float32]) -> float:
    """Return the shortest distance between two atoms at positions [n, 3], angstrom; infinite for a single atom."""
    x = positions.astype(np.float64)
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return float(distance.min(initial=np.inf))
