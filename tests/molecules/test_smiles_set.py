"""Laws of `data=smiles`: every record is a molecule or accounted for, and what was computed is never lost."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdkit import Chem

from molrl.data.files import Skipped
from molrl.data.molecules.conformers import Conformer, load_conformers, save_conformers
from molrl.data.molecules.library import draw_lines
from molrl.data.molecules.molecule import Molecule, Molecules
from molrl.data.molecules.sets import MoleculeSet, file_set, smiles_set
from molrl.data.molecules.smiles import Line, read_smiles
from molrl.machine.workers.protocol import Lost

RECORDS = {  # each line with what should become of it
    "OCC ethanol": "CCO",
    "C(O)C again": "duplicate",
    "# a comment": "",
    "CC(=O)[O-].[Na+] acetate": "CC(=O)[O-]",
    "CC([O-])=O": "duplicate",
    "CC(=O)O": "CC(=O)O",
    "": "",
    "nonsense x": "not a SMILES",
    "C1CC": "not a SMILES",
    "C*": "dummy or query atom",
    "F[Fe]F": "metal: Fe",
    "[Na+].[Cl-]": "inorganic: no carbon",
    "N": "inorganic: no carbon",
    "C[Xe]C": "no force field",
    "[C-]#[O+]": "[C-]#[O+]",
    "c1ccccc1CCCCCCCCCCC long": "large",
    "CCl": "CCl",
    "C[C@H](N)C(=O)O": "C[C@H](N)C(=O)O",
    "C[C@@H](N)C(=O)O": "C[C@@H](N)C(=O)O",
}

NO_MOLECULE = {
    *("duplicate", "large", "not a SMILES", "dummy or query atom"),
    *("metal: Fe", "inorganic: no carbon", "no force field"),
}


def load(path: Path, **more: Any) -> MoleculeSet:
    """Load a file without worker processes, and with a cache beside it."""
    settings = {
        "smiles_column": None,
        "n": None,
        "min_heavy": 1,
        "max_heavy": 12,
        "fragments": "largest",
        "neutralise": False,
        "workers": 0,
        "seed": 0,
        "cache": str(path.parent / "cache"),
        "hydrogens": "atoms",
    }
    return smiles_set(path=str(path), **{**settings, **more})


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "mine.smi"
    path.write_text("smiles name\n" + "\n".join(RECORDS) + "\n", encoding="utf-8")
    return path


def test_every_record_is_a_molecule_or_accounted_for(records: Path) -> None:
    loaded = load(records)
    fates = [fate for fate in RECORDS.values() if fate]
    expected = {Chem.CanonSmiles(fate) for fate in fates if fate not in NO_MOLECULE}
    assert loaded.smiles is not None
    assert set(loaded.smiles) == expected
    assert len(loaded.molecules) == len(loaded.smiles) == len(expected)
    assert [(item.where, item.reason) for item in loaded.skipped] == [
        (f"line {number}", fate)
        for number, fate in enumerate(RECORDS.values(), 2)
        if fate in NO_MOLECULE - {"large", "duplicate"}
    ]
    assert (loaded.duplicates, loaded.outside, loaded.considered) == (2, 1, len(fates))


def test_the_report_names_numbers_reasons_elements_and_sizes(records: Path) -> None:
    loaded = load(records)
    assert loaded.reasons == {
        "not a SMILES": 2,
        "inorganic": 2,
        "dummy or query atom": 1,
        "metal": 1,
        "no force field": 1,
    }
    assert loaded.elements == {"H": 6, "C": 7, "N": 2, "O": 6, "Cl": 1}
    assert loaded.report == [
        "read 17 records: 7 molecules",
        "left out: 2 duplicates, 1 outside the limits on heavy atoms",
        "skipped: 7 (2 not a SMILES, 2 inorganic, 1 dummy or query atom, 1 metal, 1 no force field)",
        "atoms: 2 to 13, median 8",
        "molecules with H 6, C 7, N 2, O 6, Cl 1",
    ]


def test_neutral_molecules_are_duplicates_of_the_ions(records: Path) -> None:
    loaded = load(records, neutralise=True)
    assert loaded.smiles is not None
    assert "CC(=O)O" in loaded.smiles
    assert "CC(=O)[O-]" not in loaded.smiles
    assert loaded.duplicates == 3


def test_salts_are_refused_by_name(records: Path) -> None:
    loaded = load(records, fragments="refuse")
    assert Skipped("line 5", "several fragments: CC(=O)[O-], [Na+]") in loaded.skipped
    with pytest.raises(ValueError, match="fragments: got 'keep', allowed: 'largest', 'refuse'"):
        load(records, fragments="keep")


def test_molecules_have_charges_bonds_and_names_and_no_graph(records: Path) -> None:
    for hydrogens in ("atoms", "counts"):
        loaded = load(records, hydrogens=hydrogens)
        assert loaded.smiles is not None
        assert isinstance(loaded.molecules, Molecules)
        for molecule, smiles in zip(loaded.molecules, loaded.smiles, strict=True):
            mol = Chem.MolFromSmiles(smiles)
            mol = Chem.AddHs(mol) if hydrogens == "atoms" else mol
            assert molecule.charges is not None
            assert molecule.bonds is not None
            assert molecule.graph is None
            assert molecule.numbers.tolist() == [atom.GetAtomicNum() for atom in mol.GetAtoms()]
            assert molecule.charges.tolist() == [atom.GetFormalCharge() for atom in mol.GetAtoms()]
            assert len(molecule.bonds) == mol.GetNumBonds()
        assert {"ethanol", "acetate"} < set(loaded.molecules.names)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_geometry_depends_on_the_molecule_alone(records: Path, workers: int) -> None:
    """Not on its place, its neighbours, its spelling or the number of workers."""
    loaded = load(records, workers=workers, seed=5)
    assert loaded.smiles is not None
    for smiles, molecule in zip(loaded.smiles, loaded.molecules, strict=True):
        (alone,), _ = read_smiles([smiles])
        np.testing.assert_array_equal(molecule.positions, alone.positions)


def test_the_limits_on_size_and_a_draw_change_nothing_else(records: Path) -> None:
    everything = load(records, max_heavy=99)
    assert everything.smiles is not None
    geometries = dict(zip(everything.smiles, everything.molecules, strict=True))
    narrow = load(records, min_heavy=3, max_heavy=4)
    drawn = load(records, n=9)
    assert drawn.considered == 9
    assert {len(molecule.numbers[molecule.numbers > 1]) for molecule in narrow.molecules} == {3, 4}
    for other in (narrow, drawn):
        assert other.smiles is not None
        for smiles, molecule in zip(other.smiles, other.molecules, strict=True):
            np.testing.assert_array_equal(molecule.positions, geometries[smiles].positions)
    with pytest.raises(ValueError, match="n: got 18, allowed: 1 to 17"):
        load(records, n=18)
    with pytest.raises(ValueError, match="min_heavy: got 5, max_heavy: got 4"):
        load(records, min_heavy=5, max_heavy=4)


def test_a_larger_draw_begins_with_a_smaller_one() -> None:
    lines = [Line(f"line {number}", "C", "", number) for number in range(1, 100)]
    small, large, other = draw_lines(lines, 10, 3), draw_lines(lines, None, 3), draw_lines(lines, None, 4)
    assert large[:10] == small
    assert sorted(large) == sorted(other) == sorted(lines)
    assert large != other


def test_a_table_has_its_column_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text('id,structure,note\na,CCO,"x, y"\nb,OCC,\nc\nd,CN,\n')
    loaded = load(path, smiles_column="structure")
    assert set(loaded.smiles or ()) == {"CCO", "CN"}
    assert loaded.skipped == [Skipped("line 4", "not enough columns")]
    assert loaded.duplicates == 1
    with pytest.raises(ValueError, match="no column named smiles or canonical_smiles, got: id, structure, note"):
        load(path)


@pytest.mark.parametrize(("text", "problem"), [("", "empty file"), ("\n \n", "empty file"), ("\0\1" * 9, "binary")])
def test_a_file_without_text_is_one_clear_error(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mine.smi"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        load(path)


def test_a_file_without_molecules_is_an_empty_set_with_reasons(tmp_path: Path) -> None:
    path = tmp_path / "mine.smi"
    path.write_text("O water\n[Na+].[Cl-] salt\n")
    loaded = load(path)
    assert (len(loaded.molecules), loaded.considered, loaded.reasons) == (0, 2, {"inorganic": 2})
    assert loaded.report == ["read 2 records: 0 molecules", "skipped: 2 (2 inorganic)"]


def test_a_second_run_computes_nothing_again(records: Path) -> None:
    """The cached positions are moved; a second run returns the moved ones."""
    first = load(records)
    move_cached(records.parent / "cache", 100.0)
    second = load(records)
    assert first.smiles == second.smiles
    for before, after in zip(first.molecules, second.molecules, strict=True):
        np.testing.assert_array_equal(after.positions, before.positions + np.float32(100))


def move_cached(folder: Path, distance: float) -> None:
    """Move every stored conformer."""
    for path in folder.iterdir():
        with np.load(path) as file:
            arrays = dict(file)
        arrays["positions"] = arrays["positions"] + np.float32(distance)
        np.savez(path, **arrays)


def test_only_what_is_asked_for_is_computed_and_the_rest_later(records: Path) -> None:
    narrow = load(records, max_heavy=3)
    (path,) = (records.parent / "cache").iterdir()
    move_cached(path.parent, 100.0)
    wide = load(records, max_heavy=99)
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    centres = {molecule.name: float(molecule.positions.mean()) for molecule in wide.molecules}
    old = {molecule.name for molecule in narrow.molecules}
    assert {name for name, centre in centres.items() if centre > 50} == old
    assert len(centres) > len(old) > 0


@pytest.mark.parametrize("damage", [b"", b"PK nonsense", None])
def test_a_damaged_cache_is_computed_again(records: Path, damage: bytes | None) -> None:
    before = load(records)
    (path,) = (records.parent / "cache").iterdir()
    if damage is None:  # sound arrays of another block
        with np.load(path) as file:
            arrays = dict(file)
        arrays["bonds"] = arrays["bonds"] + np.uint16(1)
        np.savez(path, **arrays)
    else:
        path.write_bytes(damage)
    after = load(records)
    for one, other in zip(before.molecules, after.molecules, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.bonds, other.bonds)


def test_what_a_worker_lost_is_not_kept(tmp_path: Path) -> None:
    (molecule,), _ = read_smiles(["CCO"])
    molecule = replace(molecule, graph=None)
    stored: list[Conformer | None] = [molecule, "no embedding", Lost("timeout"), None, Lost("crash: SIGSEGV"), molecule]
    save_conformers(tmp_path / "x.npz", stored)
    found = load_conformers(tmp_path / "x.npz", len(stored))
    assert found is not None
    assert found[1:5] == ["no embedding", None, None, None]
    for place in (0, 5):
        conformer = found[place]
        assert isinstance(conformer, Molecule)
        for field in ("numbers", "positions", "charges", "bonds"):
            np.testing.assert_array_equal(getattr(conformer, field), getattr(molecule, field))
    assert load_conformers(tmp_path / "x.npz", 5) is None


SCRIPT = """
import sys
from molrl.data.molecules import conformers, library, sets

library.BLOCK_SIZE = conformers.BATCH_SIZE = 4  # a worker gets one block at a time
if __name__ == "__main__":
    sets.smiles_set(
        path=sys.argv[1], smiles_column=None, n=None, min_heavy=1, max_heavy=512, fragments="largest",
        neutralise=False, workers=2, seed=0, cache=sys.argv[2], hydrogens="counts",
    )
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_what_was_finished_before_a_kill_is_not_computed_again(
    tmp_path: Path, stop: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first block of the draw is small molecules, the later ones take minutes."""
    small = ["CCO", "CCN", "CCC", "C#N"]
    slow = ["C" * 400 + "O" * number for number in range(1, 9)]
    order = np.random.default_rng(0).permutation(len(small + slow)).tolist()
    lines = [smiles for _, smiles in sorted(zip(order, small + slow, strict=True))]
    path, cache = tmp_path / "mine.smi", tmp_path / "cache"
    path.write_text("\n".join(lines))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, script, path, cache], stderr=subprocess.DEVNULL) as process:
        while not (list(cache.glob("[!.]*.npz")) if cache.exists() else []):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(stop)
        begun = time.monotonic()
        process.wait(timeout=250)
    assert process.returncode != 0
    assert time.monotonic() - begun < 20
    assert len(list(cache.glob("[!.]*.npz"))) == 1
    move_cached(cache, 100.0)
    monkeypatch.setattr("molrl.data.molecules.library.BLOCK_SIZE", 4)
    resumed = load(path, max_heavy=12, cache=str(cache))  # the slow ones are not asked for
    assert {molecule.name for molecule in resumed.molecules} == set(small)
    assert all(molecule.positions.mean() > 50 for molecule in resumed.molecules)


def test_smiles_are_not_the_business_of_data_file(records: Path) -> None:
    with pytest.raises(ValueError, match="SMILES have no geometry; data=smiles computes one"):
        file_set(path=str(records), fragments="keep", neutralise=False, hydrogens="counts")
