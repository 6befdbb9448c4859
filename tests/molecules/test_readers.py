"""Laws of the file readers: a bad record costs only itself, and every loss is reported with its place and reason."""

import csv
import gzip
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdDistGeom

from molrl.data.files import MAX_LINE, Skipped, text_lines
from molrl.data.molecules.bonds import Reading, edm_table, rdkit_bonds
from molrl.data.molecules.entries import keep_elements
from molrl.data.molecules.files import read, stream
from molrl.data.molecules.molecule import Hydrogens, Molecule, Molecules, count_hydrogens
from molrl.data.molecules.pyg import load_pyg
from molrl.data.molecules.qm9 import count_all_hydrogens, load_qm9
from molrl.data.molecules.records import molecule_of, records
from molrl.data.molecules.sdf import (
    MAX_RECORD_LINES,
    MAX_RECORD_SIZE,
    blocks,
    read_sdf,
    replace_properties,
    stream_sdf,
    write_sdf,
)
from molrl.data.molecules.smiles import Line, read_smiles, stream_smiles
from molrl.data.molecules.standardise import Treatment
from molrl.data.molecules.xyz import read_xyz, stream_xyz

DATA = Path(__file__).parents[1] / "data"
FORMATS = pytest.mark.parametrize("suffix", [".sdf", ".mol", ".xyz", ".smi", ".txt", ".csv", ".sdf.gz", ".xyz.gz"])


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def names(entries: Iterator[Molecule | Skipped]) -> list[str]:
    return [entry.reason if isinstance(entry, Skipped) else entry.name for entry in entries]


# SDF


def test_every_broken_record_is_named_and_the_next_one_is_read() -> None:
    molecules, report = read_sdf(DATA / "broken.sdf")
    assert [molecule.name for molecule in molecules] == ["water", "methanol"]
    assert report.count == 2
    assert list(report.skipped) == [
        Skipped("record 2, line 15", "not a readable mol block"),
        Skipped("record 3, line 22", "non-finite positions"),
        Skipped("record 4, line 31", "no M  END line"),
        Skipped("record 5, line 37", "valence or aromaticity"),
        Skipped("record 6, line 54", "no 3D coordinates"),
        Skipped("record 7, line 63", "dummy or query atom"),
        Skipped("record 8, line 72", "no atoms"),
    ]
    assert "2 molecules, 7 skipped" in str(report)


def test_records_come_in_the_order_of_the_file_whatever_became_of_them() -> None:
    kinds = [isinstance(entry, Molecule) for entry in stream_sdf(DATA / "broken.sdf")]
    assert kinds == [True, *[False] * 7, True]


@pytest.mark.parametrize("suffix", [".sdf", ".sdf.gz", ".SDF"])
def test_line_ends_byte_order_mark_and_compression_change_nothing(tmp_path: Path, suffix: str) -> None:
    content = b"\xef\xbb\xbf" + (DATA / "broken.sdf").read_bytes().replace(b"\n", b"\r\n")
    assert names(stream(write(tmp_path / f"x{suffix}", content))) == names(stream_sdf(DATA / "broken.sdf"))


def test_a_property_that_is_not_utf8_costs_nothing(tmp_path: Path) -> None:
    content = (DATA / "broken.sdf").read_bytes().replace(b"first", b"\xff\xfe \xe9t\xe9").replace(b"methanol", b"m\xe9")
    assert names(stream_sdf(write(tmp_path / "x.sdf", content)))[::8] == ["water", "m\ufffd"]


def test_hydrogens_are_atoms_or_counts_as_requested() -> None:
    as_file, _ = read_sdf(DATA / "broken.sdf")
    counted, _ = read_sdf(DATA / "broken.sdf", "counts")
    with_atoms, report = read_sdf(DATA / "broken.sdf", "atoms")
    assert [molecule.numbers.tolist() for molecule in as_file] == [[8, 1, 1], [6, 8]]
    assert as_file[0].hydrogens is None
    assert [hydrogens.tolist() for molecule in counted if (hydrogens := molecule.hydrogens) is not None] == [
        [2],
        [3, 1],
    ]
    assert [molecule.name for molecule in with_atoms] == ["water"]
    assert report.reasons()["hydrogens without positions"] == 1


def test_a_file_without_end_is_read_to_the_cap(tmp_path: Path) -> None:
    record = (DATA / "broken.sdf").read_bytes().split(b"$$$$\n")[0] + b"$$$$\n"
    path = write(tmp_path / "x.sdf.gz", record * 50)
    assert names(stream_sdf(path, max_records=3)) == [*["water"] * 3, "the rest is not read: more than 3 records"]
    assert names(stream_sdf(path, max_bytes=3 * len(record) + 5))[2:] == [
        "water",
        f"the rest is not read: more than {3 * len(record) + 5} bytes",
    ]
    assert names(stream_sdf(path, max_heavy=0)) == ["more than 0 heavy atoms"] * 50


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path) -> None:
    water = (DATA / "broken.sdf").read_bytes().split(b"$$$$\n")[0]
    path = write(tmp_path / "x.sdf.gz", water + b"> <long>\n" + b"x" * (1 << 22) + b"\n\n$$$$\n" + water)
    assert max(map(len, text_lines(path))) == MAX_LINE
    assert names(stream_sdf(path)) == ["water", "water"]
    assert names(stream_sdf(path, max_bytes=1 << 21)) == ["the rest is not read: more than 2097152 bytes"]


def test_a_record_without_end_is_not_kept_in_memory(tmp_path: Path) -> None:
    water = (DATA / "broken.sdf").read_bytes().split(b"$$$$\n")[0]
    path = write(tmp_path / "x.sdf", water + b"x\n" * (MAX_RECORD_LINES + 1) + b"$$$$\n" + water)
    assert max(len(block.text) for block in blocks(path)) < 2000
    assert names(stream_sdf(path)) == [f"more than {MAX_RECORD_LINES} lines", "water"]
    path = write(tmp_path / "y.sdf", water + (b"x" * 80_000 + b"\n") * 110 + b"$$$$\n" + water)
    assert names(stream_sdf(path)) == [f"more than {MAX_RECORD_SIZE} characters", "water"]


def test_properties_are_added_to_a_record_and_replace_those_of_their_name() -> None:
    water = next(blocks(DATA / "broken.sdf")).text
    first = replace_properties(water, {"score": 1, "note": "a\n$$$$\n> <b>"})
    assert first.startswith(water.partition("M  END")[0])
    assert first.endswith(">  <score>\n1\n\n>  <note>\na $$$$ > <b>\n\n$$$$\n")
    again = replace_properties(first.removesuffix("$$$$\n"), {"score": 2, "note": ""})
    assert again == first.replace("\n1\n", "\n2\n").replace(">  <note>\na $$$$ > <b>\n\n", "")


def test_a_compressed_file_cut_short_keeps_what_came_before(tmp_path: Path) -> None:
    record = (DATA / "broken.sdf").read_bytes().split(b"$$$$\n")[0] + b"$$$$\n"
    noise = np.random.default_rng(0).integers(97, 122, 60_000, dtype=np.uint8).tobytes()
    whole = gzip.compress(record * 3 + b"\n".join(noise[start : start + 60] for start in range(0, 60_000, 60)))
    path = tmp_path / "x.sdf.gz"
    path.write_bytes(whole[: len(whole) // 2])
    entries = names(stream_sdf(path))
    assert entries[:3] == ["water"] * 3
    assert entries[3].startswith("the rest cannot be read: ")


@pytest.mark.parametrize("setting", ["atoms", "counts"])
def test_written_molecules_come_back(tmp_path: Path, setting: Hydrogens) -> None:
    smiles = ["CC(=O)Nc1ccccc1", "C[N+](=O)[O-]", "OCC#N", "N", "O=C=O"]
    found, _ = read_smiles(smiles, setting)
    path = tmp_path / "x.sdf.gz"
    assert write_sdf(found, path, rdkit_bonds, [{"score": 0.5}] * 5) == 5
    back, report = read_sdf(path, setting)
    assert report.skipped == ()
    for one, other in zip(found, back, strict=True):
        assert other.name == one.name
        assert other.numbers.tolist() == one.numbers.tolist()
        np.testing.assert_allclose(other.positions, one.positions, atol=1e-4)
        assert (one.hydrogens is None) == (setting == "atoms")
        np.testing.assert_array_equal(other.hydrogens, one.hydrogens)
        mol, _ = rdkit_bonds(other)
        assert mol is not None
        assert Chem.MolToSmiles(mol) == Chem.CanonSmiles(one.name)
    assert gzip.decompress(path.read_bytes()).count(b">  <score>\n0.5\n") == 5


def test_unreadable_molecules_are_written_without_bonds_and_text_cannot_forge_records(tmp_path: Path) -> None:
    (ethane,), _ = read_smiles(["CC"])
    crowded = replace(ethane, positions=ethane.positions * 0.3, graph=None, name="$$$$\n\n$$$$")
    wild = Molecule(np.array([0, -5, 300]), np.full((3, 3), np.nan, np.float32), name="> <x>")
    empty = Molecule(np.zeros(0, np.int64), np.zeros((0, 3), np.float32))
    path = tmp_path / "x.sdf"
    properties = [{"text": "a\n\n$$$$\nb", "a>b\n": 1}, {}, {}, {}]
    assert write_sdf([crowded, wild, empty, ethane], path, edm_table, properties) == 1
    entries = list(stream_sdf(path))
    assert len(entries) == 4
    assert isinstance(entries[3], Molecule)
    assert path.read_text().count("<unreadable>") == 3


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.sdf", b"old")
    (ethane,), _ = read_smiles(["CC"])

    def failing(molecule: Molecule) -> Reading:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sdf([ethane], path, failing)
    assert [file.name for file in tmp_path.iterdir()] == ["x.sdf"]
    assert path.read_bytes() == b"old"
    with pytest.raises(ValueError, match="properties: got 2"):
        write_sdf([ethane], path, edm_table, [{}, {}])


# XYZ


def test_a_broken_frame_is_named_and_the_next_one_is_read() -> None:
    molecules, report = read_xyz(DATA / "frames.xyz")
    assert [molecule.numbers.tolist() for molecule in molecules] == [[8, 1, 1], [18], [6, 8]]
    assert molecules[2].positions.tolist() == [[0, 0, 0], [np.float32(1.128), np.float32(-1e-7), 0]]
    assert list(report.skipped) == [
        Skipped("frame 2, line 6", "expected an element and three coordinates in line 9"),
        Skipped("frame 4, line 12", "non-finite positions in line 15"),
        Skipped("frame 6, line 21", "the file ends inside the frame"),
    ]


def test_frames_give_hydrogen_counts_on_request() -> None:
    water, *rest = read_xyz(DATA / "frames.xyz", "counts")[0]
    assert water.numbers.tolist() == [8]
    assert water.hydrogens is not None
    assert water.hydrogens.tolist() == [2]
    assert len(rest) == 2


@pytest.mark.parametrize("count", [b"0", b"-1", b"99999999999999999999", b"1e3", b"three", b"\xd9\xa3"])
def test_counts_that_lie_are_refused(tmp_path: Path, count: bytes) -> None:
    path = write(tmp_path / "x.xyz", count + b"\nname\nC 0 0 0\n1\nname\nC 0 0 0\n")
    assert names(stream_xyz(path))[1:] == ["name"]


def test_frames_are_read_to_the_caps(tmp_path: Path) -> None:
    path = write(tmp_path / "x.xyz", b"2\n\nC 0 0 0\nC 9e9 0 0\n" + b"2\nok\nC 0 0 0\nC 1 0 0\n" * 5)
    assert names(stream_xyz(path))[:2] == ["positions out of range in line 4", "ok"]
    assert names(stream_xyz(path, max_heavy=1))[1:] == ["more than 1 heavy atoms"] * 5
    assert names(stream_xyz(path, max_records=2))[1:] == ["ok", "the rest is not read: more than 2 frames"]


# SMILES


def test_smiles_become_relaxed_geometries_or_a_reason(tmp_path: Path) -> None:
    content = (
        b"smiles name\nCCO ethanol\n# comment\n\nnonsense x\nC*\nC.C\nF[Fe](F)(F)(F)(F)(F)F\nC\xff\n"
        + b"C" * 600
        + b"\nc1ccccc1\n"
    )
    molecules, report = read_smiles(write(tmp_path / "x.smi", content))
    assert [molecule.name for molecule in molecules] == ["ethanol", "c1ccccc1"]
    assert [tuple(entry) for entry in report.skipped] == [
        ("line 5", "not a SMILES"),
        ("line 6", "dummy or query atom"),
        ("line 7", "several fragments"),
        ("line 8", "no force field"),
        ("line 9", "not a SMILES"),
        ("line 10", "more than 512 heavy atoms"),
    ]
    ring = molecules[1].positions[:6]
    assert np.linalg.norm(ring - np.roll(ring, 1, axis=0), axis=1) == pytest.approx(1.39, abs=0.02)


def test_a_table_names_its_column(tmp_path: Path) -> None:
    table = write(tmp_path / "x.csv", b'\xef\xbb\xbfid,SMILES,note\r\nfirst,CCO,"a, b"\r\nshort\r\nsecond,C#N,\r\n')
    assert names(stream_smiles(table)) == ["first", "not enough columns", "second"]
    with pytest.raises(ValueError, match=r"no column named smiles or canonical_smiles, got: a, b; .* smiles_column="):
        read_smiles(write(tmp_path / "y.csv", b"a,b\n1,2\n"))
    with pytest.raises(ValueError, match=r"z\.csv: the header is not a CSV row: new-line character"):
        read_smiles(write(tmp_path / "z.csv", b"name\rsmiles,a\nb,N\n"))


@pytest.mark.parametrize(
    ("header", "column", "found"),
    [
        ("id,Canonical_SMILES", None, "CCO"),
        ("canonical_smiles,smiles", None, "CCO"),
        ("smiles,structure", "structure", "CCO"),
        ("smiles,Structure", "structure", "CCO"),
        ("smiles;structure", "structure", "CCO"),
        ("smiles\tSTRUCTURE", "structure", "CCO"),
        ("structure,STRUCTURE", "STRUCTURE", "CCO"),
        ('"a, b, c";smiles', None, "CCO"),
        ('"id";"smiles";"a, b, c, d, e"', None, "CCO"),
        ('id;smiles;"IC50, nM, mean, n=3, ref"', None, "CCO"),
        ("id;smiles;IC50, nM, mean, n=3, ref", None, "CCO"),
    ],
)
def test_the_column_of_a_table_is_the_named_one_or_guessed(
    tmp_path: Path, header: str, column: str | None, found: str
) -> None:
    separator = next(mark for mark in ";\t," if mark in header)
    path = write(tmp_path / "x.csv", f"\n{header}\n1{separator}CCO\n".encode())
    (record,) = records(path, column)
    assert isinstance(record.content, Line)
    assert (record.line, record.content.smiles) == (3, found)


@settings(deadline=None)
@given(
    cells=st.lists(st.text('abc ,;\t"=3', min_size=1, max_size=12), max_size=4),
    place=st.integers(0, 4),
    delimiter=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_the_tables_that_python_writes_are_read(
    cells: list[str], place: int, delimiter: str, quoting: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "x.csv"
    header, row = [*cells], [*cells]
    header.insert(place, "smiles")
    row.insert(place, "OCC")
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter, quoting=quoting).writerows([header, row])
    (record,) = records(path)
    assert isinstance(record.content, Line)
    assert record.content.smiles == "OCC"


@pytest.mark.parametrize(
    "header", ["smiles name", "SMILES", "canonical_smiles\tid", "smi", "isomeric_smiles", "SMILES_string id", "#smiles"]
)
@pytest.mark.parametrize("before", ["", "\n", "# made by hand\n\n"])
def test_a_header_is_no_smiles(tmp_path: Path, header: str, before: str) -> None:
    (record,) = records(write(tmp_path / "x.smi", f"{before}{header}\nCCO ethanol\n".encode()))
    assert record.name == "ethanol"


def test_a_header_is_the_first_line_only_and_no_element(tmp_path: Path) -> None:
    path = write(tmp_path / "x.smi", b"[Sm] samarium\nsmiles again\nCCO ethanol\n")
    assert [record.name for record in records(path)] == ["samarium", "again", "ethanol"]


def test_a_column_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", b"smiles,b\nC,2\n")
    with pytest.raises(ValueError, match="no column named 'a', got: smiles, b"):
        records(path, "a")
    with pytest.raises(ValueError, match=r"smiles_column=a: only a \.csv file has columns"):
        records(write(tmp_path / "x.smi", b"C\n"), "a")


# records one at a time


@pytest.mark.parametrize(
    ("name", "lines"),
    [("broken.sdf", [1, 15, 22, 31, 37, 54, 63, 72, 78]), ("frames.xyz", [1, 6, 9, 12, 17, 21])],
)
def test_every_record_knows_its_line(name: str, lines: list[int]) -> None:
    assert [record.line for record in records(DATA / name)] == lines


def test_records_are_the_molecules_that_a_stream_has() -> None:
    for name in ("broken.sdf", "frames.xyz"):
        one_by_one = (molecule_of(record, embedded=False) for record in records(DATA / name))
        for entry, expected in zip(one_by_one, stream(DATA / name), strict=True):
            if isinstance(expected, Skipped) and expected.reason == "no 3D coordinates":
                assert isinstance(entry, Molecule)
                assert not entry.positions.any()
            else:
                assert names(iter([entry])) == names(iter([expected]))


def test_a_drawing_is_a_graph_and_gets_a_geometry_on_request(tmp_path: Path) -> None:
    mol = Chem.MolFromSmiles("OCC#N")
    rdDepictor.Compute2DCoords(mol)
    (record,) = records(write(tmp_path / "x.sdf", Chem.MolToMolBlock(mol).encode()))
    for embedded in (False, True):
        entry = molecule_of(record, embedded=embedded)
        assert isinstance(entry, Molecule)
        assert bool(entry.positions.any()) is embedded
        read, _ = edm_table(entry)
        assert read is not None
        assert Chem.MolToSmiles(read) == Chem.CanonSmiles("OCC#N")


def test_records_of_a_long_file_are_not_kept(tmp_path: Path) -> None:
    water = (DATA / "broken.sdf").read_bytes().split(b"$$$$\n")[0]
    path = write(tmp_path / "x.sdf.gz", (water + b"> <long>\n" + b"x" * 20_000 + b"\n\n$$$$\n") * 500)
    tracemalloc.start()
    assert sum(1 for _ in records(path)) == 500
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20 < 500 * 20_000 / 4


def test_a_molecule_does_not_depend_on_its_neighbours_or_on_the_number_of_workers() -> None:
    (alone,), _ = read_smiles(["OCC1CO1"])
    (_, beside), _ = read_smiles(["CCC", "OCC1CO1"])
    found, report = read_smiles(["CCC", "bad", "OCC1CO1"], workers=2)
    assert report.skipped == (Skipped("SMILES 2", "not a SMILES"),)
    for other in (beside, found[1]):
        np.testing.assert_array_equal(other.positions, alone.positions)


def test_the_cache_returns_what_was_computed_and_survives_damage(tmp_path: Path) -> None:
    smiles = ["CCO", "bad", "c1ccncc1", "N"]
    settings: tuple[Hydrogens, ...] = ("atoms", "counts")
    for setting in settings:
        fresh = list(stream_smiles(smiles, setting))
        for damage in (None, b"", b"PK nonsense"):
            if damage is not None:
                for file in tmp_path.iterdir():
                    file.write_bytes(damage)
            for entry, expected in zip(stream_smiles(smiles, setting, cache=tmp_path), fresh, strict=True):
                if isinstance(expected, Skipped):
                    assert entry == expected
                else:
                    assert isinstance(entry, Molecule)
                    np.testing.assert_array_equal(entry.positions, expected.positions)
                    assert entry.numbers.tolist() == expected.numbers.tolist()
                    assert Chem.MolToSmiles(entry.graph) == Chem.MolToSmiles(expected.graph)
    assert len(list(tmp_path.iterdir())) == 1  # both settings share one geometry


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    folder = write(tmp_path / "file", b"in the way")
    with pytest.warns(UserWarning, match="not cached"):
        molecules, _ = read_smiles(["CC"], cache=folder)
    assert len(molecules) == 1


def test_progress_counts_every_record() -> None:
    calls: list[tuple[int, int]] = []
    read_smiles(["C", "bad", "N"], progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_hydrogen_alone_has_no_heavy_atoms() -> None:
    assert names(stream_smiles(["[H][H]"], "counts")) == ["no heavy atoms"]


# QM9


@pytest.fixture
def qm9(tmp_path: Path) -> Path:
    """Write an archive of water, molecular hydrogen, methane with a stray hydrogen, and formaldehyde."""
    sizes = [3, 2, 5, 4]
    numbers = [8, 1, 1, 1, 1, 6, 1, 1, 1, 1, 1, 6, 8, 1]
    positions = [[0, 0, 117], [0, 757, -469], [0, -757, -469], [0, 0, 0], [0, 0, 740]]
    positions += [[0, 0, 0], [629, 629, 629], [-629, -629, 629], [-629, 629, -629], [9000, 0, 0]]
    positions += [[940, 0, -590], [0, 0, 0], [0, 0, 1200], [-940, 0, -590]]
    path = tmp_path / "qm9.npz"
    np.savez(
        path,
        index=np.array([3, 5, 8, 13], np.int32),
        num_atoms=np.array(sizes, np.uint8),
        atomic_numbers=np.array(numbers, np.uint8),
        positions=np.array(positions, np.int16),
    )
    return path


def test_packed_geometries_come_in_both_settings(qm9: Path) -> None:
    whole, report = load_qm9(qm9)
    assert (len(whole), report.skipped) == (4, ())
    assert whole[0].positions[1].tolist() == pytest.approx([0, 0.757, -0.469])
    counted, report = load_qm9(qm9, "counts")
    assert [tuple(entry) for entry in report.skipped] == [
        ("qm9 5", "no heavy atoms"),
        ("qm9 8", "hydrogen without a heavy atom"),
    ]
    assert [molecule.numbers.tolist() for molecule in counted] == [[8], [6, 8]]
    assert [hydrogens.tolist() for molecule in counted if (hydrogens := molecule.hydrogens) is not None] == [
        [2],
        [2, 0],
    ]


def test_many_molecules_are_counted_as_each_one_is() -> None:
    found, _ = read_smiles(["CCO", "c1ccncc1", "N", "CC(=O)NC", "C#N", "OCC1CO1"])
    counted = Molecules.pack(map(count_hydrogens, found))
    for one, other in zip(counted, (count_hydrogens(molecule) for molecule in found), strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    at_once, reasons = count_all_hydrogens(Molecules.pack(found))
    assert reasons == {}
    assert at_once.names == counted.names
    np.testing.assert_array_equal(at_once.hydrogens, counted.hydrogens)
    np.testing.assert_array_equal(at_once.positions, counted.positions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": None}, "keys missing: positions"),
        ({"positions": np.zeros((3, 3), np.int16)}, r"positions: got shape \(3, 3\), expected \(14, 3\)"),
        ({"num_atoms": np.array([3, 2, 5], np.uint8)}, "index: got shape"),
        ({"atomic_numbers": np.zeros(14)}, "atomic_numbers: got float64"),
        (
            {"index": np.array([{}, 1, 2, 3], dtype=object)},
            r"qm9\.npz: cannot be read: got index as an array of pickled Python objects, expected .*index, num_atoms, ",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(qm9: Path, change: dict[str, object], message: str) -> None:
    with np.load(qm9) as file:
        arrays = {**file, **change}
    np.savez(qm9, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=message):
        load_qm9(qm9)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nonsense", b"\x80\x04N."])
def test_a_damaged_archive_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"qm9\.npz: cannot be read"):
        load_qm9(write(tmp_path / "qm9.npz", content))


@pytest.mark.parametrize(
    "store", [lambda path: path.write_bytes(pickle.dumps({"index": [1]})), lambda path: np.save(path.open("wb"), [1.0])]
)
def test_a_pickle_and_a_single_array_are_told_what_is_expected(tmp_path: Path, store: Callable[[Path], object]) -> None:
    store(tmp_path / "qm9.npz")
    with pytest.raises(
        ValueError, match=r"got no \.npz archive or a damaged one, expected .* index, num_atoms, .* nothing pickled"
    ):
        load_qm9(tmp_path / "qm9.npz")


@pytest.mark.slow  # importing torch_geometric takes seconds
def test_pyg_gives_the_same_molecules(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Data
    from torch_geometric.datasets import QM9

    water = Data(
        z=torch.tensor([8, 1, 1]),
        pos=torch.tensor([[0, 0, 0.117], [0, 0.757, -0.469], [0, -0.757, -0.469]]),
        name="gdb_3",
    )
    (tmp_path / "raw").mkdir()
    (tmp_path / "processed").mkdir()
    for file in ("gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"):
        (tmp_path / "raw" / file).touch()  # so that nothing is downloaded
    QM9.save([water, water], str(tmp_path / "processed" / "data_v3.pt"))
    molecules, report = load_pyg("QM9", tmp_path, {}, "counts")
    assert report.count == 2
    assert molecules[1].name == "gdb_3"
    assert molecules.hydrogens is not None
    assert molecules.hydrogens.tolist() == [2, 2]


# all formats


@pytest.mark.parametrize("treatment", [Treatment("largest"), Treatment("refuse"), Treatment(neutralise=True)])
def test_fragments_and_charges_need_bonds(tmp_path: Path, treatment: Treatment) -> None:
    for path in (DATA / "frames.xyz", tmp_path / "qm9.npz"):
        with pytest.raises(ValueError, match=r"files do not have; allowed: fragments=keep without neutralise"):
            stream(path, treatment=treatment)
    bare = Chem.MolToMolBlock(Chem.MolFromSmiles("O.O"))
    path = write(tmp_path / "x.sdf", three_dimensional(bare).encode())
    assert names(stream(path, treatment=treatment)) == ["no bonds"]


def three_dimensional(block: str) -> str:
    """Return a mol block marked as a geometry."""
    return block.replace("     RDKit          2D", "     RDKit          3D")


def salt(smiles: str) -> bytes:
    """Return an SDF record of an embedded salt with its hydrogens."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    return Chem.MolToMolBlock(mol).encode() + b"$$$$\n"


@pytest.mark.parametrize("hydrogens", ["atoms", "counts"])
def test_every_file_with_bonds_has_its_fragments_chosen(tmp_path: Path, hydrogens: Hydrogens) -> None:
    smiles = ["CC(=O)[O-].[Na+]", "C[NH3+].[Cl-]", "CCO"]
    paths = (
        write(tmp_path / "x.sdf", b"".join(map(salt, smiles))),
        write(tmp_path / "x.smi", "\n".join(smiles).encode()),
    )
    expected = {
        Treatment("largest"): ["CC(=O)[O-]", "C[NH3+]", "CCO"],
        Treatment("largest", neutralise=True): ["CC(=O)O", "CN", "CCO"],
        Treatment("refuse"): ["several fragments: CC(=O)[O-], [Na+]", "several fragments: C[NH3+], [Cl-]", "CCO"],
    }
    for treatment, wanted in expected.items():
        for path in paths:
            entries = list(stream(path, hydrogens, treatment=treatment))
            assert [spelling(entry) for entry in entries] == wanted
            one_by_one = [molecule_of(record, embedded=True, treatment=treatment) for record in records(path)]
            assert [spelling(entry) for entry in one_by_one] == wanted
    assert [spelling(entry) for entry in stream(paths[0], hydrogens)] == smiles
    assert read(paths[0], treatment=Treatment("refuse"))[1].reasons() == {"several fragments": 2}
    assert names(stream(paths[1], hydrogens))[:2] == ["several fragments"] * 2


def spelling(entry: Molecule | Skipped) -> str:
    """Return the canonical SMILES of a molecule without its hydrogens, or the reason."""
    return entry.reason if isinstance(entry, Skipped) else Chem.MolToSmiles(Chem.RemoveAllHs(entry.graph))


@FORMATS
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty file"),
        (b" \r\n\n", "empty file"),
        (b"\x7fELF\0\1\2" * 9, "binary"),
        ("C\n".encode("utf-16"), "binary"),
    ],
)
def test_empty_and_binary_files_are_one_clear_error(tmp_path: Path, suffix: str, content: bytes, problem: str) -> None:
    path = write(tmp_path / f"x{suffix}", content)
    with pytest.raises(ValueError, match=rf"x{suffix}: .*{problem}"):
        list(stream(path))


@FORMATS
def test_missing_files_and_folders_are_one_clear_error(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        stream(tmp_path / f"x{suffix}")
    (tmp_path / f"y{suffix}").mkdir()
    with pytest.raises(ValueError, match="a folder, expected a regular file"):
        stream(tmp_path / f"y{suffix}")


def test_garbage_that_claims_to_be_compressed_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "x.sdf.gz"
    path.write_bytes(b"not gzip at all")
    with pytest.raises(ValueError, match=r"x\.sdf\.gz: cannot be read"):
        stream(path)


@FORMATS
def test_random_text_never_raises(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    tokens = [
        b"$$$$\n",
        b"M  END\n",
        b"\n",
        b" 3",
        b"C 0 0 0\n",
        b"2\n",
        b"CCO",
        b",",
        b'"',
        b"\xff",
        b"  1  0 V2000\n",
    ]
    for _ in range(30):
        content = b"smiles\n" + b"".join(tokens[row] for row in rng.integers(0, len(tokens), 40))
        molecules, report = read(write(tmp_path / f"x{suffix}", content))
        assert all(np.isfinite(molecule.positions).all() for molecule in molecules)
        assert all(entry.where and entry.reason for entry in report.skipped)


def test_an_unknown_suffix_or_setting_names_the_allowed_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown suffix '\.pkl', allowed: \.sdf, \.mol"):
        stream(tmp_path / "x.pkl")
    with pytest.raises(ValueError, match="hydrogens: got 'all', allowed: atoms, counts, file"):
        stream(DATA / "broken.sdf", "all")  # type: ignore[arg-type]


def test_every_suffix_reaches_its_reader(tmp_path: Path, qm9: Path) -> None:
    assert len(read(qm9)[0]) == 4
    assert len(read(DATA / "broken.sdf")[0]) == 2
    assert len(read(DATA / "frames.xyz")[0]) == 3
    assert len(read(write(tmp_path / "x.smi.gz", b"CCO\n"))[0]) == 1


def test_molecules_of_unknown_elements_are_counted() -> None:
    molecules, _ = read_xyz(DATA / "frames.xyz")
    kept, report = keep_elements(molecules, [1, 6, 8])
    assert [molecule.numbers.tolist() for molecule in kept] == [[8, 1, 1], [6, 8]]
    assert report.skipped == (Skipped("argon with a charge column", "element 18"),)
