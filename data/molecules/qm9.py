"""QM9 (Ramakrishnan et al., Sci. Data 1, 140022, 2014): from a local npz file."""

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from molrl.data.files import MAX_BYTES, ReadReport, Skipped, reason_of
from molrl.data.molecules.entries import report_of
from molrl.data.molecules.molecule import Hydrogens, Molecules, max_hydrogen_distance
from molrl.machine.files import open_regular

KEYS = ("index", "num_atoms", "atomic_numbers", "positions")
EXPECTED = f"expected an .npz archive of plain numbers with the arrays {', '.join(KEYS)}; nothing pickled is loaded"
ANGSTROM_PER_UNIT = np.float32(1e-3)  # of integer positions
CHUNK_SIZE = 4096  # molecules of one size at a time

Half: TypeAlias = Literal["first", "second"]
"""A fixed random half of QM9; see `in_half`."""


def in_half(number: int, half: Half) -> bool:
    """Tell whether a molecule belongs to a half of QM9, by its number there, from 1 to 133,885.

    The first half are the numbers whose decimal digits have an SHA-256 that begins with a bit of 0, 66,960 of them; so
    it is the same for any subset, order or file of QM9, and in any language.
    """
    return (hashlib.sha256(str(number).encode()).digest()[0] < 128) == (half == "first")


def load_qm9(
    path: str | Path, hydrogens: Hydrogens = "atoms", half: Half | None = None
) -> tuple[Molecules, ReadReport]:
    """Load geometries stored one after another in an npz file, with hydrogens as atoms or as counts.

    Keys: `index` int [m], the number of each molecule in QM9; `num_atoms` int [m]; `atomic_numbers` int [atoms];
    `positions` [atoms, 3], either integers in 0.001 angstrom or floats in angstrom.

    Args:
        half: the molecules of one half only.

    Raises ValueError for a missing or damaged file and for missing keys or wrong shapes.
    """
    arrays = read_arrays(path)
    sizes = arrays["num_atoms"].astype(np.int64)
    numbers = arrays["atomic_numbers"].astype(np.int64)
    raw = arrays["positions"]
    positions = raw.astype(np.float32) * (ANGSTROM_PER_UNIT if raw.dtype.kind == "i" else np.float32(1))
    indices = arrays["index"].tolist()
    molecules = Molecules(sizes, numbers, positions, None, tuple(f"qm9 {index}" for index in indices))
    if half is not None:
        rows = [row for row, index in enumerate(indices) if in_half(index, half)]
        molecules = molecules.take(np.array(rows, dtype=np.int64))
    return convert_hydrogens(molecules, hydrogens, str(path))


def read_arrays(path: str | Path) -> dict[str, NDArray[np.generic]]:
    """Read the arrays of `KEYS`, and check their types and shapes."""
    try:
        with open_regular(path, follow=True) as stream:
            if not zipfile.is_zipfile(stream):
                raise ValueError(f"got no .npz archive or a damaged one, {EXPECTED}")
            with zipfile.ZipFile(stream) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                    raise ValueError(f"unpacks to more than {MAX_BYTES} bytes")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                if missing := [key for key in KEYS if key not in file.files]:
                    raise ValueError(f"keys missing: {', '.join(missing)}; got: {', '.join(file.files)[:200]}")
                arrays = {key: plain_array(file, key) for key in KEYS}
    except (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read: {reason_of(error)}") from None
    for key in KEYS[:3]:
        if arrays[key].dtype.kind not in "iu" or arrays[key].ndim != 1:
            raise ValueError(
                f"{path}: {key}: got {arrays[key].dtype} of {arrays[key].ndim} axes, expected integers of 1"
            )
    atoms = int(arrays["num_atoms"].sum())
    expected = {"index": arrays["num_atoms"].shape, "atomic_numbers": (atoms,), "positions": (atoms, 3)}
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise ValueError(f"{path}: {key}: got shape {arrays[key].shape}, expected {shape}")
    if arrays["positions"].dtype.kind not in "if":
        raise ValueError(f"{path}: positions: got {arrays['positions'].dtype}, expected integers or floats")
    return arrays


def plain_array(file: NpzFile, key: str) -> NDArray[np.generic]:
    """Return one array of an archive, but none of Python objects, since unpickling may run any code."""
    try:
        return np.asarray(file[key])
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise ValueError(f"got {key} as an array of pickled Python objects, {EXPECTED}") from None


def convert_hydrogens(molecules: Molecules, hydrogens: Hydrogens, source: str) -> tuple[Molecules, ReadReport]:
    """Return molecules whose hydrogens are atoms as they are or, for "counts", with hydrogen counts."""
    if hydrogens != "counts":
        return molecules, report_of(molecules, (), source)
    counted, reasons = count_all_hydrogens(molecules)
    skipped = (Skipped(molecules.names[row], reason) for row, reason in sorted(reasons.items()))
    return counted, report_of(counted, skipped, source)


def count_all_hydrogens(molecules: Molecules) -> tuple[Molecules, dict[int, str]]:
    """Apply `count_hydrogens` to many molecules at once; those that fail are left out, with reasons by row."""
    counts = np.zeros(len(molecules.numbers), dtype=np.int64)
    starts = np.cumsum(molecules.sizes) - molecules.sizes
    reasons = dict.fromkeys(np.flatnonzero(molecules.sizes == 0).tolist(), "no heavy atoms")
    for size in np.unique(molecules.sizes[molecules.sizes > 0]).tolist():
        rows = np.flatnonzero(molecules.sizes == size)
        for part in np.array_split(rows, -(-len(rows) // CHUNK_SIZE)):
            atoms = starts[part][:, None] + np.arange(size)  # [m, n]
            part_counts, hydrogen_only, stray = count_equal_sizes(molecules.numbers[atoms], molecules.positions[atoms])
            counts[atoms] = part_counts
            reasons |= dict.fromkeys(part[stray].tolist(), "hydrogen without a heavy atom")
            reasons |= dict.fromkeys(part[hydrogen_only].tolist(), "no heavy atoms")
    kept = np.ones(len(molecules), dtype=np.bool_)
    kept[list(reasons)] = False
    chosen = np.repeat(kept, molecules.sizes) & (molecules.numbers > 1)
    heavy_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(molecules.numbers > 1)])
    return (
        Molecules(
            sizes=(heavy_before[starts + molecules.sizes] - heavy_before[starts])[kept],
            numbers=molecules.numbers[chosen],
            positions=molecules.positions[chosen],
            hydrogens=counts[chosen],
            names=tuple(name for name, keep in zip(molecules.names, kept.tolist(), strict=True) if keep),
        ),
        reasons,
    )


def count_equal_sizes(
    numbers: NDArray[np.int64], positions: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Count the hydrogens nearest to each heavy atom, of molecules of one size.

    Args:
        numbers: atomic numbers [m, n].
        positions: angstrom [m, n, 3].

    Returns the counts [m, n], and masks [m] of the molecules without a heavy atom and with a stray hydrogen.
    """
    m, n = numbers.shape
    heavy: NDArray[np.bool_] = numbers > 1
    square = np.einsum("mik,mik->mi", positions, positions)
    distance = square[:, :, None] + square[:, None] - 2 * positions @ positions.swapaxes(1, 2)  # squared, [m, i, j]
    distance[np.broadcast_to(~heavy[:, None], distance.shape)] = np.inf
    nearest = distance.argmin(2)  # heavy atom j of each atom i
    row = np.arange(m)[:, None]
    near: NDArray[np.bool_] = distance[row, np.arange(n), nearest] <= max_hydrogen_distance(numbers[row, nearest]) ** 2
    counts = np.zeros((m, n), dtype=np.int64)
    np.add.at(counts, (np.nonzero(~heavy)[0], nearest[~heavy]), 1)
    return counts, np.logical_not(heavy.any(1)), np.any(~heavy & ~near, axis=1)
