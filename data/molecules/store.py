"""Molecules as arrays of a cache file, in small integers, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molrl.data.molecules.molecule import Molecules, are_bonds

STORED_TYPES = {
    "sizes": np.uint16,
    "numbers": np.uint8,
    "positions": np.float32,
    "hydrogens": np.uint8,
    "charges": np.int8,
    "bond_counts": np.uint16,
    "bonds": np.uint16,
}
REQUIRED = ("sizes", "numbers", "positions")


def to_arrays(molecules: Molecules) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of molecules of at most 65,535 atoms, without their names; optional ones where they are."""
    arrays = {name: getattr(molecules, name) for name in STORED_TYPES}
    return {name: array.astype(STORED_TYPES[name]) for name, array in arrays.items() if array is not None}


def from_arrays(arrays: Mapping[str, NDArray[np.generic]], names: tuple[str, ...]) -> Molecules:
    """Return the molecules of `to_arrays`.

    Raises ValueError for arrays that are missing, of other shapes or bonds of other atoms.
    """
    if missing := [name for name in REQUIRED if name not in arrays]:
        raise ValueError(f"arrays missing: {', '.join(missing)}")
    wide: dict[str, Any] = {"hydrogens": None}
    for name in arrays.keys() & STORED_TYPES.keys():
        wide[name] = arrays[name].astype(np.float32 if name == "positions" else np.int64)
    molecules = Molecules(**wide, names=names)
    if molecules.bonds is not None and not are_bonds(molecules.bonds, np.repeat(molecules.sizes, wide["bond_counts"])):
        raise ValueError("bonds: expected rows (i, j, order), i < j, order 1 to 4")
    return molecules
