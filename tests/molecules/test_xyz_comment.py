"""Comments of XYZ frames: columns as ASE reads them, the lines that QM9 has after the atoms, charges."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molrl.data.files import Skipped
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.xyz import frames, read_xyz

OTHERS = {"forces": ("R", 3), "velo": ("R", 3), "charge": ("R", 1), "tags": ("I", 1), "frozen": ("L", 1)}
ETHANOL = np.array([[-0.85, 0.22, 0.24], [0.39, -0.36, -0.4], [1.53, 0.38, -0.01]])
SYMBOLS, NUMBERS = ["C", "C", "O"], [6, 6, 8]
ATOMS = "C -0.85 0.22 0.24\nC 0.39 -0.36 -0.40\nO 1.53 0.38 -0.01\n"
CELL = {"R": "0.25", "I": "3", "L": "F"}


def extended(names: list[str], element: str) -> str:
    """Return a frame of extended XYZ with columns in this order."""
    kinds = {**OTHERS, "pos": ("R", 3), "species": ("S", 1), "Z": ("I", 1)}
    names = [element if name == "element" else name for name in names]
    properties = ":".join(f"{name}:{kinds[name][0]}:{kinds[name][1]}" for name in names)
    lines = ["3", f'Properties={properties} energy=-1.0 pbc="F F F"']
    for row in range(3):
        cells = {
            "pos": " ".join(map(str, ETHANOL[row])),
            "species": SYMBOLS[row],
            "Z": str(NUMBERS[row]),
        }
        lines.append(" ".join(cells.get(name) or " ".join([CELL[kinds[name][0]]] * kinds[name][1]) for name in names))
    return "\n".join(lines) + "\n"


def entries(tmp_path: Path, text: str) -> list[Molecule | Skipped]:
    path = tmp_path / "x.xyz"
    path.write_text(text)
    return [entry for _, entry in frames(path)]


@settings(deadline=None)
@given(
    names=st.permutations(["element", "pos", *OTHERS]).flatmap(
        lambda order: st.sets(st.sampled_from(list(OTHERS))).map(
            lambda out: [name for name in order if name not in out]
        )
    ),
    element=st.sampled_from(["species", "Z"]),
)
def test_columns_are_those_that_ase_reads(
    names: list[str], element: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ase = pytest.importorskip("ase.io")
    text = extended(names, element)
    atoms = ase.read(io.StringIO(text), format="extxyz")
    (entry,) = entries(tmp_path_factory.getbasetemp(), text)
    assert isinstance(entry, Molecule)
    np.testing.assert_array_equal(entry.numbers, atoms.numbers)
    np.testing.assert_allclose(entry.positions, atoms.positions, atol=1e-6)


def test_forces_before_the_positions_are_no_positions(tmp_path: Path) -> None:
    (entry,) = entries(tmp_path, extended(["element", "forces", "pos"], "species"))
    assert isinstance(entry, Molecule)
    np.testing.assert_allclose(entry.positions, ETHANOL, atol=1e-6)


@pytest.mark.parametrize(
    "properties",
    [
        "species:S:1:forces:R:3",
        "pos:R:3",
        "species:S:1:pos:R:2",
        "species:S:1:pos:R",
        "species:S:one:pos:R:3",
        "x",
        ":",
    ],
)
def test_columns_without_elements_or_positions_are_refused(tmp_path: Path, properties: str) -> None:
    refused, read = entries(tmp_path, f"3\nProperties={properties}\n{ATOMS}3\nethanol\n{ATOMS}")
    assert isinstance(refused, Skipped)
    assert refused.reason.startswith("Properties: expected ")
    assert isinstance(read, Molecule)


def test_a_line_shorter_than_its_columns_is_named(tmp_path: Path) -> None:
    text = f"3\nProperties=species:S:1:forces:R:3:pos:R:3\n{ATOMS}"
    assert entries(tmp_path, text) == [
        Skipped("frame 1, line 1", "expected an element and three coordinates in line 3")
    ]


# QM9


def qm9(tag: str) -> str:
    """Return a record in the format of QM9 (Ramakrishnan et al. 2014, Table 2)."""
    frequencies = "\t".join(["231.4", "1.2*^-5", "3710.1"])
    return f"3\n{tag}\t1.0\t2.0\n{ATOMS}{frequencies}\nCCO\tCCO\t\nInChI=1S/C2H6O\tInChI=1S/C2H6O\n"


def test_the_lines_after_the_atoms_of_qm9_belong_to_the_record(tmp_path: Path) -> None:
    read = entries(tmp_path, qm9("gdb 14") + qm9("gdb 15") + f"3\nplain\n{ATOMS}" + qm9("gdb 16"))
    assert [entry.name.split("\t")[0] for entry in read if isinstance(entry, Molecule)] == [
        *("gdb 14", "gdb 15"),
        *("plain", "gdb 16"),
    ]
    assert len(read) == 4


def test_a_record_of_qm9_may_lack_them(tmp_path: Path) -> None:
    bare = f"3\ngdb 1\t1.0\n{ATOMS}"
    assert len(entries(tmp_path, bare + bare + f"3\nplain\n{ATOMS}")) == 3


def test_other_lines_after_the_atoms_are_still_errors(tmp_path: Path) -> None:
    bad = "expected the number of atoms"
    assert [entry.reason for entry in entries(tmp_path, qm9("no tag")) if isinstance(entry, Skipped)] == [bad]
    for rest in ("free text\n", "1.0 2.0\nC C\nno InChI\n", qm9("gdb 1").partition(ATOMS)[2] + "C C\n"):
        (_, last) = entries(tmp_path, f"3\ngdb 1\t1.0\n{ATOMS}{rest}")
        assert isinstance(last, Skipped)
        assert last.reason == bad


def test_the_limit_on_frames_is_not_met_by_the_end_of_a_record(tmp_path: Path) -> None:
    path = tmp_path / "x.xyz"
    path.write_text(qm9("gdb 1"))
    assert [type(entry) for _, entry in frames(path, max_records=1)] == [Molecule]


# charges


@pytest.mark.parametrize(
    ("comment", "charge"),
    [
        *(("charge=1", "1"), ("ammonium charge=+1 mult=1", "+1"), ("charge: -2", "-2"), ("Charge = -1", "-1")),
        *(('{"name": "x", "charge": 1}', "1"), ("total_charge=-1.0", "-1.0"), ('charge="2"', "2"), ("charge 2-", "2-")),
        ("Properties=species:S:1:pos:R:3 charge=1", "1"),
    ],
)
def test_a_frame_of_an_ion_is_refused_and_its_charge_named(tmp_path: Path, comment: str, charge: str) -> None:
    (entry,) = entries(tmp_path, f"3\n{comment}\n{ATOMS}")
    assert isinstance(entry, Skipped)
    assert entry.reason.startswith(f"charge: {charge}, ")


@pytest.mark.parametrize(
    "comment",
    [
        *("charge=0", "charge: +0.0", "argon with a charge column", "charges=1", "discharge 3", "recharge=1"),
        *("chargeless", "Properties=species:S:1:pos:R:3 pbc=F", "charge=unknown"),
    ],
)
def test_a_comment_without_a_charge_is_a_name(tmp_path: Path, comment: str) -> None:
    (entry,) = entries(tmp_path, f"3\n{comment}\n{ATOMS}")
    assert isinstance(entry, Molecule)
    assert entry.name == comment


def test_reasons_are_counted_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.xyz"
    path.write_text(f"3\ncharge=1\n{ATOMS}3\ncharge=2\n{ATOMS}")
    assert read_xyz(path)[1].reasons() == {"charge": 2}
