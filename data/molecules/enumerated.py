"""A data set without download: small neutral molecules of H, C, N and O, enumerated as graphs and embedded."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase

from molrl.data.cache import CACHE, digest, load_arrays, pack_texts, save_arrays, unpack_texts
from molrl.data.files import Progress
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.molecule import Molecule, Molecules, count_hydrogens
from molrl.data.molecules.quality import fragment_smiles
from molrl.data.molecules.smiles import read_smiles
from molrl.data.molecules.store import from_arrays, to_arrays

RULES_VERSION = "2"  # changes with the rules below and with the embedding, so that an old cache is not reused
ELEMENTS = ("C", "N", "O")
# Rings that growth by single steps reaches late; each is added at its own size.
RINGS = (
    *("C1CC1", "C1CN1", "C1CO1", "C1CCC1", "c1cc[nH]c1", "c1ccoc1", "c1c[nH]cn1", "c1cn[nH]c1", "c1cocn1", "c1cnoc1"),
    *("c1ccccc1", "c1ccncc1", "c1cncnc1", "c1cnccn1", "c1ccnnc1"),
)
# Groups that are hardly ever isolated, or too strained for a force field.
UNWANTED = (
    "O-O",  # peroxides
    "[#7,#8;!a]~[#7,#8;!a]~[#7,#8;!a]",  # chains of heteroatoms
    "[N;!a]-[N,O;!a;!$(N-C=[O,N])]",  # hydrazines and hydroxylamines
    "[N;!a]=[N;!a]",
    "C=C-[OX2H]",  # enols
    "C=C-[NX3;H1,H2]",  # enamines
    "[CX4]([OH,NH,NH2])[OH,NH,NH2]",  # hydrates and aminals
    "[CX3](=O)([OH])[O,N]",  # carbonic and carbamic acids
    "C#C-[O,N]",  # ynols and ynamines
    "*=*=*",
    "[R2;!a]=*",  # double bonds at a bridgehead
    "[r]#*",
    "[R2;r3,r4]",  # fused small rings
    "[r3,r4]=*",
)
MAX_RING_SIZE = 6


def enumerate_molecules(
    n: int = 2000,
    max_heavy: int = 7,
    seed: int = 0,
    *,
    counts: bool = False,
    cache: str | Path | None = CACHE,
    workers: int = 0,
    progress: Progress | None = None,
) -> Molecules:
    """Draw `n` embedded molecules of at most `max_heavy` heavy atoms; equal arguments give equal molecules.

    Only molecules whose graph can be read back from the geometry are used. Names are canonical SMILES.

    Args:
        counts: heavy atoms with hydrogen counts instead of all atoms.
        cache: folder that stores the result; None stores nothing.
        workers: processes that embed; 0 embeds in this one.

    Raises ValueError for arguments out of range and if there are fewer than `n` such molecules.
    """
    if n < 1 or not 1 <= max_heavy <= 9:
        raise ValueError(f"enumerated molecules: got n={n}, max_heavy={max_heavy}, allowed: n >= 1, max_heavy 1 to 9")
    key = digest(RULES_VERSION, f"{n} {max_heavy} {seed} {rdBase.rdkitVersion}")
    path = None if cache is None else Path(cache) / f"enumerated-{key}.npz"
    molecules = None if path is None else load_molecules(path, n)
    if molecules is None:
        molecules = Molecules.pack(embed_candidates(enumerate_smiles(max_heavy, n, seed), n, workers, progress))
        if path is not None:
            save_molecules(path, molecules)
    return Molecules.pack(map(count_hydrogens, molecules)) if counts else molecules


def enumerate_smiles(max_heavy: int, width: int, seed: int) -> list[str]:
    """Return canonical SMILES in random order; each size grows from at most `width` molecules of the one before.

    With a width above the number of molecules the enumeration is complete for the steps `additions` and `closures`.
    """
    generator = np.random.default_rng(seed)
    molecules: set[str] = set()
    parents: list[str] = []
    for size in range(1, max_heavy + 1):
        grown = {child for parent in parents for child in additions(parent)}
        rings = (ring for ring in RINGS if Chem.MolFromSmiles(ring).GetNumAtoms() == size)
        level = {*(ELEMENTS if size == 1 else ()), *grown, *map(Chem.CanonSmiles, rings)}
        fresh = level
        while fresh:  # rings and bond orders do not change the size: repeat until nothing is new
            fresh = {child for parent in draw_subset(fresh, width, generator) for child in closures(parent)} - level
            level |= fresh
        molecules |= level
        parents = draw_subset(level, width, generator)
    return draw_subset(molecules, len(molecules), generator)


def draw_subset(molecules: set[str], count: int, generator: np.random.Generator) -> list[str]:
    """Draw at most `count` of the molecules, in an order that depends only on the generator."""
    ordered = sorted(molecules)
    return [ordered[row] for row in generator.permutation(len(ordered))[:count].tolist()]


def additions(smiles: str) -> Iterator[str]:
    """Yield the molecules with one more atom, singly attach_bonds."""
    mol = Chem.MolFromSmiles(smiles)
    for atom in atoms_with_hydrogens(mol):
        for symbol in ELEMENTS:
            child = Chem.RWMol(mol)
            child.AddBond(atom, child.AddAtom(Chem.Atom(symbol)), Chem.BondType.SINGLE)
            yield from accept(child, (atom,))


def closures(smiles: str) -> Iterator[str]:
    """Yield the molecules with one more bond: a ring of three to six atoms or a higher bond order."""
    mol = Chem.MolFromSmiles(smiles)
    distance = Chem.GetDistanceMatrix(mol)
    higher = {Chem.BondType.SINGLE: Chem.BondType.DOUBLE, Chem.BondType.DOUBLE: Chem.BondType.TRIPLE}
    for first, second in combinations(atoms_with_hydrogens(mol), 2):
        bond = mol.GetBondBetweenAtoms(first, second)
        child = Chem.RWMol(mol)
        if bond is None and distance[first, second] < MAX_RING_SIZE:
            child.AddBond(first, second, Chem.BondType.SINGLE)
        elif bond is not None and bond.GetBondType() in higher:
            child.GetBondBetweenAtoms(first, second).SetBondType(higher[bond.GetBondType()])
        else:
            continue
        yield from accept(child, (first, second))


def atoms_with_hydrogens(mol: Chem.Mol) -> list[int]:
    """Return the atoms that have a hydrogen to replace."""
    return [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetTotalNumHs() > 0]


def accept(mol: Chem.RWMol, changed: tuple[int, ...]) -> Iterator[str]:
    """Yield the canonical SMILES of a molecule if it is valid and has no unwanted group."""
    for index in changed:
        atom = mol.GetAtomWithIdx(index)
        atom.SetNumExplicitHs(max(0, atom.GetNumExplicitHs() - 1))  # of [nH]
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol)
        except ValueError:
            return
    if not any(mol.HasSubstructMatch(pattern) for pattern in unwanted_patterns()):
        yield Chem.MolToSmiles(mol)


@lru_cache
def unwanted_patterns() -> tuple[Chem.Mol, ...]:
    """Return the patterns of `UNWANTED`, compiled once."""
    return tuple(Chem.MolFromSmarts(pattern) for pattern in UNWANTED)


def embed_candidates(candidates: list[str], n: int, workers: int, progress: Progress | None) -> list[Molecule]:
    """Return the first `n` candidates that can be embedded and read back."""
    molecules: list[Molecule] = []
    start = 0
    while len(molecules) < n and start < len(candidates):
        stop = start + max(32, min(256, n - len(molecules)))
        embedded, _ = read_smiles(candidates[start:stop], workers=workers)
        molecules += (replace(molecule, graph=None) for molecule in embedded if is_read_back(molecule))
        start = stop
        if progress is not None:
            progress(min(len(molecules), n), n)
    if len(molecules) < n:
        raise ValueError(f"enumerated molecules: only {len(molecules)} exist with these settings, got n={n}")
    return molecules[:n]


def is_read_back(molecule: Molecule) -> bool:
    """Tell whether the bonds perceived in the heavy-atom setting give the SMILES that is the name of the molecule."""
    reading = rdkit_bonds(count_hydrogens(replace(molecule, graph=None)))
    return fragment_smiles(reading) == molecule.name and reading.mol is not None


def save_molecules(path: Path, molecules: Molecules) -> None:
    """Save molecules with their names."""
    save_arrays(path, {**to_arrays(molecules), "names": pack_texts(molecules.names)})


def load_molecules(path: Path, n: int) -> Molecules | None:
    """Load what `save_molecules` saved; return None if it is missing, damaged or of another number of molecules."""
    arrays = load_arrays(path)
    if arrays is None or "names" not in arrays:
        return None
    try:
        molecules = from_arrays(arrays, tuple(unpack_texts(arrays["names"])))
    except (TypeError, ValueError):
        return None
    return molecules if len(molecules) == n else None
