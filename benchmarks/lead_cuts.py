"""Cores and substituents of a ligand: the pieces that cuts of single bonds outside rings leave.

Matching molecular series are ligands with the same core and a different rest (Wawer and Bajorath 2011, J. Med. Chem.
54, 2944); bonds are cut as for matched pairs (Hussain and Rea 2010, J. Chem. Inf. Model. 50, 339). All cuts are tried,
so that no search ends at a time limit and the result is the same on every machine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from rdkit import Chem

from molrl.data.molecules.graphs import constitution
from molrl.data.molecules.neutralise import neutral

MAX_CUTS = 2  # attachment points of a core


@dataclass(frozen=True)
class Cut:
    """A core of a ligand, and what is left of the ligand.

    Attributes:
        core: canonical SMILES, neutral and without stereo marks, with * for each substituent.
        atoms: of the ligand that are the core, in its order.
        sites: atoms of the ligand, in the core, that a substituent is bonded to, in its order.
        substituents: canonical SMILES of the substituents with * for the core, in the order of `sites`.
    """

    core: str
    atoms: tuple[int, ...]
    sites: tuple[int, ...]
    substituents: tuple[str, ...]


def molecule_key(mol: Chem.Mol) -> str:
    """Return the SMILES that ligands are compared by: canonical, neutral, without stereo marks."""
    return constitution(neutral(mol))


def cuttable_bonds(mol: Chem.Mol) -> list[int]:
    """Return the single bonds outside rings between uncharged heavy atoms, so that no nitro group is cut."""
    return [
        bond.GetIdx()
        for bond in mol.GetBonds()
        if bond.GetBondType() == Chem.BondType.SINGLE
        and not bond.IsInRing()
        and not any(atom.GetFormalCharge() for atom in (bond.GetBeginAtom(), bond.GetEndAtom()))
    ]


def cuts(mol: Chem.Mol, low: float, high: float) -> Iterator[Cut]:
    """Yield the cores of a ligand with a share of its heavy atoms in [low, high].

    A core has one or two sites, on different atoms; a cut of two bonds leaves a substituent at each end. Of cores with
    the same SMILES, as symmetric ligands have them, all are yielded.

    Args:
        mol: heavy atoms alone, in the protonation state of its file.
    """
    bare = neutral(mol)
    count = bare.GetNumAtoms()
    for number in range(1, MAX_CUTS + 1):
        for bonds in combinations(cuttable_bonds(bare), number):
            pieces = cut_into_pieces(bare, bonds)
            for core in pieces:
                others = [piece for piece in pieces if piece is not core]
                whole = len(core.sites) == number and all(len(other.sites) == 1 for other in others)
                if whole and len(set(core.sites)) == number and low * count <= len(core.atoms) <= high * count:
                    yield as_cut(core, others)


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a cut ligand.

    Attributes:
        mol: the piece with a dummy atom for each cut bond, whose isotope tells the bond.
        atoms: of the ligand.
        sites: its atoms that a bond was cut at, and `bonds` those bonds, as numbers of the cut.
    """

    mol: Chem.Mol
    atoms: tuple[int, ...]
    sites: tuple[int, ...]
    bonds: tuple[int, ...]


def cut_into_pieces(mol: Chem.Mol, bonds: Sequence[int]) -> list[Piece]:
    """Cut bonds of a molecule."""
    labels = [(number + 1, number + 1) for number in range(len(bonds))]
    cut = Chem.FragmentOnBonds(mol, bonds, dummyLabels=labels)
    mapping: list[tuple[int, ...]] = []
    mols = Chem.GetMolFrags(cut, asMols=True, sanitizeFrags=False, fragsMolAtomMapping=mapping)
    count, pieces = mol.GetNumAtoms(), []
    for piece, indices in zip(mols, mapping, strict=True):
        dummies = sorted(
            (atom.GetNeighbors()[0].GetIdx(), atom.GetIsotope()) for atom in piece.GetAtoms() if not atom.GetAtomicNum()
        )
        atoms = tuple(index for index in indices if index < count)
        sites = tuple(indices[site] for site, _ in dummies)
        pieces.append(Piece(piece, atoms, sites, tuple(label for _, label in dummies)))
    return pieces


def as_cut(core: Piece, others: Sequence[Piece]) -> Cut:
    """Return a core with its substituents in the order of its sites."""
    by_bond = {other.bonds[0]: piece_key(other.mol) for other in others}
    return Cut(piece_key(core.mol), core.atoms, core.sites, tuple(by_bond[bond] for bond in core.bonds))


def piece_key(mol: Chem.Mol) -> str:
    """Return canonical SMILES of a piece, with * for each cut bond."""
    plain = Chem.Mol(mol)
    for atom in plain.GetAtoms():
        atom.SetIsotope(0)
    return Chem.MolToSmiles(plain, isomericSmiles=False)
