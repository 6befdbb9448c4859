"""Likeness to known molecules by their Morgan fingerprints (Rogers and Hahn 2010, doi:10.1021/ci100050t)."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from typing import Any, ClassVar

from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from molrl.data.files import Skipped
from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.records import Record, molecule_of, records
from molrl.data.molecules.smiles import Line
from molrl.rewards.molecules.graph import GraphReward, parse

RADIUS, BITS = 2, 2048
LARGEST_REFERENCE = 100_000  # molecules; every sample is compared with all, some ten million a second


@dataclass(frozen=True, kw_only=True)
class Similarity(GraphReward):
    """Largest similarity to a molecule of the reference, in [0, 1], 1 where the fingerprints agree; 0 for a bad sample.

    Attributes:
        reference: a molecule file of any format that can be scored, or a list of SMILES. Records that cannot be read
            are left out with a warning.
    """

    reference: str | Sequence[str]
    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        self.prints  # noqa: B018  # a bad reference fails here

    @cached_property
    def prints(self) -> list[Any]:
        """The reference's."""
        return fingerprints(self.reference, self.reader)

    def value(self, smiles: str) -> float:
        return most_similar(smiles, self.prints)


@dataclass(frozen=True, kw_only=True)
class Novelty(Similarity):
    """1 minus the largest similarity to a molecule of the reference, in [0, 1]; 0 for a bad sample."""

    def value(self, smiles: str) -> float:
        return 1.0 - super().value(smiles)


def most_similar(smiles: str, prints: Sequence[Any]) -> float:
    """The largest Tanimoto similarity to fingerprints."""
    return float(max(DataStructs.BulkTanimotoSimilarity(generator().GetFingerprint(parse(smiles)), prints)))


def fingerprints(reference: str | Sequence[str], reader: BondReader) -> list[Any]:
    """The distinct fingerprints of a reference set.

    Raises ValueError for a file that cannot be read and for a reference without or with too many molecules.
    """
    name = reference if isinstance(reference, str) else f"{len(reference)} SMILES"
    found = list(islice(graphs(reference, reader), LARGEST_REFERENCE + 1))
    if len(found) > LARGEST_REFERENCE:
        raise ValueError(f"reference {name}: more than {LARGEST_REFERENCE} molecules")
    mols = [mol for mol in found if mol is not None and mol.GetNumHeavyAtoms()]
    if not mols:
        raise ValueError(f"reference {name}: none of {len(found)} records is a molecule")
    if len(mols) < len(found):
        warnings.warn(f"reference {name}: {len(found) - len(mols)} of {len(found)} records left out", stacklevel=2)
    return list({bits.ToBitString(): bits for bits in map(generator().GetFingerprint, mols)}.values())


def graphs(reference: str | Sequence[str], reader: BondReader) -> Iterator[Chem.Mol | None]:
    """The molecular graph of each record, None where there is none; SMILES are not embedded."""
    if isinstance(reference, str):
        found = records(reference)
    else:
        found = (Record(0, smiles, Line(f"SMILES {row}", smiles, smiles)) for row, smiles in enumerate(reference, 1))
    for record in found:
        entry = molecule_of(record, embedded=False)
        yield None if isinstance(entry, Skipped) else reader(entry).mol


@cache
def generator() -> Any:
    """Circular environments up to two bonds away, hashed to 2048 bits, without stereo marks."""
    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
