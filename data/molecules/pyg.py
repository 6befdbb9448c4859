"""Data sets of PyTorch Geometric whose items have atomic numbers `z` and positions `pos`."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from molrl.data.files import ReadReport, Skipped
from molrl.data.molecules.convert import from_pyg
from molrl.data.molecules.entries import NO_LIMIT, Entry, collect, make_entry
from molrl.data.molecules.molecule import Hydrogens, Molecules

WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # an environment variable that torch.load reads


def load_pyg(
    dataset: str, root: str | Path, arguments: Mapping[str, Any], hydrogens: Hydrogens = "atoms"
) -> tuple[Molecules, ReadReport]:
    """Load a data set of `torch_geometric.datasets`, which downloads it to `root` if missing.

    PyG stores pickles. Only torch's restricted loader reads them, never PyG's unrestricted fallback.

    Args:
        dataset: name of its class, such as QM9 or MD17.
        arguments: further arguments of the class, such as MD17's name.

    Raises ValueError if torch_geometric is missing, has no such data set, or the files cannot be read.
    """
    try:
        from torch_geometric import datasets
        from torch_geometric.data import Dataset
    except ImportError:
        raise ValueError("data=pyg needs torch_geometric: pip install 'molrl[qm9]'") from None
    kind = getattr(datasets, dataset, None)
    if not (isinstance(kind, type) and issubclass(kind, Dataset)):
        raise ValueError(f"data.dataset: got {dataset!r}, allowed: the name of a data set in torch_geometric.datasets")
    try:
        with restrict_loading():
            graphs = list(kind(str(root), **arguments))
    except Exception as error:  # any error is possible: the files may hold anything
        raise ValueError(f"{root}: cannot be read as PyG's {dataset}: {str(error).splitlines()[0][:200]}") from error
    molecules, report = pyg_molecules(graphs, hydrogens, f"{dataset} in {root}")
    if not molecules:
        raise ValueError(f"{dataset} in {root}: none of {len(graphs)} items is a molecule, {report.skipped[0]}")
    return molecules, report


def pyg_molecules(
    graphs: Iterable[Any], hydrogens: Hydrogens = "atoms", source: str = "PyG data"
) -> tuple[Molecules, ReadReport]:
    """Return the molecules of PyG `Data` objects, and a report of those that are none; see `from_pyg`."""
    molecules, report = collect(pyg_entries(graphs, hydrogens), source)
    return Molecules.pack(molecules), report


def pyg_entries(graphs: Iterable[Any], hydrogens: Hydrogens) -> Iterator[Entry]:
    """Yield the molecule of each item, or the reason why there is none."""
    for row, graph in enumerate(graphs, 1):
        try:
            molecule = from_pyg(graph)
        except ValueError as error:
            yield Skipped(f"item {row}", str(error))
            continue
        named = molecule if molecule.name else replace(molecule, name=f"item {row}")
        yield make_entry(named, hydrogens, NO_LIMIT, f"item {row}")


@contextlib.contextmanager
def restrict_loading() -> Iterator[None]:
    """Restrict torch.load, whoever calls it, to tensors and plain data."""
    before = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        os.environ.pop(WEIGHTS_ONLY)
        if before is not None:
            os.environ[WEIGHTS_ONLY] = before
