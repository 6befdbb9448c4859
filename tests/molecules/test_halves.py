"""The half-QM9 protocol: the halves are the same for everybody, and each new molecule is known or not."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from command import QUICK_PRETRAINING, complaint, molrl
from hypothesis import given
from hypothesis import strategies as st

from molrl.data.files import ReadReport
from molrl.data.molecules.known import KnownShares, share_known
from molrl.data.molecules.molecule import Molecules
from molrl.data.molecules.qm9 import Half, in_half, load_qm9
from molrl.data.molecules.sets import qm9_set

QM9_SIZE = 133_885


def archive(path: Path, numbers: list[int]) -> Path:
    """Write water for each number, its oxygen moved by that many milli-angstrom."""
    positions = [[[number, 0, 0], [number + 960, 0, 0], [number - 240, 930, 0]] for number in numbers]
    np.savez(
        path,
        index=np.array(numbers),
        num_atoms=np.full(len(numbers), 3),
        atomic_numbers=np.tile([8, 1, 1], len(numbers)),
        positions=np.array(positions).reshape(-1, 3),
    )
    return path


def test_the_halves_follow_the_published_digests_of_the_first_numbers() -> None:
    """SHA-256 of "1" is 6b86..., of "2" d473..., of "3" 4e07..., of "4" 4b22..., of "5" ef2d... (FIPS 180-4)."""
    assert [in_half(number, "first") for number in (1, 2, 3, 4, 5)] == [True, False, True, True, False]


def test_the_first_half_is_a_half() -> None:
    first = [number for number in range(1, QM9_SIZE + 1) if in_half(number, "first")]
    assert len(first) == 66_960
    assert abs(len(first) - QM9_SIZE / 2) < 3 * np.sqrt(QM9_SIZE) / 2  # three standard deviations of fair coins
    assert first == [n for n in range(1, QM9_SIZE + 1) if f"{hashlib.sha256(str(n).encode()).hexdigest():.1}" < "8"]


@given(st.integers(1, QM9_SIZE))
def test_every_molecule_is_in_one_half(number: int) -> None:
    assert in_half(number, "first") != in_half(number, "second")


def test_a_file_gives_its_molecules_of_a_half_in_order(tmp_path: Path) -> None:
    numbers = list(range(40, 60))
    path = archive(tmp_path / "qm9.npz", numbers)
    everything, _ = load_qm9(path)
    halves: dict[Half, tuple[Molecules, ReadReport]] = {
        "first": load_qm9(path, "counts", "first"),
        "second": load_qm9(path, "counts", "second"),
    }
    for half, (molecules, report) in halves.items():
        expected = [number for number in numbers if in_half(number, half)]
        assert molecules.names == tuple(f"qm9 {number}" for number in expected)
        assert [round(float(one.positions[0, 0]) * 1000) for one in molecules] == expected
        assert report.count == len(expected)
    assert sum(len(molecules) for molecules, _ in halves.values()) == len(everything) == 20
    assert len(qm9_set(path=str(path), hydrogens="atoms", half="first").molecules) == len(halves["first"][0])


def test_shares_by_hand() -> None:
    known = share_known({"a", "b", "c", "d"}, {"a", "x"}, {"a", "b", "c", "y"})
    assert known == KnownShares(seen=1 / 4, unseen=2 / 4, outside=1 / 4)
    assert share_known(set(), {"a"}, {"b"}) == KnownShares(None, None, None)


def test_training_on_a_half_and_its_report(tmp_path: Path) -> None:
    """The training set's SMILES, seen, are those of the half; `known` may hold both halves."""
    path = archive(tmp_path / "qm9.npz", list(range(1, 31)))
    settings = [item for item in QUICK_PRETRAINING if not item.startswith("data.")]
    done = molrl(
        "pretrain",
        "model=all_atoms",
        "data=qm9",
        f"data.path={path}",
        "data.half=first",
        f"run={tmp_path / 'run'}",
        *settings,
    )
    assert done.code == 0, done
    assert f": {sum(in_half(n, 'first') for n in range(1, 31))} molecules" in done.out
    assert "data.half" in complaint(["pretrain", "data=qm9", f"data.path={path}", "data.half=third"], 2)


def test_the_report_of_seen_unseen_and_outside(tmp_path: Path) -> None:
    for name, text in {"new": "CCO\nCC\nOCC\nCN\nCF\n", "seen": "CC\n", "all": "OCC\nCC\nCN\n"}.items():
        (tmp_path / f"{name}.smi").write_text(text)
    sets = (f"reference={tmp_path / 'seen.smi'}", f"known={tmp_path / 'all.smi'}")
    done = molrl("evaluate", str(tmp_path / "new.smi"), *sets, f"out={tmp_path / 'out.json'}")
    values = {words[0]: words[1] for line in done.out.splitlines() if len(words := line.split()) > 1}
    assert (values["seen"], values["unseen"], values["outside"]) == ("0.2500", "0.5000", "0.2500")  # of 4 distinct
    assert "needs a reference" in complaint(["evaluate", str(tmp_path / "new.smi"), sets[1]], 2)


@pytest.mark.parametrize("setting", ["reference", "known"])
def test_what_is_no_set_of_molecules_is_named(setting: str, tmp_path: Path) -> None:
    (tmp_path / "new.smi").write_text("CCO\n")
    others = [f"reference={tmp_path / 'new.smi'}"] if setting == "known" else []
    said = complaint(["evaluate", str(tmp_path / "new.smi"), *others, f"{setting}=nothing"], 5)
    assert f"{setting}=nothing: neither a model nor one of .sdf" in said
