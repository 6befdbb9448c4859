"""Cores and substituents of a ligand: the pieces that cuts of single bonds outside rings leave.

Matching molecular series are ligands with the same core and a different rest (Wawer and Bajorath 2011, J. Med. Chem.
54, 2944); bonds are cut as for matched pairs (Hussain and Rea 2010, J. Chem. Inf. Model. 50, 339). All cuts are tried,
so that no search ends at a time limit and the result is the same on every machine.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from rdkit import Chem

from molrl.data.molecules.graphs import constitution
from molrl.data.molecules.neutralise import neutral

MAX_CUTS = 2  # attachment points of a core


@dataclass(frozen=True)
class Cut:
    """A core of a ligand.

    Attributes:
        core: canonical SMILES, neutral and without stereo marks, with * for each substituent.
        atoms: of the ligand that are the core, in its order.
        sites: atoms of the ligand, in the core, that a substituent is bonded to, in its order.
    """

    core: str
    atoms: tuple[int, ...]
    sites: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a cut molecule.

    Attributes:
        mol: the piece with a dummy atom for each cut bond.
        atoms: of the molecule, ascending.
        sites: its atoms that a bond was cut at, ascending, and `bonds` those bonds, as numbers of the molecule.
    """

    mol: Chem.Mol
    atoms: tuple[int, ...]
    sites: tuple[int, ...]
    bonds: tuple[int, ...]


def molecule_key(mol: Chem.Mol) -> str:
    """Return the SMILES that molecules are compared by: canonical, neutral, without stereo marks."""
    return constitution(neutral(mol))


def cuts(mol: Chem.Mol, low: float, high: float) -> Iterator[Cut]:
    """Yield the cores of a ligand with a share of its heavy atoms in [low, high].

    A core has one or two sites, on different atoms; a cut of two bonds leaves a substituent at each end. Of cores with
    the same SMILES, as symmetric ligands have them, all are yielded.

    Args:
        mol: heavy atoms alone, in the protonation state of its file.
    """
    bare = neutral(mol)
    count, bonds = bare.GetNumAtoms(), cuttable_bonds(bare)
    for number in range(1, MAX_CUTS + 1):
        for chosen in combinations(bonds, number):
            for core in cut_into_pieces(bare, chosen):
                middle = len(core.bonds) == len(set(core.sites)) == number
                if middle and low * count <= len(core.atoms) <= high * count:
                    yield Cut(piece_key(core.mol), core.atoms, core.sites)


def cuttable_bonds(mol: Chem.Mol) -> list[int]:
    """Return the single bonds outside rings between uncharged heavy atoms, so that no nitro group is cut."""
    return [
        bond.GetIdx()
        for bond in mol.GetBonds()
        if bond.GetBondType() == Chem.BondType.SINGLE
        and not bond.IsInRing()
        and not any(atom.GetFormalCharge() for atom in (bond.GetBeginAtom(), bond.GetEndAtom()))
    ]


def cut_into_pieces(mol: Chem.Mol, bonds: Sequence[int]) -> list[Piece]:
    """Cut bonds of a molecule, in the order of the first atoms of the pieces."""
    count, pieces = mol.GetNumAtoms(), []
    cut = Chem.FragmentOnBonds(mol, bonds, dummyLabels=[(bond + 1, bond + 1) for bond in bonds])
    mapping: list[tuple[int, ...]] = []
    mols = Chem.GetMolFrags(cut, asMols=True, sanitizeFrags=False, fragsMolAtomMapping=mapping)
    for piece, indices in zip(mols, mapping, strict=True):
        dummies = (atom for atom in piece.GetAtoms() if not atom.GetAtomicNum() and atom.GetIsotope())
        ends = sorted((indices[atom.GetNeighbors()[0].GetIdx()], atom.GetIsotope() - 1) for atom in dummies)
        atoms = tuple(index for index in indices if index < count)
        pieces.append(Piece(piece, atoms, tuple(site for site, _ in ends), tuple(bond for _, bond in ends)))
    return pieces


def piece_key(mol: Chem.Mol) -> str:
    """Return canonical SMILES of a piece, with * for each cut bond."""
    plain = Chem.Mol(mol)
    for atom in plain.GetAtoms():
        atom.SetIsotope(0)
    return Chem.MolToSmiles(plain, isomericSmiles=False)


def substituents_of(mol: Chem.Mol, core: Collection[int]) -> tuple[str, ...]:
    """Return the substituents of a core, neutral SMILES with *, in the order of their sites.

    None where one of them has two bonds to the core, or the core is all there is.
    """
    inside, bare = set(core), neutral(mol)
    ends = {bond.GetIdx(): (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in bare.GetBonds()}
    bonds = [bond for bond, (one, other) in ends.items() if (one in inside) != (other in inside)]
    if not bonds:
        return ()
    pieces = cut_into_pieces(bare, bonds)
    middle = next(piece for piece in pieces if inside.issuperset(piece.atoms))
    others = {piece.bonds: piece_key(piece.mol) for piece in pieces if piece is not middle}
    if len(others) < len(bonds):
        return ()
    return tuple(others[(bond,)] for bond in middle.bonds)
