"""PDB and mmCIF files give the same receptor, of their first frame, and none gives gemmi more than it can take."""

import gzip
import time
import warnings
from pathlib import Path

import gemmi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polymer_files import number, pdb_lines, renamed, text_of
from test_chains import members, typed_atoms, write

from molrl.data.molecules import macromolecules
from molrl.data.molecules.chains import read_groups
from molrl.data.molecules.pdb import group_positions, read_pdb
from molrl.rewards.molecules.docking.site import Site

PEPTIDE = pdb_lines("GHPSK", hydrogens=False)
LIGAND = (
    "HETATM   90  C1  LIG A 900      20.000  20.000  20.000  1.00  0.00           C",
    "HETATM   91  O1  LIG A 900      21.400  20.000  20.000  1.00  0.00           O",
)
COMPLEX = text_of(*pdb_lines("GHPSK"), *LIGAND)


def mmcif(pdb: str = COMPLEX) -> gemmi.cif.Document:
    """Return a PDB file as mmCIF, as gemmi writes it for the wwPDB: label_ and auth_ names, entities, sequences."""
    structure = gemmi.read_pdb_string(pdb)
    structure.setup_entities()
    structure.assign_label_seq_id()
    return structure.make_mmcif_document()


def table(names: list[str], document: gemmi.cif.Document) -> str:
    """Return an mmCIF file with nothing but these columns of the atoms, by the column they are filled from."""
    block = document.sole_block()
    columns = [list(block.find_values(f"_atom_site.{name}")) for name in names]
    made = gemmi.cif.Document()
    made.add_new_block("x").init_loop("_atom_site.", names).set_all_values(columns)
    return str(made.as_string())


COMMON = ["id", "type_symbol", "Cartn_x", "Cartn_y", "Cartn_z"]
PARTS = ("atom_id", "comp_id", "asym_id", "seq_id")


def cif_path(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.cif"
    path.write_text(text)
    return path


def quiet(path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return typed(path)


def typed(path: Path) -> list[tuple[str, tuple[float, ...]]]:
    found = read_pdb(path, ligand="LIG")
    return sorted(zip(found.types, map(tuple, found.positions.round(3).tolist()), strict=True))


@pytest.mark.parametrize("suffix", [".cif", ".mmcif", ".CIF", ".cif.gz", ".mmcif.gz"])
def test_the_same_complex_is_the_same_receptor_in_either_format(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "x.pdb").write_text(COMPLEX)
    content = mmcif().as_string().encode()
    path = tmp_path / f"y{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    assert quiet(path) == quiet(tmp_path / "x.pdb")
    assert Site(receptor=str(path), ligand="LIG").box() == Site(receptor=str(tmp_path / "x.pdb"), ligand="LIG").box()


@pytest.mark.parametrize("kinds", [("label",), ("auth",), ("label", "auth")])
def test_either_set_of_names_is_enough(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    (tmp_path / "x.pdb").write_text(COMPLEX)
    document = mmcif()
    loop = document.sole_block().find_mmcif_category("_atom_site.").loop
    for part in PARTS:
        if f"_atom_site.auth_{part}" not in loop.tags:
            loop.add_columns([f"_atom_site.auth_{part}"], ".")
            column = document.sole_block().find_values(f"_atom_site.auth_{part}")
            for row, value in enumerate(document.sole_block().find_values(f"_atom_site.label_{part}")):
                column[row] = value
    names = ["group_PDB", *COMMON, *(f"{kind}_{part}" for kind in kinds for part in PARTS)]
    assert quiet(cif_path(tmp_path, table(names, document))) == quiet(tmp_path / "x.pdb")


def test_a_residue_may_be_named_as_its_authors_do_or_as_the_dictionary_does(tmp_path: Path) -> None:
    document = mmcif()
    names = document.sole_block().find_values("_atom_site.auth_comp_id")
    if not len(names):
        loop = document.sole_block().find_mmcif_category("_atom_site.").loop
        loop.add_columns(["_atom_site.auth_comp_id"], ".")
        names = document.sole_block().find_values("_atom_site.auth_comp_id")
    for row, name in enumerate(document.sole_block().find_values("_atom_site.label_comp_id")):
        names[row] = {"LIG": "DRG", "HIS": "HSD"}.get(name, name)
    path = cif_path(tmp_path, document.as_string())
    assert (group_positions(path, "DRG") == group_positions(path, "LIG")).all()
    assert members(path) == ["GLY", "HIS", "PRO", "SER", "LYS"]


def test_a_polymer_of_the_file_is_a_chain_without_a_bond(tmp_path: Path) -> None:
    lines = [
        renamed(f"{line[:30]}{float(line[30:38]) + 40:8.3f}{line[38:]}", "TPO") if number(line) == 3 else line
        for line in PEPTIDE
    ]
    sequence = "SEQRES   1 A    5  GLY HIS TPO SER LYS"
    whole = mmcif(text_of(sequence, *lines))
    path = cif_path(tmp_path, whole.as_string())
    assert "TPO" in members(path)
    bare = table(["group_PDB", *COMMON, *(f"label_{part}" for part in PARTS), "auth_asym_id", "auth_seq_id"], whole)
    assert "TPO" not in members(cif_path(tmp_path, bare))
    modified = (
        "loop_\n_pdbx_struct_mod_residue.id\n_pdbx_struct_mod_residue.auth_asym_id\n"
        "_pdbx_struct_mod_residue.auth_seq_id\n_pdbx_struct_mod_residue.auth_comp_id\n1 A 3 TPO\n"
    )
    assert "TPO" in members(cif_path(tmp_path, bare + modified))


FRAMES = {
    "END": ("{0}END\n{1}END\n", True),
    "ENDMDL": ("{0}ENDMDL\n{1}ENDMDL\n", False),
    "MODEL": ("MODEL        1\n{0}MODEL        2\n{1}", False),
    "MODEL and ENDMDL": ("MODEL        1\n{0}ENDMDL\nMODEL        2\n{1}ENDMDL\nEND\n", True),
    "TER and END": ("{0}TER\nEND\n{1}TER\nEND\n", True),
}


@pytest.mark.parametrize(("pattern", "known"), FRAMES.values(), ids=FRAMES.keys())
def test_frames_are_not_stacked(tmp_path: Path, pattern: str, known: bool) -> None:
    first = text_of(*PEPTIDE)
    second = text_of(*(f"{line[:30]}{float(line[30:38]) + 0.7:8.3f}{line[38:]}" for line in PEPTIDE))
    path = write(tmp_path, pattern.format(first, second))
    found = typed_atoms(path)
    if known:  # to gemmi, which stops at END and has models
        assert gemmi.read_pdb(str(path))[0].count_atom_sites() == len(PEPTIDE)
    assert found == typed_atoms(write(tmp_path, first))


def test_of_the_models_of_an_mmcif_file_the_first_is_taken(tmp_path: Path) -> None:
    structure = gemmi.read_pdb_string(
        text_of("MODEL        1", *PEPTIDE, "ENDMDL", "MODEL        2", *PEPTIDE, "ENDMDL")
    )
    structure.setup_entities()
    path = cif_path(tmp_path, structure.make_mmcif_document().as_string())
    assert typed_atoms(path) == typed_atoms(write(tmp_path, *PEPTIDE))


@pytest.mark.parametrize("chain", ["A", " "])
def test_names_of_four_letters_are_read_beside_a_chain_or_without(tmp_path: Path, chain: str) -> None:
    lines = [renamed(line, "HISE", record="ATOM") if number(line) == 2 else line for line in PEPTIDE]
    water = "ATOM     95  OH2 TIP3A 901      30.000  20.000  20.000"
    ligand = "HETATM   96  C1  DRG1A 902      35.000  20.000  20.000"
    path = write(tmp_path, *(f"{line[:21]}{chain}{line[22:]}" for line in (*lines, water, ligand)))
    assert [group.name for group in read_groups(path)] == ["GLY", "HISE", "PRO", "SER", "LYS", "TIP3", "DRG1"]
    assert group_positions(path, "DRG1").tolist() == [[35.0, 20.0, 20.0]]


def test_chains_of_two_letters_are_no_part_of_names(tmp_path: Path) -> None:
    lines = [f"{line[:20]}{'BC'}{line[22:]}" for line in PEPTIDE]
    assert [(group.name, group.place[0]) for group in read_groups(write(tmp_path, *lines))][:2] == [
        ("GLY", "BC"),
        ("HIS", "BC"),
    ]


def test_serial_numbers_beyond_their_columns_lose_no_atom(tmp_path: Path) -> None:
    lines = [f"ATOM {row} {line[12:]}" for row, line in enumerate(PEPTIDE, 100_000)]
    assert len(read_groups(write(tmp_path, *lines))) == 5


@pytest.mark.parametrize(
    ("limit", "text", "message"),
    [
        ("MAX_RECEPTOR_ATOMS", COMPLEX, "line 4: more than 3 atoms"),
        ("MAX_RESIDUES", text_of(*PEPTIDE), "more than 3 residues"),
        ("MAX_RESIDUES", "SEQRES   1 A    5  GLY\n" * 4 + COMPLEX, "more than 3 residues"),
        (
            "MAX_LONG_NAMES",
            text_of(*(f"ATOM      1  C1  LIG{x}A   1       1.0     1.0     1.0  " for x in "123456")),
            "names",
        ),
        ("MAX_RECEPTOR_ATOMS", mmcif().as_string(), "more than 3 atoms"),
        ("MAX_RESIDUES", mmcif().as_string(), "more than 3 residues"),
        ("MAX_VALUES", mmcif().as_string(), "line [0-9]+: more than 3 values"),
        ("MAX_LINE", mmcif().as_string(), "line 1: more than 3 characters"),
        ("MAX_BLOCKS", "data_a\n" * 4, "line 4: more than 3 blocks"),
        ("MAX_BLOCKS", "data_a _x.y 1 DATA_b data_c data_d", "line 1: more than 3 blocks"),
    ],
)
def test_sizes_are_checked_before_gemmi_sees_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, text: str, message: str
) -> None:
    path = tmp_path / ("x.cif" if text.lower().startswith("data_") or "_atom_site" in text else "x.pdb")
    path.write_text(text)
    monkeypatch.setattr(macromolecules, limit, 3)
    with pytest.raises(ValueError, match=message):
        read_groups(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("_atom_site.Cartn_x", "_atom_site.q"), "no column _atom_site.Cartn_x"),
        (("_atom_site.type_symbol", "_atom_site.q"), "no column _atom_site.type_symbol"),
        ((" 20 ", " ? "), r"Cartn_x: got '\?', need a number up to 100000 angstrom"),
        ((" 20 ", " nan "), "Cartn_x: got 'nan'"),
        ((" 20 ", " 1e6 "), "Cartn_x: got '1e6'"),
        (("_atom_site.", "_site."), r"no atoms \(_atom_site\)"),
        (("loop_", "loop_ loop_"), "x.cif: "),
    ],
)
def test_a_bad_mmcif_file_is_named_with_what_is_wrong(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    names = ["group_PDB", *COMMON, *(f"label_{part}" for part in PARTS)]
    text = table(names, mmcif())
    path = cif_path(tmp_path, text.replace(*change))
    with pytest.raises(ValueError, match=message):
        read_groups(path)


@pytest.mark.parametrize(("residues", "atoms"), [(10_000, 1), (1, 20_000)])
def test_the_time_of_a_large_file_is_no_square_of_its_size(tmp_path: Path, residues: int, atoms: int) -> None:
    """A residue of another chain for every atom, or one residue of all: some seconds with checks of types."""
    lines = [
        f"ATOM      1  C1  LIG {'ABC'[row % 3]}{row % 9999:4}{'ab'[row // 9999]}   "
        f"{atom % 100:8.3f}{atom // 100 % 100:8.3f}{atom // 10_000:8.3f}"
        for atom in range(residues * atoms)
        for row in [atom // atoms]
    ]
    began = time.process_time()
    assert len(read_groups(write(tmp_path, *lines))) == residues
    assert time.process_time() - began < 60


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_gemmi_counts_is_what_is_read(tmp_path: Path, data: st.DataObject) -> None:
    """Any mixture of residues, waters, ions and ligands, each in any chain: the same groups and heavy atoms."""
    parts = data.draw(st.lists(st.sampled_from(["peptide", "water", "zinc", "ligand"]), min_size=1, max_size=5))
    lines = []
    for place, part in enumerate(parts):
        chain = data.draw(st.sampled_from("ABC"))
        content = {
            "peptide": PEPTIDE,
            "ligand": LIGAND,
            "water": ("HETATM   92  O   HOH A 901      25.000  20.000  20.000  1.00  0.00           O",),
            "zinc": ("HETATM   93 ZN    ZN A 902      28.000  20.000  20.000  1.00  0.00          ZN",),
        }[part]
        lines += [
            f"{one[:21]}{chain}{number(one) + 10 * place:4}{one[26:46]}{float(one[46:54]) + 40 * place:8.3f}{one[54:]}"
            for one in content
        ]
    path = write(tmp_path, *lines)
    model = gemmi.read_pdb(str(path))[0]
    groups = read_groups(path)
    assert sum(len(group.heavy) for group in groups) == model.count_atom_sites()
    assert sorted(group.name for group in groups) == sorted(residue.name for chain in model for residue in chain)
    chains = [
        residue for chain in model for residue in chain if gemmi.find_tabulated_residue(residue.name).is_amino_acid()
    ]
    assert sum(group.in_chain for group in groups) == len(chains)
