"""Molecules as finished samples: atoms at positions, with or without hydrogens and bonds; many in flat arrays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rdkit import Chem

Hydrogens: TypeAlias = Literal["atoms", "counts", "file"]
"""Representation of hydrogens: as atoms, as counts on the heavy atoms, or (readers only) as in the file."""


@dataclass(frozen=True, eq=False, slots=True)
class Molecule:
    """Atoms at positions, from which everything else about a molecule is derived.

    Attributes:
        numbers: atomic numbers, int64 [n].
        positions: angstrom, float32 [n, 3].
        hydrogens: implicit hydrogens on each atom, int64 [n], for molecules whose hydrogens have no positions;
            None where all hydrogens are atoms (or unknown).
        name: its name in reports.
        graph: sanitised RDKit molecule with the same atoms in the same order, if a file gave the bonds; None where
            bonds are to be perceived.
        charges: formal charge of each atom, int64 [n]; None where it is unknown.

    Raises ValueError for arrays of other shapes.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float32]
    hydrogens: NDArray[np.int64] | None = None
    name: str = ""
    graph: "Chem.Mol | None" = None
    charges: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n = len(self.numbers)
        if self.positions.shape != (n, 3):
            raise ValueError(
                f"positions of molecule {self.name!r}: got shape {self.positions.shape}, expected ({n}, 3)"
            )
        for field, array in (("hydrogens", self.hydrogens), ("charges", self.charges)):
            if array is not None and array.shape != (n,):
                raise ValueError(f"{field} of molecule {self.name!r}: got shape {array.shape}, expected ({n},)")

    def __len__(self) -> int:
        return len(self.numbers)


def max_hydrogen_distance(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the largest distance of a hydrogen from the atom that it belongs to, in angstrom.

    1.3 for elements of the first two periods, 1.8 for those below.
    """
    return np.where(numbers <= 10, 1.3, 1.8).astype(np.float32)


def count_hydrogens(molecule: Molecule) -> Molecule:
    """Return the heavy atoms of a molecule, each hydrogen counted on its nearest heavy atom; the bonds are dropped.

    Raises ValueError if there is no heavy atom, or a hydrogen is too far from all of them.
    """
    heavy = molecule.numbers > 1
    numbers, positions = molecule.numbers[heavy], molecule.positions[heavy]
    if len(numbers) == 0:
        raise ValueError("no heavy atoms")
    counts = np.zeros(len(numbers), dtype=np.int64)
    if molecule.hydrogens is not None:
        counts += molecule.hydrogens[heavy]
    if not heavy.all():
        distance = np.linalg.norm(molecule.positions[~heavy][:, None] - positions[None], axis=-1)  # [hydrogen, heavy]
        nearest = distance.argmin(1)
        if not (distance.min(1) <= max_hydrogen_distance(numbers)[nearest]).all():
            raise ValueError("hydrogen without a heavy atom")
        counts += np.bincount(nearest, minlength=len(numbers))
    charges = None if molecule.charges is None else molecule.charges[heavy]
    return replace(molecule, numbers=numbers, positions=positions, hydrogens=counts, graph=None, charges=charges)


def graph_charges(graph: "Chem.Mol") -> NDArray[np.int64]:
    """Return the formal charge of each atom of an RDKit molecule, int64 [n]."""
    return np.array([atom.GetFormalCharge() for atom in graph.GetAtoms()], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Molecules(Sequence[Molecule]):
    """Many molecules in flat arrays: a sequence of `Molecule` without graphs, made on access.

    Attributes:
        sizes: atoms of each molecule, int64 [m].
        numbers: atomic numbers of all atoms, int64 [sum of sizes].
        positions: angstrom, float32 [sum of sizes, 3].
        hydrogens: implicit hydrogens of all atoms, int64 [sum of sizes], or None where hydrogens are atoms.
        names: one per molecule.
        charges: formal charges of all atoms, int64 [sum of sizes], or None where they are unknown.
    """

    sizes: NDArray[np.int64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float32]
    hydrogens: NDArray[np.int64] | None
    names: tuple[str, ...]
    charges: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        atoms = int(self.sizes.sum())
        for field in ("numbers", "positions", "hydrogens", "charges"):
            array, shape = getattr(self, field), (atoms, 3) if field == "positions" else (atoms,)
            if array is not None and array.shape != shape:
                raise ValueError(f"{field} of {len(self.sizes)} molecules: got shape {array.shape}, expected {shape}")
        if len(self.names) != len(self.sizes):
            raise ValueError(f"names: got {len(self.names)}, expected one for each of {len(self.sizes)} molecules")
        object.__setattr__(self, "_stops", np.cumsum(self.sizes))

    @classmethod
    def pack(cls, molecules: Iterable[Molecule]) -> "Molecules":
        """Copy molecules into flat arrays, without their graphs.

        All or none of them may have hydrogen counts; charges are kept where all have some.
        """
        items = list(molecules)
        counted = [item.hydrogens for item in items if item.hydrogens is not None]
        if 0 < len(counted) < len(items):
            raise ValueError(f"{len(counted)} of {len(items)} molecules have hydrogen counts: expected all or none")
        charged = [item.charges for item in items if item.charges is not None]
        return cls(
            sizes=np.array([len(item) for item in items], dtype=np.int64),
            numbers=np.concatenate([np.zeros(0, np.int64), *(item.numbers for item in items)]),
            positions=np.concatenate([np.zeros((0, 3), np.float32), *(item.positions for item in items)]),
            hydrogens=np.concatenate(counted) if counted else None,
            names=tuple(item.name for item in items),
            charges=np.concatenate(charged) if charged and len(charged) == len(items) else None,
        )

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Molecule: ...
    @overload
    def __getitem__(self, index: slice) -> "Molecules": ...
    def __getitem__(self, index: "int | slice") -> "Molecule | Molecules":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = range(len(self))[index]  # raises IndexError, counts negative rows from the end
        stop = int(self._stops[row])  # type: ignore[attr-defined]
        span = slice(stop - int(self.sizes[row]), stop)
        hydrogens = None if self.hydrogens is None else self.hydrogens[span]
        charges = None if self.charges is None else self.charges[span]
        return Molecule(self.numbers[span], self.positions[span], hydrogens, self.names[row], charges=charges)

    def take(self, rows: NDArray[np.int64]) -> "Molecules":
        """Return the molecules of these rows, in this order."""
        sizes = self.sizes[rows]
        starts = self._stops[rows] - sizes  # type: ignore[attr-defined]
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        atoms = np.repeat(starts, sizes) + within
        return Molecules(
            sizes=sizes,
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            hydrogens=None if self.hydrogens is None else self.hydrogens[atoms],
            names=tuple(self.names[row] for row in rows.tolist()),
            charges=None if self.charges is None else self.charges[atoms],
        )
