"""Docking as a reward: the best Vina score of a molecule whose rotors turn."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from rdkit import Chem

from molrl.data.molecules.convert import from_rdkit
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import has_geometry
from molrl.machine.device import choose_device
from molrl.rewards.molecules.docking.complexes import FlexibleLigand
from molrl.rewards.molecules.docking.contacts import count_contacts
from molrl.rewards.molecules.docking.ligand_efficiency import check_size_power, sized
from molrl.rewards.molecules.docking.maps import Maps
from molrl.rewards.molecules.docking.monte_carlo import DockedPose, MonteCarlo, dock
from molrl.rewards.molecules.docking.pose_file import write_poses
from molrl.rewards.molecules.docking.pose_strain import pose_strain
from molrl.rewards.molecules.docking.preparation import Preparation, Prepared, place
from molrl.rewards.molecules.docking.proxy import MIN_DISTANCE, min_distance
from molrl.rewards.molecules.docking.scoring_function import Ligands, Pocket, with_types
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.docking.vinardo import VINARDO
from molrl.rewards.molecules.geometry import GeometryReward, heavy_graph
from molrl.rewards.molecules.graph import read_sound
from molrl.rewards.scores import Explained, Scored


@dataclass(frozen=True, kw_only=True)
class FlexibleDocking(GeometryReward):
    """Minus the best Vina score in kcal/mol, larger is better; 0 for a bad sample and for one that binds nowhere.

    Position, orientation and rotors are searched; bond lengths, angles and rings are those of the sample or of embedded
    conformers, as `preparation` says. No torsion of the sample matters. The energy within the ligand decides which pose
    is best, and is not part of its score, as in Vina. Two judges are parts that no value depends on: a second function,
    Vinardo, and the strain of the best pose.

    Attributes:
        site: the receptor and a box, into which a good sample must fit.
        preparation: of the molecule, its protonation and its conformers.
        search: its effort.
        strain_conformers: of the ensemble that the strain of the best pose refers to; 0 computes none.
        folder: where an SDF file of the poses of each molecule is written, or None.
        device: of the search.
        size_power: of the number of heavy atoms that the value is divided by (`ligand_efficiency`).
    """

    site: Site
    preparation: Preparation
    search: MonteCarlo
    strain_conformers: int
    folder: str | None = None
    device: str = "cpu"
    size_power: float = 0.0
    floor: ClassVar[float] = 0.0
    parts: ClassVar[tuple[str, ...]] = (
        *("score", "heavy_atoms", "per_heavy_atom", "rotors", "internal", "vinardo", "strain", "local_strain"),
        *("hydrogen_bonds", "hydrophobic_contacts", "clashes"),
    )

    def __post_init__(self) -> None:
        if self.strain_conformers < 0:
            raise ValueError(f"strain_conformers: got {self.strain_conformers}, need at least 0")
        check_size_power(self.size_power)
        choose_device(self.device)
        self.pocket  # noqa: B018  # a bad receptor fails here, and workers need its file no more
        self.vinardo  # noqa: B018

    @cached_property
    def pocket(self) -> Pocket:
        """Return the receptor around the box."""
        return Pocket(self.site.structure(), self.site.box(), device=choose_device(self.device))

    @cached_property
    def vinardo(self) -> Pocket:
        """Return the receptor for Vinardo, whose score of the pose is shown and enters no value."""
        return Pocket(self.site.structure(), self.site.box(), device=choose_device(self.device), function=VINARDO)

    @cached_property
    def maps(self) -> Maps:
        """Return the maps of the pocket, to which each new type of atom adds one."""
        return Maps(self.pocket)

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        found, reason = self.search_poses(mol, sample)
        if reason:
            return Scored(self.floor, reason)
        if self.folder is not None:
            write_poses(Path(self.folder), mol, found[: self.search.poses], self.pocket)
        return self.explained(*found[0])

    def pose(self, sample: Molecule) -> Molecule | None:
        """Return the heavy atoms of a sample, in the state that is docked, at the best pose; None where it has none."""
        mol, _ = read_sound(self.reader, sample) if has_geometry(sample) else (None, "")
        found, _ = self.search_poses(heavy_graph(mol), sample) if mol is not None else ([], "")
        if not found:
            return None
        best, prepared = found[0]
        return replace(from_rdkit(place(prepared.mol, best.positions.double().cpu().numpy())), name=sample.name)

    def search_poses(self, mol: Chem.Mol, sample: Molecule) -> tuple[list[tuple[DockedPose, Prepared]], str]:
        """Return the poses of a sound molecule of heavy atoms, best first; or none and the reason."""
        positions = sample.positions[sample.numbers > 1]
        if min_distance(positions) < MIN_DISTANCE:
            return [], f"no geometry: atoms closer than {MIN_DISTANCE} angstrom"
        prepared = self.preparation(mol, positions)
        if not prepared:
            return [], "conformers: none could be embedded"
        try:
            flexible = [one.flexible for one in prepared]
        except ValueError as error:
            return [], str(error)
        docked = zip(prepared, dock(self.maps, flexible, self.search), strict=True)
        found = [(pose, one) for one, poses in docked for pose in poses]
        if not found:
            return [], "box: the molecule does not fit in"
        return sorted(found, key=lambda pair: pair[0].score), ""

    def explained(self, pose: DockedPose, prepared: Prepared) -> Explained:
        """Return the value of the best pose and its parts."""
        flexible: FlexibleLigand = prepared.flexible
        value, sizes = sized(max(-pose.score, self.floor), len(flexible.ligand), self.size_power)
        second = Ligands([with_types(flexible.ligand, VINARDO)], device=pose.positions.device)
        parts: Mapping[str, float] = {
            **{**sizes, "rotors": flexible.ligand.rotors, "internal": pose.internal},
            "vinardo": -self.vinardo.score(pose.positions[None], second).item(),
            **self.strain(pose, prepared),
            **count_contacts(self.pocket, flexible.ligand, pose.positions),
        }
        return Explained(value, "", parts)

    def strain(self, pose: DockedPose, prepared: Prepared) -> dict[str, float]:
        """Return the strain of a pose, kcal/mol; NaN if it is not to be computed or cannot be."""
        if not self.strain_conformers:
            return {"strain": math.nan, "local_strain": math.nan}
        placed = place(prepared.mol, pose.positions.double().cpu().numpy())
        strain = pose_strain(placed, self.strain_conformers, self.preparation.seed)
        return {"strain": strain.total, "local_strain": strain.local}
