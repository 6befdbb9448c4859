"""The distance of a sample from a molecule: its atoms whose valence is wrong, and its fragments."""

import math
from dataclasses import dataclass
from typing import ClassVar

from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.valence import count_defects
from molrl.rewards.molecules.geometry import without_positions
from molrl.rewards.scores import PerSample, Scored

NO_CHARGES = "no formal charges"


@dataclass(frozen=True)
class Valence(PerSample[Molecule]):
    """2^-(d + f - 1) for d atoms without an allowed valence and f fragments, in (0, 1]; 0 for a bad sample.

    It is 1 for a connected molecule whose bonds can be read, and tells a sample with one wrong atom from one with five,
    which a reward of 0 or 1 cannot. The atoms are counted under the bonds that leave fewest of them wrong
    (`count_defects`). Whether a sample is drug-like, strained or small does not matter, so watch sizes and rings.

    NaN for a sample without positions or without formal charges: its hydrogens, and so its valences, are not known.
    """

    kind: ClassVar[str] = "molecules"
    floor: ClassVar[float] = 0.0

    def score_one(self, sample: Molecule, /) -> Scored:
        if (scored := without_positions(sample, self.floor)) is not None:
            return scored
        if sample.charges is None:
            return Scored(math.nan, NO_CHARGES)
        defects = count_defects(sample)
        if defects is None:
            return Scored(self.floor, "overlap")
        return Scored(0.5 ** (defects.atoms + defects.fragments - 1))
