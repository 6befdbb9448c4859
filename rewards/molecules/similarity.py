"""Similarity to reference molecules by Morgan fingerprints (Rogers and Hahn 2010, doi:10.1021/ci100050t)."""

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
from molrl.data.molecules.files import require_bonds
from molrl.data.molecules.records import Record, molecule_of, records
from molrl.data.molecules.smiles import Line
from molrl.data.molecules.standardise import Fragments, Treatment
from molrl.rewards.molecules.graph import GraphReward, parse

RADIUS, BITS = 2, 2048
MAX_REFERENCE = 100_000  # molecules; every sample is compared with all, some ten million a second


@dataclass(frozen=True, kw_only=True)
class Similarity(GraphReward):
    """The largest similarity to a molecule of the reference, in [0, 1]: 1 for equal fingerprints, 0 for a bad sample.

    Attributes:
        reference: a molecule file of any format that can be scored, or a list of SMILES. Records that cannot be read
            are left out with a warning.
        fragments: of the reference; see `Treatment`.
    """

    reference: str | Sequence[str]
    fragments: Fragments = "keep"
    floor: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        self.fingerprints  # noqa: B018  # a bad reference fails here

    @cached_property
    def fingerprints(self) -> list[Any]:
        """Return the distinct fingerprints of the reference."""
        return read_fingerprints(self.reference, self.reader, Treatment(self.fragments))

    def value(self, smiles: str) -> float:
        return max_similarity(smiles, self.fingerprints)


@dataclass(frozen=True, kw_only=True)
class Novelty(Similarity):
    """The novelty, 1 minus the largest similarity to a molecule of the reference, in [0, 1]; 0 for a bad sample."""

    def value(self, smiles: str) -> float:
        return 1.0 - super().value(smiles)


def max_similarity(smiles: str, fingerprints: Sequence[Any]) -> float:
    """Return the largest Tanimoto similarity of a molecule to some fingerprints."""
    fingerprint = morgan_generator().GetFingerprint(parse(smiles))
    return float(max(DataStructs.BulkTanimotoSimilarity(fingerprint, fingerprints)))


def read_fingerprints(reference: str | Sequence[str], reader: BondReader, treatment: Treatment) -> list[Any]:
    """Return the distinct fingerprints of a reference set.

    Raises:
        ValueError: the file cannot be read, or it has no molecules or too many.
    """
    name = reference if isinstance(reference, str) else f"{len(reference)} SMILES"
    graphs = list(islice(read_graphs(reference, reader, treatment), MAX_REFERENCE + 1))
    if len(graphs) > MAX_REFERENCE:
        raise ValueError(f"reference {name}: more than {MAX_REFERENCE} molecules")
    mols = [mol for mol in graphs if mol is not None and mol.GetNumHeavyAtoms()]
    if not mols:
        raise ValueError(f"reference {name}: none of {len(graphs)} records is a molecule")
    if len(mols) < len(graphs):
        warnings.warn(f"reference {name}: {len(graphs) - len(mols)} of {len(graphs)} records left out", stacklevel=2)
    return list({bits.ToBitString(): bits for bits in map(morgan_generator().GetFingerprint, mols)}.values())


def read_graphs(reference: str | Sequence[str], reader: BondReader, treatment: Treatment) -> Iterator[Chem.Mol | None]:
    """Yield the molecular graph of each record, None where there is none; SMILES are not embedded."""
    if isinstance(reference, str):
        require_bonds(reference, treatment)
        source = records(reference)
    else:
        source = (Record(0, smiles, Line(f"SMILES {row}", smiles, smiles)) for row, smiles in enumerate(reference, 1))
    for record in source:
        entry = molecule_of(record, embedded=False, treatment=treatment)
        yield None if isinstance(entry, Skipped) else reader(entry).mol


@cache
def morgan_generator() -> Any:
    """Return the generator of ECFP4-like bits: radius 2, hashed to 2048 bits, without stereo marks."""
    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
