"""Rewards of poses, such as interactions and strain, of molecules that are docked first."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.docking.flexible_docking import FlexibleDocking
from molrl.rewards.molecules.docking.surroundings import write_surroundings
from molrl.rewards.molecules.geometry import geometry_key
from molrl.rewards.scores import PerSample, Scored, Scorer


@dataclass(frozen=True, kw_only=True)
class Docked(PerSample[Molecule]):
    """The value of a scorer for the best pose of a sample, which is docked once, whatever the scorer is made of.

    A sample that has no pose has the floor and the reason of the docking. One that the docking could not score is a
    lost measurement.

    Attributes:
        docking: finds the pose, whose molecule is the one that was docked, protonation included.
        scorer: of molecules where they lie, in the coordinates of the receptor.
        floor: the value of a sample without a pose.
    """

    docking: FlexibleDocking
    scorer: Scorer[Any]
    floor: float
    kind: ClassVar[str] = "molecules"

    def __post_init__(self) -> None:
        if not math.isfinite(self.floor):
            raise ValueError(f"floor: got {self.floor}, need a finite number")

    @property
    def inner(self) -> tuple[Scorer[Any], ...]:
        """Return the scorer that gives the value; the docking gives none."""
        return (self.scorer,)

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts of the scorer."""
        return tuple(getattr(self.scorer, "parts", ()))

    def score_one(self, sample: Molecule, /) -> Scored:
        pose = self.pose(sample)
        if pose is not None:
            return self.scorer.score_one(pose)
        value, reason = self.docking.score_one(sample)
        return Scored(value if math.isnan(value) else self.floor, reason)

    def pose(self, sample: Molecule) -> Molecule | None:
        """Return the molecule at the pose that its value is of; None where it has no pose."""
        return self.docking.pose(sample)

    def surroundings(self) -> str:
        """Return the residues around the box, for a report (`molrl.exhibit.Scene`)."""
        return write_surroundings(self.docking.site)

    def cache_key(self, sample: Molecule, /) -> str:
        """Return what tells a sample with these atoms at these positions from any other."""
        return geometry_key(sample)
