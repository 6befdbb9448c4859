"""Sets of molecules kept as 64-bit hashes of their SMILES, which tell members from others and hold no structure."""

import hashlib
from collections.abc import Container, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class SmilesHashes(Container[str]):
    """A set of SMILES as the sorted first eight bytes of their BLAKE2b hashes.

    Of another molecule, a set of n hashes says "member" with a probability of n / 2^64: 1e-14 for 243,480 molecules.

    Attributes:
        values: uint64 [n], ascending, without repeats.

    Raises ValueError for values in another order.
    """

    values: NDArray[np.uint64]

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or self.values.dtype != np.uint64 or not (self.values[1:] > self.values[:-1]).all():
            raise ValueError("hashes of SMILES: expected ascending uint64 without repeats")

    @classmethod
    def of(cls, smiles: Iterable[str]) -> "SmilesHashes":
        """Return the set of some SMILES."""
        return cls(np.unique(np.array([hash_smiles(text) for text in smiles], dtype=np.uint64)))

    def __contains__(self, smiles: object) -> bool:
        value = np.uint64(hash_smiles(str(smiles)))
        place = int(np.searchsorted(self.values, value))
        return place < len(self.values) and bool(self.values[place] == value)

    def __len__(self) -> int:
        return len(self.values)


def hash_smiles(smiles: str) -> int:
    """Return the first eight bytes of the BLAKE2b hash of a SMILES as a whole number, big-endian."""
    return int.from_bytes(hashlib.blake2b(smiles.encode(), digest_size=8).digest(), "big")
