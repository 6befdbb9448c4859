"""One molecule is one molecule, whatever file it comes from: atom maps, isotopes, hydrogens, charges of sulfoxides."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor, rdDistGeom, rdForceFieldHelpers

from molrl.data.files import Skipped
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.convert import from_rdkit
from molrl.data.molecules.embedding import parse
from molrl.data.molecules.graphs import constitution, fold_all_hydrogens
from molrl.data.molecules.molecule import Molecule, count_hydrogens
from molrl.data.molecules.perception import perceive_bonds
from molrl.data.molecules.quality import measure, smiles_set, without_stereo
from molrl.data.molecules.records import Record, molecule_of
from molrl.data.molecules.sdf import Block, parse_record
from molrl.data.molecules.smiles import Line, read_smiles
from molrl.data.molecules.standardise import Treatment, standardise
from molrl.data.molecules.unembedded import read_canonical_smiles, read_unembedded
from molrl.rewards.molecules.overlap import Overlap
from molrl.rewards.molecules.plausibility import Plausibility
from molrl.rewards.molecules.qed import QED
from molrl.rewards.molecules.strain import Strain

MOLECULES = ["CCO", "CC(=O)Oc1ccccc1C(=O)O", "C[C@H](N)C(=O)O", "F/C=C/Cl", "c1cc[nH]c1", "C[N+](C)(C)CC(=O)[O-]"]
LABELLED = [
    *("[2H]C([2H])([2H])Oc1ccccc1", "[2H]C", "CC[3H]", "[2H]O[2H]", "[2H]/N=C/C", "[13CH3]C", "C[C@]([2H])(O)F"),
    *("[H+].[O-]c1ccccc1", "[H-].[Na+]", "[H]/N=C(\\C)N", "[H][H]", "C.[2H][2H]", "CC"),
]


def from_smiles(smiles: str) -> Molecule:
    entry = molecule_of(Record(1, "", Line("line 1", smiles, "")), embedded=False)
    assert isinstance(entry, Molecule)
    return entry


def from_block(block: str) -> Molecule:
    entry = molecule_of(Record(1, "", Block(1, 1, block)), embedded=False)
    assert isinstance(entry, Molecule)
    return entry


def spelled(molecule: Molecule) -> str:
    mol, reason = perceive_bonds(molecule)
    assert mol is not None, reason
    return str(Chem.MolToSmiles(mol))


# atom maps


@settings(deadline=None)
@given(
    smiles=st.sampled_from(MOLECULES),
    numbers=st.lists(st.integers(0, 99), min_size=13, max_size=13),
    v3000=st.booleans(),
)
def test_atom_maps_change_nothing(smiles: str, numbers: list[int], v3000: bool) -> None:
    mol = Chem.MolFromSmiles(smiles)
    rdDepictor.Compute2DCoords(mol)
    for atom, number in zip(mol.GetAtoms(), numbers, strict=False):
        atom.SetAtomMapNum(number)
    plain = Chem.CanonSmiles(smiles)
    for molecule in (from_smiles(Chem.MolToSmiles(mol)), from_block(Chem.MolToMolBlock(mol, forceV3000=v3000))):
        assert spelled(molecule) == plain
        assert Chem.MolToSmiles(molecule.graph) == plain
    assert spelled(from_rdkit(mol)) == plain


def test_maps_make_no_molecule_new_or_distinct(tmp_path: Path) -> None:
    path = tmp_path / "x.smi"
    path.write_text("[CH3:1][CH2:2][OH:3] a\n[CH3:3][CH2:2][OH:1] b\nCCO c\n[CH3:7]C[OH:7] d\n")
    texts, _ = read_canonical_smiles(path)
    molecules, _ = read_unembedded(path, "file")
    quality = measure(molecules, perceive_bonds, frozenset({"CCO"}))
    assert texts == ["CCO"] * 4
    assert (quality.uniqueness, quality.novelty) == (0.25, 0.0)
    embedded, _ = read_smiles(["[CH3:1][CH2:2][OH:3]"])
    assert smiles_set(embedded, perceive_bonds) == {"CCO"}


def test_a_stereo_mark_that_only_maps_gave_a_meaning_goes_with_them() -> None:
    assert spelled(from_smiles("C[C@H]([CH3:1])O")) == "CC(C)O"


# isotopes and hydrogens


@settings(deadline=None)
@given(
    smiles=st.sampled_from(LABELLED + MOLECULES),
    chosen=st.sets(st.integers(0, 20)),
    dimensions=st.sampled_from([2, 3]),
    v3000=st.booleans(),
)
def test_whichever_hydrogens_a_record_has_as_atoms_it_is_the_molecule_that_rdkit_reads(
    smiles: str, chosen: set[int], dimensions: int, v3000: bool
) -> None:
    mol = Chem.MolFromSmiles(smiles)
    carriers = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetIdx() in chosen]
    mol = Chem.AddHs(mol, onlyOnAtoms=carriers) if carriers else mol
    rdDepictor.Compute2DCoords(mol)
    if dimensions == 3:
        mol.GetConformer().SetPositions(mol.GetConformer().GetPositions() + np.array([0, 0, 0.5]))
        mol.GetConformer().Set3D(True)
        Chem.RemoveStereochemistry(mol)
    block = Chem.MolToMolBlock(mol, forceV3000=v3000)
    with rdBase.BlockLogs():
        theirs = Chem.MolFromMolBlock(block)
    if dimensions == 3 and theirs.GetNumBonds() == 0:
        return  # the bonds of such records are perceived
    assert spelled(from_block(block)) == Chem.MolToSmiles(theirs)


def test_deuterium_scores_the_same_from_every_file() -> None:
    """RDKit's QED of the SMILES is 0.535565, whose three labels are atoms; that of anisole is 0.531625."""
    smiles = "[2H]C([2H])([2H])Oc1ccccc1"
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    drawing = Chem.MolFromSmiles(smiles)
    rdDepictor.Compute2DCoords(drawing)
    partial = Chem.RemoveHs(mol)  # labels and heavy atoms
    molecules = [from_smiles(smiles), *(from_block(Chem.MolToMolBlock(each)) for each in (mol, drawing, partial))]
    for molecule in molecules:
        assert QED(reader=perceive_bonds).score_one(molecule).value == pytest.approx(0.535565, abs=1e-6)
    plausible, strain = Plausibility(reader=perceive_bonds), Strain(reader=perceive_bonds, steps=200)
    bare = replace(molecules[1], graph=None, charges=None, bonds=None)
    for reward in (plausible, strain):  # these take the heavy atoms and any hydrogens, labelled or not
        assert reward.score_one(molecules[1]).value == pytest.approx(reward.score_one(bare).value, abs=1e-3)
        assert reward.score_one(molecules[3]).reason == ""


def test_a_labelled_molecule_overlaps_with_itself(tmp_path: Path) -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles("[2H]C([2H])([2H])Oc1ccccc1"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    path = tmp_path / "reference.sdf"
    path.write_text(Chem.MolToMolBlock(mol))
    overlap = Overlap(reader=perceive_bonds, reference=str(path), colour_weight=0.5)
    assert overlap.score_one(from_block(path.read_text())).value == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("smiles", "bare"),
    [
        ("[2H]C([2H])([2H])Oc1ccccc1", "COc1ccccc1"),
        *(("[H]/N=C/C", "CC=N"), ("[13CH3]C", "CC"), ("C[C@H](N)O", "CC(N)O"), ("[2H][2H]", "[H][H]"), ("CC", "CC")),
    ],
)
def test_constitution_has_no_labels(smiles: str, bare: str) -> None:
    assert constitution(Chem.MolFromSmiles(smiles)) == bare
    assert without_stereo([Chem.CanonSmiles(smiles)]) == {bare}


def test_counts_hold_every_hydrogen_of_one_heavy_atom_and_refuse_others() -> None:
    assert Chem.MolToSmiles(fold_all_hydrogens(Chem.AddHs(Chem.MolFromSmiles("[2H]CO")))) == "CO"
    for smiles in ("[H+].[O-]C", "C.[H][H]", "[H-].[Na+]"):
        with pytest.raises(ValueError, match="bonded to one heavy atom alone"):
            fold_all_hydrogens(Chem.MolFromSmiles(smiles))
    block = Chem.MolToMolBlock(embedded("[H+].[O-]C"))
    assert parse_record(Block(1, 1, block), "counts", 9) == Skipped(
        "record 1, line 1", "hydrogen that is not bonded to one heavy atom alone"
    )


def test_a_hydrogen_between_two_atoms_counts_on_neither() -> None:
    numbers, positions = np.array([8, 1, 8]), np.array([[0, 0, 0], [1.2, 0, 0], [2.4, 0, 0]], np.float32)
    bridged = Molecule(numbers, positions, bonds=np.array([[0, 1, 1], [1, 2, 1]]))
    with pytest.raises(ValueError, match="hydrogen without a heavy atom"):
        count_hydrogens(bridged)
    single = count_hydrogens(replace(bridged, bonds=np.array([[0, 1, 1], [0, 2, 1]])))
    assert single.hydrogens is not None
    assert single.hydrogens.tolist() == [1, 0]


def embedded(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.MMFFOptimizeMolecule(mol)
    return mol


# queries and bonds of no order


@pytest.mark.parametrize("kind", range(9))
def test_a_bond_without_an_order_is_refused_where_rdkit_has_none(kind: int) -> None:
    block = (
        "\n  test      2D\n\n  3  2  0  0  0  0            999 V2000\n"
        "    0.0000    0.0000    0.0000 C   0  0\n    1.2990    0.7500    0.0000 C   0  0\n"
        f"    2.5981    0.0000    0.0000 C   0  0\n  1  2  1  0\n  2  3  {kind}  0\nM  END\n"
    )
    with rdBase.BlockLogs():
        theirs = Chem.MolFromMolBlock(block, sanitize=False)
    whole = {Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE, Chem.BondType.AROMATIC}
    expected = theirs.GetBondWithIdx(1).GetBondType() in whole
    entry = molecule_of(Record(1, "", Block(1, 1, block)), embedded=False)
    refused = isinstance(entry, Skipped) and entry.reason == "query bond or bond of order zero"
    assert refused == (not expected)


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("CC~CO", "query bond or bond of order zero"),
        ("CC |Z:0|", "query bond or bond of order zero"),
        *(("C*", "dummy or query atom"), ("C[*:1]", "dummy or query atom")),
    ],
)
def test_patterns_are_no_molecules(smiles: str, reason: str) -> None:
    assert parse(smiles) == reason
    assert standardise(smiles, Treatment()) == reason
    entry = molecule_of(Record(1, "", Line("line 1", smiles, "")), embedded=False)
    assert entry == Skipped("line 1", reason)


def test_a_list_of_elements_is_a_query_atom() -> None:
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"), forceV3000=True).replace("V30 1 C ", "V30 1 [C,N] ")
    assert parse_record(Block(1, 1, block), "file", 9, flat=True) == Skipped("record 1, line 1", "dummy or query atom")
    query = Chem.MolFromMolBlock(block)
    assert query.GetAtomWithIdx(0).HasQuery()
    with pytest.raises(ValueError, match="dummy or query atom"):
        from_rdkit(query)


# hypervalent atoms


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize(
    "smiles",
    [
        *("CS(C)=O", "CS(=O)c1ccccc1", "O=S1CCCC1", "CC(C)(C)S(N)=O", "CS(=O)O", "COS(=O)OC", "O=S(Cl)Cl", "O=S=O"),
        *("CSS(C)=O", "C=CS(C)=O", "O=S1C=CC=C1", "O=C1C=CS(=O)C=C1", "CS(C)=S", "CC=S=O", "CS(=O)CC[N+](=O)[O-]"),
        *("CS(C)(=O)=O", "CS(C)(=N)=O", "CP(C)(C)=O", "CP(C)(C)=S", "C=P(C)(C)C", "CI(=O)=O"),
        *("C[N+](C)(C)[O-]", "C[N+](=O)[O-]", "[C-]#[N+]CC", "[O-][Cl+3]([O-])([O-])O"),
    ],
)
def test_geometries_of_hypervalent_atoms_are_the_molecules_of_their_smiles(smiles: str, counted: bool) -> None:
    """Nitrogen has no uncharged form, and RDKit separates the charges of perchlorates in SMILES as well."""
    mol = embedded(smiles)
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    geometry = Molecule(numbers, mol.GetConformer().GetPositions().astype(np.float32))
    read, reason = rdkit_bonds(count_hydrogens(geometry) if counted else geometry)
    assert read is not None, reason
    assert Chem.MolToSmiles(read) == Chem.CanonSmiles(smiles)
