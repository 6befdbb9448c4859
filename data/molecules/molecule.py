"""Molecules as finished samples: atoms at positions, with or without hydrogens and bonds; many in flat arrays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rdkit import Chem

Hydrogens: TypeAlias = Literal["atoms", "counts", "file"]
"""Representation of hydrogens: as atoms, as counts on the heavy atoms, or (readers only) as in the file."""

AROMATIC = 4  # the order of an aromatic bond; others have 1, 2 and 3


@dataclass(frozen=True, eq=False, slots=True)
class Core:
    """The first atoms of a molecule, which were given with their bonds.

    Attributes:
        bonds: of the core, rows (i, j, order) with i < j and an order of 1, 2 or 3, int64 [k, 3].
        open: sum of the orders of the bonds that each atom has to make to other atoms, int64 [size]; 0 where it may
            make none.
    """

    bonds: NDArray[np.int64]
    open: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.open)


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
        bonds: rows (i, j, order) with i < j and an order of 1, 2, 3 or `AROMATIC`, int64 [k, 3]; None where they are
            unknown.
        core: the part of it that was given, its first atoms; None where no part was.

    Raises ValueError for arrays of other shapes.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float32]
    hydrogens: NDArray[np.int64] | None = None
    name: str = ""
    graph: "Chem.Mol | None" = None
    charges: NDArray[np.int64] | None = None
    bonds: NDArray[np.int64] | None = None
    core: Core | None = None

    def __post_init__(self) -> None:
        n = len(self.numbers)
        if self.positions.shape != (n, 3):
            raise ValueError(
                f"positions of molecule {self.name!r}: got shape {self.positions.shape}, expected ({n}, 3)"
            )
        for field, array in (("hydrogens", self.hydrogens), ("charges", self.charges)):
            if array is not None and array.shape != (n,):
                raise ValueError(f"{field} of molecule {self.name!r}: got shape {array.shape}, expected ({n},)")
        if self.bonds is not None and self.bonds.shape[1:] != (3,):
            raise ValueError(f"bonds of molecule {self.name!r}: got shape {self.bonds.shape}, expected (k, 3)")

    def __len__(self) -> int:
        return len(self.numbers)


def are_bonds(bonds: NDArray[np.int64], n: int | NDArray[np.int64]) -> bool:
    """Tell whether rows [k, 3] are bonds (i, j, order) with i < j of molecules of `n` atoms, one number or [k]."""
    first, second, order = bonds.T
    return bool(((first >= 0) & (first < second) & (second < n) & (order >= 1) & (order <= AROMATIC)).all())


def max_hydrogen_distance(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the largest distance of a hydrogen from the atom that it belongs to, in angstrom.

    1.3 for elements of the first two periods, 1.8 for those below.
    """
    return np.where(numbers <= 10, 1.3, 1.8).astype(np.float32)


def count_hydrogens(molecule: Molecule) -> Molecule:
    """Return the heavy atoms of a molecule with the number of hydrogens on each; the graph is dropped.

    A hydrogen counts on the one heavy atom that it is bonded to or, where bonds are unknown, on the nearest one. Of
    bonds those between heavy atoms are kept.

    Raises ValueError if there is no heavy atom, or a hydrogen is bonded to none or several, or too far from all.
    """
    heavy = molecule.numbers > 1
    if not heavy.any():
        raise ValueError("no heavy atoms")
    counts = np.zeros(len(molecule), dtype=np.int64) if molecule.hydrogens is None else molecule.hydrogens.copy()
    carriers = nearest_heavy_atoms(molecule) if molecule.bonds is None else bonded_heavy_atoms(molecule, molecule.bonds)
    if len(carriers) != int((~heavy).sum()):
        raise ValueError("hydrogen without a heavy atom")
    np.add.at(counts, carriers, 1)
    return replace(
        molecule,
        numbers=molecule.numbers[heavy],
        positions=molecule.positions[heavy],
        hydrogens=counts[heavy],
        graph=None,
        charges=None if molecule.charges is None else molecule.charges[heavy],
        bonds=None if molecule.bonds is None else heavy_bonds(molecule.bonds, heavy),
    )


def nearest_heavy_atoms(molecule: Molecule) -> NDArray[np.int64]:
    """Return the heavy atom nearest to each hydrogen, int64 [at most hydrogens]; none where that is too far away."""
    heavy, light = np.flatnonzero(molecule.numbers > 1), np.flatnonzero(molecule.numbers <= 1)
    distance = np.linalg.norm(molecule.positions[light][:, None] - molecule.positions[heavy][None], axis=-1)
    nearest = heavy[distance.argmin(1)]  # [hydrogen]
    near: NDArray[np.int64] = nearest[distance.min(1) <= max_hydrogen_distance(molecule.numbers[nearest])]
    return near


def bonded_heavy_atoms(molecule: Molecule, bonds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the heavy atom that is the only neighbour of each hydrogen, int64 [at most hydrogens]; none for others."""
    heavy = molecule.numbers > 1
    ends = np.concatenate([bonds[:, :2], bonds[:, 1::-1]])  # both directions
    ends = ends[~heavy[ends[:, 0]]]  # hydrogen, any atom
    _, first, degree = np.unique(ends[:, 0], return_index=True, return_counts=True)
    neighbours: NDArray[np.int64] = ends[first[degree == 1], 1]
    return neighbours[heavy[neighbours]]


def heavy_bonds(bonds: NDArray[np.int64], heavy: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the bonds [k, 3] between chosen atoms, numbered among those alone."""
    kept = bonds[heavy[bonds[:, 0]] & heavy[bonds[:, 1]]]
    places = np.cumsum(heavy) - 1
    return np.column_stack([places[kept[:, :2]], kept[:, 2]])


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
        bond_counts: bonds of each molecule, int64 [m], or None where they are unknown.
        bonds: all bonds as in `Molecule`, atoms numbered within each molecule, int64 [sum of bond_counts, 3].
    """

    sizes: NDArray[np.int64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float32]
    hydrogens: NDArray[np.int64] | None
    names: tuple[str, ...]
    charges: NDArray[np.int64] | None = None
    bond_counts: NDArray[np.int64] | None = None
    bonds: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        atoms = int(self.sizes.sum())
        shapes = {"numbers": (atoms,), "positions": (atoms, 3), "hydrogens": (atoms,), "charges": (atoms,)}
        if self.bond_counts is not None:
            shapes |= {"bond_counts": self.sizes.shape, "bonds": (int(self.bond_counts.sum()), 3)}
        for field, shape in shapes.items():
            array = getattr(self, field)
            if array is not None and array.shape != shape:
                raise ValueError(f"{field} of {len(self.sizes)} molecules: got shape {array.shape}, expected {shape}")
        if (self.bonds is None) != (self.bond_counts is None):
            raise ValueError("bonds and bond_counts: expected both or neither")
        if len(self.names) != len(self.sizes):
            raise ValueError(f"names: got {len(self.names)}, expected one for each of {len(self.sizes)} molecules")
        object.__setattr__(self, "_stops", np.cumsum(self.sizes))
        if self.bond_counts is not None:
            object.__setattr__(self, "_bond_stops", np.cumsum(self.bond_counts))

    @classmethod
    def pack(cls, molecules: Iterable[Molecule]) -> "Molecules":
        """Copy molecules into flat arrays, without their graphs.

        All or none of them may have hydrogen counts; charges and bonds are kept where all have some.
        """
        items = list(molecules)
        counted = [item.hydrogens for item in items if item.hydrogens is not None]
        if 0 < len(counted) < len(items):
            raise ValueError(f"{len(counted)} of {len(items)} molecules have hydrogen counts: expected all or none")
        charged = [item.charges for item in items if item.charges is not None]
        bonded = [item.bonds for item in items if item.bonds is not None]
        has_bonds = 0 < len(bonded) == len(items)
        return cls(
            sizes=np.array([len(item) for item in items], dtype=np.int64),
            numbers=np.concatenate([np.zeros(0, np.int64), *(item.numbers for item in items)]),
            positions=np.concatenate([np.zeros((0, 3), np.float32), *(item.positions for item in items)]),
            hydrogens=np.concatenate(counted) if counted else None,
            names=tuple(item.name for item in items),
            charges=np.concatenate(charged) if 0 < len(charged) == len(items) else None,
            bond_counts=np.array([len(item) for item in bonded], dtype=np.int64) if has_bonds else None,
            bonds=np.concatenate([np.zeros((0, 3), np.int64), *bonded]) if has_bonds else None,
        )

    @classmethod
    def join(cls, parts: Iterable["Molecules"]) -> "Molecules":
        """Return the molecules of all parts in order; charges and bonds are kept where all parts have some.

        Raises ValueError if only some parts have hydrogen counts.
        """
        some = [part for part in parts if len(part)]
        if not some:
            return cls.pack(())

        def joined(field: str) -> Any:
            arrays = [getattr(part, field) for part in some]
            return None if any(array is None for array in arrays) else np.concatenate(arrays)

        if 0 < sum(part.hydrogens is not None for part in some) < len(some):
            raise ValueError("hydrogen counts in some parts: expected in all or none")
        fields = ("sizes", "numbers", "positions", "hydrogens", "charges", "bond_counts", "bonds")
        return cls(names=tuple(name for part in some for name in part.names), **{name: joined(name) for name in fields})

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
        span = span_of(self._stops, self.sizes, row)  # type: ignore[attr-defined]
        bonds = None
        if self.bonds is not None and self.bond_counts is not None:
            bonds = self.bonds[span_of(self._bond_stops, self.bond_counts, row)]  # type: ignore[attr-defined]
        return Molecule(
            numbers=self.numbers[span],
            positions=self.positions[span],
            hydrogens=None if self.hydrogens is None else self.hydrogens[span],
            name=self.names[row],
            charges=None if self.charges is None else self.charges[span],
            bonds=bonds,
        )

    def take(self, rows: NDArray[np.int64]) -> "Molecules":
        """Return the molecules of these rows, in this order."""
        atoms = spans_of(self._stops, self.sizes, rows)  # type: ignore[attr-defined]
        bonds = None
        if self.bonds is not None and self.bond_counts is not None:
            bonds = self.bonds[spans_of(self._bond_stops, self.bond_counts, rows)]  # type: ignore[attr-defined]
        return Molecules(
            sizes=self.sizes[rows],
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            hydrogens=None if self.hydrogens is None else self.hydrogens[atoms],
            names=tuple(self.names[row] for row in rows.tolist()),
            charges=None if self.charges is None else self.charges[atoms],
            bond_counts=None if self.bond_counts is None else self.bond_counts[rows],
            bonds=bonds,
        )


def span_of(stops: NDArray[np.int64], counts: NDArray[np.int64], row: int) -> slice:
    """Return the part of a flat array that belongs to a row."""
    return slice(int(stops[row] - counts[row]), int(stops[row]))


def spans_of(stops: NDArray[np.int64], counts: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places in a flat array that belong to some rows, one row after another."""
    sizes = counts[rows]
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(stops[rows] - sizes, sizes) + within
