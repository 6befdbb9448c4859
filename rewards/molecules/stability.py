"""EDM's atom stability as a reward (Hoogeboom et al. 2022, arXiv:2203.17003, Section 5)."""

from dataclasses import dataclass
from typing import ClassVar

from molrl.data.molecules.bonds import stable_atoms
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.geometry import without_positions
from molrl.rewards.scores import PerSample, Scored


@dataclass(frozen=True)
class Stability(PerSample[Molecule]):
    """The fraction of atoms with an allowed valence in EDM's table of bond lengths, in [0, 1]; 0 for a bad sample.

    The table has no aromatic bonds: benzene, pyridine and phenol count as unstable, and so does a charged atom. A
    policy that maximises this drops its aromatic rings and grows saturated chains, so watch `aromatic` and the sizes.
    """

    kind: ClassVar[str] = "molecules"
    floor: ClassVar[float] = 0.0

    def score_one(self, sample: Molecule, /) -> Scored:
        if (scored := without_positions(sample, self.floor)) is not None:
            return scored
        return Scored(float(stable_atoms(sample).mean()))
