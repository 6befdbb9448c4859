"""Cores from files: a fragment, or several pieces in one frame, to which a model adds atoms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molrl.data.files import Skipped, suffix
from molrl.data.molecules.elements import symbol
from molrl.data.molecules.graphs import from_graph
from molrl.data.molecules.molecule import Core, Molecule
from molrl.data.molecules.records import has_geometry
from molrl.data.molecules.sdf import stream_sdf
from molrl.data.molecules.valence import SURELY_BONDED, excess_lengths

WITH_BONDS = (".sdf", ".mol")
MAX_CORE = 100  # heavy atoms
MAX_PIECES = 8


@dataclass(frozen=True)
class OpenCore:
    """A core with the places where new bonds are made.

    Attributes:
        molecule: heavy atoms in the frame of the file, one hydrogen less for each new bond.
        attach: numbers of the atoms that make new bonds, heavy atoms counted from 1 in the order of the file.
        pieces: number of fragments.
    """

    molecule: Molecule
    attach: tuple[int, ...]
    pieces: int

    @property
    def places(self) -> str:
        """Return the open atoms by element and number, such as "C3, N7"."""
        return ", ".join(f"{symbol(int(self.molecule.numbers[atom - 1]))}{atom}" for atom in self.attach)


def read_core(path: str, attach: Sequence[int] | int | None) -> OpenCore:
    """Read the core of an SDF or mol file; several records are pieces of one core.

    Args:
        attach: atoms that make one new bond each, heavy atoms counted from 1; an atom that is named twice makes two, or
            a double one.

    Raises:
        ValueError: no such file or atoms, or a core that nothing can be attached to.
    """
    if suffix(path) not in WITH_BONDS:
        raise ValueError(f"core={path}: need bonds and a geometry, a {' or '.join(WITH_BONDS)} file")
    records = list(stream_sdf(path, "counts", MAX_CORE, MAX_PIECES + 1))
    skipped = [entry for entry in records if isinstance(entry, Skipped)]
    molecules = [entry for entry in records if isinstance(entry, Molecule)]
    if skipped:
        raise ValueError(f"core={path}: {skipped[0]}")
    if not 0 < len(molecules) <= MAX_PIECES:
        raise ValueError(f"core={path}: got {len(molecules)} records, need 1 to {MAX_PIECES}")
    graph = join([checked_graph(molecule, path) for molecule in molecules])
    whole = from_graph(graph, molecules[0].name, counted=True)
    refuse_overlap(whole, path)
    opened = open_valences(whole, attach, path)
    pieces = Chem.GetMolFrags(graph)
    refuse_lone(pieces, opened, path)
    hydrogens = counts_of(whole) - opened
    core = Core(kekulised_bonds(graph), opened)
    molecule = Molecule(whole.numbers, whole.positions, hydrogens, whole.name, charges=whole.charges, core=core)
    return OpenCore(molecule, tuple(int(atom) + 1 for atom in np.flatnonzero(opened)), len(pieces))


def checked_graph(molecule: Molecule, path: str) -> Chem.Mol:
    """Return the graph of a record; ValueError where it has no bonds, no geometry or unpaired electrons."""
    if molecule.graph is None or not has_geometry(molecule):
        raise ValueError(f"core={path}: {molecule.name} has no bonds or no geometry")
    if any(atom.GetNumRadicalElectrons() for atom in molecule.graph.GetAtoms()):
        raise ValueError(
            f"core={path}: {molecule.name} has unpaired electrons; give it the hydrogens that `attach` takes"
        )
    return molecule.graph


def join(graphs: Sequence[Chem.Mol]) -> Chem.Mol:
    """Return one graph of several pieces, with their positions."""
    whole = graphs[0]
    for graph in graphs[1:]:
        whole = Chem.CombineMols(whole, graph)
    Chem.SanitizeMol(whole)
    return whole


def counts_of(molecule: Molecule) -> NDArray[np.int64]:
    """Return the hydrogens of each atom of a molecule that has counts."""
    assert molecule.hydrogens is not None
    return molecule.hydrogens


def refuse_overlap(molecule: Molecule, path: str) -> None:
    """Raise ValueError where two atoms of a core have no bond and are as close as bonded atoms."""
    assert molecule.bonds is not None
    excess = excess_lengths(molecule)
    first, second, _ = molecule.bonds.T
    excess[first, second] = excess[second, first] = np.inf
    close = np.argwhere(excess <= SURELY_BONDED)
    if len(close):
        one, other = close[0] + 1
        length = np.linalg.norm(molecule.positions[one - 1] - molecule.positions[other - 1])
        raise ValueError(
            f"core={path}: atoms {one} and {other} overlap, {length:.2f} angstrom apart without a bond between them"
        )


def refuse_lone(pieces: Sequence[Sequence[int]], opened: NDArray[np.int64], path: str) -> None:
    """Raise ValueError where one of several pieces makes no new bond, so that no molecule can have it."""
    lone = [piece for piece in pieces if not opened[list(piece)].any()]
    if len(pieces) > 1 and lone:
        named = [int(atom) + 1 for atom in np.flatnonzero(opened)]
        atoms = ", ".join(str(atom + 1) for atom in lone[0])
        raise ValueError(f"attach={named}: the piece of {path} with atoms {atoms} has none, so nothing would link it")


def open_valences(molecule: Molecule, attach: Sequence[int] | int | None, path: str) -> NDArray[np.int64]:
    """Return how many new bonds each atom makes; ValueError where it has fewer hydrogens, or there is no such atom."""
    counts = counts_of(molecule)
    able = [f"{symbol(int(molecule.numbers[atom]))}{atom + 1}" for atom in np.flatnonzero(counts)]
    if not able:
        raise ValueError(f"core={path}: no atom has a hydrogen, so nothing can be attached")
    wanted = [attach] if isinstance(attach, int) else list(attach or ())
    opened = np.zeros(len(molecule), dtype=np.int64)
    for atom in wanted:
        if type(atom) is not int or not 1 <= atom <= len(molecule):
            raise ValueError(f"attach={wanted}: got {atom!r}, {path} has heavy atoms 1 to {len(molecule)}")
        opened[atom - 1] += 1
    short = np.flatnonzero(opened > counts)
    if not wanted or len(short):
        problem = f"atom {short[0] + 1} has {counts[short[0]]} hydrogens" if len(short) else "no atom is named"
        raise ValueError(f"attach={wanted}: {problem}; each new bond takes a hydrogen, which {', '.join(able)} have")
    return opened


def kekulised_bonds(graph: Chem.Mol) -> NDArray[np.int64]:
    """Return bonds (i, j, order) with the orders of a Kekule structure, int64 [k, 3]."""
    bare = Chem.Mol(graph)
    Chem.Kekulize(bare, clearAromaticFlags=True)
    rows = [
        (*sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())), int(bond.GetBondTypeAsDouble()))
        for bond in bare.GetBonds()
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)
