"""Chains are what bonds, sequences and records say, and no ligand is part of them, whatever its atoms are called."""

import warnings
from collections import Counter
from pathlib import Path

import gemmi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polymer_files import DNA, is_hydrogen, number, pdb_lines, renamed, text_of

from molrl.data.molecules.chains import MAX_BOND, read_groups
from molrl.data.molecules.neighbours import MAX_CROWD, Grid
from molrl.data.molecules.pdb import group_positions, read_pdb

PEPTIDE = pdb_lines("GHPSK", hydrogens=False)
FILES = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "x.pdb"
    path.write_text(text_of(*lines))
    return path


def typed_atoms(path: Path, **settings: object) -> Counter[tuple[str, tuple[float, ...]]]:
    """Return the types of a receptor's atoms by their places, whatever their order; it must not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_pdb(path, **settings)  # type: ignore[arg-type]
    return Counter(zip(found.types, map(tuple, found.positions.round(3).tolist()), strict=True))


def members(path: Path) -> list[str]:
    return [group.name for group in read_groups(path) if group.in_chain]


def with_third(residue: str, *, names: bool = True, away: float = 0.0) -> list[str]:
    """Return the peptide with its third residue as HETATM lines, without its atom names, or moved away."""
    lines = []
    for row, line in enumerate(PEPTIDE):
        if number(line) == 3:
            name = line[12:16] if names else f" X{row % 100:<2}"
            moved = f"{float(line[30:38]) + away:8.3f}"
            lines.append(renamed(f"{line[:12]}{name}{line[16:30]}{moved}{line[38:]}", residue))
        else:
            lines.append(line)
    return lines


@pytest.mark.parametrize("names", [True, False])
def test_a_residue_in_the_middle_of_a_chain_belongs_to_it_whatever_its_names(tmp_path: Path, names: bool) -> None:
    assert members(write(tmp_path, *with_third("XYZ", names=names))) == ["GLY", "HIS", "XYZ", "SER", "LYS"]


def test_a_group_with_the_names_of_a_backbone_and_no_bond_is_a_ligand(tmp_path: Path) -> None:
    path = write(tmp_path, *with_third("SAH", away=40.0))
    assert members(path) == ["GLY", "HIS", "SER", "LYS"]
    with pytest.warns(UserWarning, match="left out of the receptor: 1 SAH"):
        read_pdb(path)


@pytest.mark.parametrize(
    "record",
    [
        "SEQRES   1 A    5  GLY HIS TPO SER LYS",
        "MODRES 1ABC TPO A    3  THR  PHOSPHOTHREONINE",
    ],
)
def test_sequences_and_modified_residues_are_believed_without_a_bond(tmp_path: Path, record: str) -> None:
    lines = with_third("TPO", away=40.0)
    assert "TPO" in members(write(tmp_path, record, *lines))
    assert "TPO" not in members(write(tmp_path, record.replace(" A ", " B "), *lines))


def test_a_sequence_does_not_make_a_free_amino_acid_part_of_a_chain(tmp_path: Path) -> None:
    path = write(tmp_path, "SEQRES   1 A    5  GLY HIS PRO SER LYS", *with_third("PRO", away=40.0))
    assert members(path) == ["GLY", "HIS", "SER", "LYS"]
    assert group_positions(path, "PRO")[:, 0].min() > 20


def test_a_ligand_is_no_part_of_the_receptor_even_if_bonded_to_it(tmp_path: Path) -> None:
    path = write(tmp_path, *with_third("LIG"))
    assert len(read_pdb(path).types) > len(PEPTIDE)
    with pytest.warns(UserWarning, match="left out of the receptor: 1 LIG"):
        found = read_pdb(path, ligand="LIG")
    assert not {tuple(x) for x in group_positions(path, "LIG")} & {tuple(x) for x in found.positions}
    with pytest.raises(ValueError, match="keep has LIG, which is the ligand"):
        read_pdb(path, keep=["LIG"], ligand="LIG")
    with pytest.raises(ValueError, match="no group has the name SER; besides chains there are none"):
        read_pdb(path, ligand="SER")


def test_an_amino_acid_in_atom_records_can_be_the_ligand_if_it_alone_has_no_bond(tmp_path: Path) -> None:
    """Some programs write ATOM for every group."""
    lines = [*pdb_lines("GPS", hydrogens=False), *with_third("PRO", away=40.0)]
    free = [
        f"ATOM  {line[6:22]}{number(line) + 10:4}{line[26:]}" for line in lines[-len(PEPTIDE) :] if number(line) == 3
    ]
    path = write(tmp_path, *pdb_lines("GPS", hydrogens=False), *free)
    assert group_positions(path, "PRO")[:, 0].min() > 20
    with pytest.warns(UserWarning, match="left out of the receptor: 1 PRO"):
        assert read_pdb(path, ligand="PRO").positions[:, 0].max() < 20


def test_a_sugar_on_a_side_chain_is_no_part_of_the_chain(tmp_path: Path) -> None:
    """The bond of N-glycosylation is one of carbon and nitrogen too, but not of a backbone."""
    lines = pdb_lines("GNG", hydrogens=False)
    nitrogen = next(line for line in lines if line[12:16] == " ND2")
    sugar = renamed(f"{nitrogen[:12]} C1 {nitrogen[16:22]}   9{nitrogen[26:]}", "NAG")
    sugar = f"{sugar[:30]}{float(sugar[30:38]) + 1.45:8.3f}{sugar[38:76]} C"
    assert members(write(tmp_path, *lines, sugar)) == ["GLY", "ASN", "GLY"]


NUCLEOTIDES = {
    "AMBER": ("DA5", "DC", "DG", "DT3"),
    "AMBER, as RNA": ("RA5", "RC", "RG", "RU3"),
    "AMBER, later": ("A5", "C", "G", "U3"),
    "CHARMM": ("ADE", "CYT", "GUA", "THY"),
}


@pytest.mark.parametrize("names", NUCLEOTIDES.values(), ids=NUCLEOTIDES.keys())
def test_nucleotides_have_one_set_of_types_under_all_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    lines = pdb_lines("ACGT", DNA, hydrogens=False)
    other = [renamed(line, names[number(line) - 1], record="ATOM") for line in lines]
    expected = typed_atoms(write(tmp_path, *lines))
    assert sum(kind == "HD" for kind, _ in expected) == 5  # 6 - N of A, 4 - N of C, 1 - N and 2 - N of G, 3 - N of T
    assert typed_atoms(write(tmp_path, *other)) == expected


def test_a_modified_nucleotide_is_linked_by_its_phosphate(tmp_path: Path) -> None:
    lines = [renamed(line, "5CM") if number(line) == 2 else line for line in pdb_lines("ACGT", DNA, hydrogens=False)]
    assert members(write(tmp_path, *lines)) == ["DA", "5CM", "DG", "DT"]


@FILES
@given(data=st.data())
def test_hydrogens_may_be_anywhere_in_the_file(tmp_path: Path, data: st.DataObject) -> None:
    """Also under another number or name, as some programs write them: bonds tell where they belong."""
    lines = pdb_lines("GHPSK")
    heavy, hydrogens = [one for one in lines if not is_hydrogen(one)], [one for one in lines if is_hydrogen(one)]
    moved = data.draw(st.lists(st.sampled_from(hydrogens), unique=True))
    strange = data.draw(st.booleans())
    for one in moved:
        heavy.insert(data.draw(st.integers(0, len(heavy))), f"{one[:22]} 999{one[26:]}" if strange else one)
    rest = [one for one in hydrogens if one not in moved]
    assert typed_atoms(write(tmp_path, *heavy, *rest)) == typed_atoms(write(tmp_path, *lines))


@FILES
@given(data=st.data())
def test_residues_are_complete_and_in_their_most_occupied_locations(tmp_path: Path, data: st.DataObject) -> None:
    """As many atoms as gemmi has after removing alternates."""
    lines, expected = [], set()
    for residue in range(1, 6):
        atoms = [line for line in PEPTIDE if number(line) == residue]
        percent = data.draw(st.integers(51, 99))
        letters = data.draw(st.permutations("AB"))
        split = data.draw(
            st.lists(st.sampled_from(["whole", "both", "major"]), min_size=len(atoms), max_size=len(atoms))
        )
        split[0] = "both"
        for line, kind in zip(atoms, split, strict=True):
            x = float(line[30:38])
            copies = {"whole": [("", 100, x)], "major": [(letters[0], percent, x)]}.get(
                kind, [(letters[0], percent, x), (letters[1], 100 - percent, x + 0.4)]
            )
            expected.add(x)
            for letter, share, place in sorted(copies):
                lines.append(
                    f"{line[:16]}{letter:1}{line[17:30]}{place:8.3f}{line[38:54]}{share / 100:6.2f}{line[60:]}"
                )
    path = write(tmp_path, *lines)
    found = [atom for group in read_groups(path) for atom in group.heavy]
    structure = gemmi.read_pdb(str(path))
    structure.remove_alternative_conformations()
    assert len(found) == structure[0].count_atom_sites() == len(PEPTIDE)
    assert {atom.position[0] for atom in found} == expected


def test_an_atom_that_is_not_in_the_most_occupied_location_is_taken_from_another(tmp_path: Path) -> None:
    lines = []
    for line in PEPTIDE:
        letters = {(" CB", 4): "AB", (" OG", 4): "A"}.get((line[12:15], number(line)), " ")
        lines += [
            f"{line[:16]}{letter}{line[17:54]}{0.7 if letter == 'B' else 0.3:6.2f}{line[60:]}" for letter in letters
        ]
    assert sum(len(group.heavy) for group in read_groups(write(tmp_path, *lines))) == len(PEPTIDE)


def test_of_two_residues_at_one_place_the_more_occupied_is_there(tmp_path: Path) -> None:
    """Microheterogeneity: a sixth of a threonine and the rest a serine."""
    lines = []
    for line in PEPTIDE:
        if number(line) == 4:
            lines += [f"{line[:16]}A{line[17:54]}{0.83:6.2f}{line[60:]}"]
            lines += [f"{line[:16]}BTHR{line[20:54]}{0.17:6.2f}{line[60:]}"]
        else:
            lines.append(line)
    assert members(write(tmp_path, *lines)) == ["GLY", "HIS", "PRO", "SER", "LYS"]


def test_coinciding_atoms_are_refused_with_their_names(tmp_path: Path) -> None:
    path = write(tmp_path, *PEPTIDE, *PEPTIDE)
    with pytest.raises(ValueError, match=r"x.pdb: N of GLY A 1 and N of GLY A 1 coincide: 0\.000 angstrom apart"):
        read_pdb(path)


def test_a_crowd_that_would_make_every_search_long_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, *PEPTIDE, *[renamed(PEPTIDE[0], "LIG")] * (MAX_CROWD + 1))
    with pytest.raises(ValueError, match=f"x.pdb: more than {MAX_CROWD} atoms within"):
        read_pdb(path)


@given(
    st.lists(st.tuples(*[st.floats(-6, 6)] * 3), max_size=30),
    st.tuples(*[st.floats(-7, 7)] * 3),
    st.floats(0.1, MAX_BOND),
)
def test_a_grid_finds_what_a_search_of_all_points_finds(
    points: list[tuple[float, float, float]], place: tuple[float, float, float], radius: float
) -> None:
    found = list(Grid(points, MAX_BOND).near(place, radius))
    assert found == [
        row
        for row, point in enumerate(points)
        if sum((a - b) ** 2 for a, b in zip(point, place, strict=True)) ** 0.5 < radius
    ]


@pytest.mark.parametrize(("name", "residue", "element"), [("CD", "PRO", "C"), ("HG", "SER", "H"), ("NE", "ARG", "N")])
def test_names_out_of_their_columns_are_no_metals_in_common_residues(
    tmp_path: Path, name: str, residue: str, element: str
) -> None:
    line = f"ATOM      1 {name:4} {residue} A   1       1.000   1.000   1.000"
    assert [atom.element for group in read_groups(write(tmp_path, line)) for atom in group.atoms] == [element]
