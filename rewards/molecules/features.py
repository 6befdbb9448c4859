"""Numbers that describe a molecule to a model: a fingerprint by RDKit, descriptors, or one after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import Descriptors, rdFingerprintGenerator, rdMolDescriptors

from molrl.rewards.molecules.graph import parse
from molrl.suggestions import did_you_mean

Fingerprint: TypeAlias = Literal["morgan", "rdkit", "atom_pair", "torsion", "maccs"]

MAX_SIZE = 1 << 20  # numbers of a fingerprint
MACCS_SIZE = 167  # keys 1 to 166, after an unused one
DESCRIPTORS: Mapping[str, Callable[[Chem.Mol], float]] = dict(Descriptors.descList)


@dataclass(frozen=True, kw_only=True)
class Features:
    """The numbers of a molecule, in the order in which a model was trained on them: fingerprint, then descriptors.

    Attributes:
        fingerprint: "morgan" (Rogers and Hahn 2010, doi:10.1021/ci100050t), "rdkit" (paths), "atom_pair" (Carhart et
            al. 1985, doi:10.1021/ci00046a002), "torsion" (Nilakantan et al. 1987, doi:10.1021/ci00054a008) or "maccs"
            (Durant et al. 2002, doi:10.1021/ci010132r), each with RDKit's own settings beside those here; None: none.
        radius: of "morgan", in bonds: 2 is ECFP4, 3 is ECFP6.
        size: numbers of the fingerprint; "maccs" has 167.
        counts: how often a pattern occurs, in place of 1 where it does.
        stereo: tell stereoisomers apart.
        descriptors: names of RDKit's descriptors (`rdkit.Chem.Descriptors.descList`), such as MolWt.
    """

    fingerprint: Fingerprint | None
    radius: int
    size: int
    counts: bool
    stereo: bool
    descriptors: Sequence[str]

    def __post_init__(self) -> None:
        if self.radius < 0 or not 1 <= self.size <= MAX_SIZE:
            raise ValueError(f"radius, size: got {self.radius}, {self.size}; need at least 0, and 1 to {MAX_SIZE}")
        if self.fingerprint == "maccs" and (self.counts or self.stereo):
            raise ValueError("counts, stereo: got true, maccs keys have neither")
        for name in self.descriptors:
            if name not in DESCRIPTORS:
                raise ValueError(f"descriptors: got {name!r}, RDKit has none{did_you_mean(name, list(DESCRIPTORS))}")
        if not self.width:
            raise ValueError("features: got neither a fingerprint nor descriptors")

    @property
    def width(self) -> int:
        """Return the number of numbers."""
        fingerprint = {None: 0, "maccs": MACCS_SIZE}.get(self.fingerprint, self.size)
        return fingerprint + len(self.descriptors)

    def __call__(self, smiles: str) -> NDArray[np.float64]:
        """Return the numbers [width] of a molecule by its SMILES."""
        mol = parse(smiles)
        values = [DESCRIPTORS[name](mol) for name in self.descriptors]
        return np.concatenate([self.bits(mol), np.array(values, dtype=np.float64)])

    def bits(self, mol: Chem.Mol) -> NDArray[np.float64]:
        """Return the fingerprint; empty where there is none."""
        if self.fingerprint is None:
            return np.zeros(0)
        if self.fingerprint == "maccs":
            return np.array(rdMolDescriptors.GetMACCSKeysFingerprint(mol), dtype=np.float64)
        made = generator(self.fingerprint, self.radius, self.size, self.stereo)
        found = made.GetCountFingerprintAsNumPy(mol) if self.counts else made.GetFingerprintAsNumPy(mol)
        return np.asarray(found, dtype=np.float64)


@cache
def generator(fingerprint: str, radius: int, size: int, stereo: bool) -> Any:
    """Return RDKit's generator of a fingerprint."""
    if fingerprint == "morgan":
        return rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=size, includeChirality=stereo)
    if fingerprint == "rdkit":
        return rdFingerprintGenerator.GetRDKitFPGenerator(fpSize=size)
    if fingerprint == "atom_pair":
        return rdFingerprintGenerator.GetAtomPairGenerator(fpSize=size, includeChirality=stereo)
    return rdFingerprintGenerator.GetTopologicalTorsionGenerator(fpSize=size, includeChirality=stereo)
