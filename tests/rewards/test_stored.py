"""Scores that are kept on the disk are found again by the same settings and samples, and by nothing else."""

import csv
import math
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from command import molrl
from test_combine import cell
from test_molecule_rewards import embedded, from_smiles

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.exit_codes import ExitCode
from molrl.rewards.combine import Term, WeightedSum
from molrl.rewards.molecules.logp import LogP
from molrl.rewards.molecules.plausibility import Plausibility
from molrl.rewards.molecules.qed import QED
from molrl.rewards.scores import Explained, PerSample, Scored
from molrl.rewards.stored import FILE, Stored, sample_key, settings_of
from molrl.rewards.workers.pooled import Pooled


@dataclass(frozen=True)
class Counted(PerSample[Any]):
    """The square of a number, -1 raises; every call is a line of a file in the folder `calls`."""

    calls: str
    power: float = 2.0
    table: str = ""
    kind: ClassVar[str] = "numbers"

    def score_one(self, sample: Any, /) -> Scored:
        with Path(self.calls, "log").open("a") as file:
            file.write(f"{sample}\n")
        if sample == -1:
            raise RuntimeError("no such number")
        return Scored(math.nan, "negative") if sample < 0 else Scored(sample**self.power)

    def cache_key(self, sample: Any, /) -> str | None:
        return None if sample == 100 else str(sample)


def called(reward: Counted) -> list[int]:
    path = Path(reward.calls, "log")
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def lost(folder: Path) -> list[tuple[str, str, int]]:
    query = "SELECT key, reason, times FROM lost ORDER BY key"
    return list(sqlite3.connect(folder / FILE).execute(query))


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(str(tmp_path))


def test_a_second_run_calls_nothing_again(tmp_path: Path, counted: Counted) -> None:
    for _ in range(2):
        assert Stored(counted, str(tmp_path / "kept")).score([2, 3, 2]).values == [4, 9, 4]
    assert called(counted) == [2, 3]


def test_what_has_no_key_is_not_kept(tmp_path: Path, counted: Counted) -> None:
    assert Stored(counted, str(tmp_path)).score([100, 100]).values == [10_000, 10_000]
    assert called(counted) == [100, 100]


def test_other_settings_have_other_values(tmp_path: Path, counted: Counted) -> None:
    assert Stored(counted, str(tmp_path / "kept")).score_one(2).value == 4
    assert Stored(replace(counted, power=3.0), str(tmp_path / "kept")).score_one(2).value == 8
    assert called(counted) == [2, 2]


def test_a_file_of_the_settings_is_told_by_its_content(tmp_path: Path, counted: Counted) -> None:
    table = tmp_path / "table.txt"
    reward = replace(counted, table=str(table))
    for content, calls in (("a", 1), ("a", 1), ("b", 2), ("a", 2)):
        table.write_text(content)
        Stored(reward, str(tmp_path / "kept")).score_one(2)
        assert len(called(reward)) == calls


def test_failures_are_kept_apart_and_tried_again(tmp_path: Path, counted: Counted) -> None:
    for _ in range(2):
        values = Stored(counted, str(tmp_path)).score([-2, -1, 3]).values
        assert [math.isnan(value) for value in values] == [True, True, False]
    assert called(counted) == [-2, -1, 3, -2, -1]
    assert lost(tmp_path) == [("-1", "RuntimeError: no such number", 2), ("-2", "negative", 2)]


def test_worker_processes_share_what_is_kept(tmp_path: Path, counted: Counted) -> None:
    for _ in range(2):
        with Pooled(counted, workers=2, chunk=1, cache=str(tmp_path / "kept")) as pooled:
            assert pooled(list(range(12))).tolist() == [number**2 for number in range(12)]
    assert sorted(called(counted)) == list(range(12))


@dataclass(frozen=True)
class Explaining(Counted):
    """A value with parts and a gradient."""

    parts: ClassVar[tuple[str, ...]] = ("half", "none")
    has_gradient: ClassVar[bool] = True

    def score_one(self, sample: Any, /) -> Scored:
        super().score_one(sample)
        return Explained(1 / 3, "", {"half": sample / 2, "none": math.nan}, np.array([[sample, 0.1, -1e-300]]))


def test_parts_and_gradients_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    reward = Explaining(str(tmp_path))
    first, second = (Stored(reward, str(tmp_path)).score_one(3) for _ in range(2))
    assert called(reward) == [3]
    assert isinstance(second, Explained)
    assert second == first == (1 / 3, "")
    np.testing.assert_equal(dict(second.parts), {"half": 1.5, "none": math.nan})
    np.testing.assert_array_equal(second.gradient, [[3, 0.1, -1e-300]])


def test_a_graph_is_known_by_its_smiles_and_a_geometry_by_its_atoms() -> None:
    one = embedded("CCO")
    moved = replace(one, positions=one.positions + np.float32(1e-3))
    order = np.arange(len(one))[::-1]
    turned = Molecule(one.numbers[order], one.positions[order])
    graph, geometry = QED(reader=rdkit_bonds), Plausibility(reader=rdkit_bonds)
    assert {sample_key(graph, sample) for sample in (one, moved, turned)} == {"CCO"}
    assert len({sample_key(geometry, sample) for sample in (one, moved, turned)}) == 3
    assert sample_key(geometry, replace(one, name="other")) == sample_key(geometry, one)
    assert sample_key(graph, from_smiles("C.C")) is None


def test_a_combination_is_known_by_all_that_it_is_made_of() -> None:
    one = embedded("CCO")
    graphs = WeightedSum(
        floor=0,
        terms={
            "qed": Term(scorer=QED(reader=rdkit_bonds), weight=1),
            "logp": Term(scorer=LogP(reader=rdkit_bonds), weight=1),
        },
    )
    mixed = WeightedSum(floor=0, terms={**graphs.terms, "s": Term(scorer=Plausibility(reader=rdkit_bonds), weight=1)})
    assert sample_key(graphs, one) == "CCO"
    assert sample_key(mixed, one) == f"CCO {sample_key(Plausibility(reader=rdkit_bonds), one)}"
    assert sample_key(mixed, from_smiles("C.C")) is None


@dataclass(frozen=True)
class Keyless(PerSample[Any]):
    """A scorer that does not say what its values depend on."""

    def score_one(self, sample: Any, /) -> Scored:
        return Scored(0.0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": np.zeros(2)}, "reward.a is a ndarray, whose settings are not known"),
        ([lambda x: x], "reward.0 is a function"),
    ],
)
def test_settings_that_cannot_be_told_are_refused(value: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        settings_of(value, "reward")


def test_a_scorer_without_a_key_and_a_file_that_is_no_database_are_refused(tmp_path: Path, counted: Counted) -> None:
    with pytest.raises(ValueError, match=r"Keyless has no cache_key\(sample\)"):
        Stored(Keyless(), str(tmp_path))
    (tmp_path / FILE).write_bytes(b"no database, but some text " * 10)
    with pytest.raises(ValueError, match="cannot be used"):
        Stored(counted, str(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FILE).symlink_to(tmp_path / FILE)
    with pytest.raises(ValueError, match="a link"):
        Stored(counted, str(tmp_path / "other"))


def test_any_reward_of_the_command_line_keeps_its_values(tmp_path: Path) -> None:
    file, kept = tmp_path / "new.smi", tmp_path / "kept"
    file.write_text("CCO\nOCC\n")
    values = []
    for number in range(2):
        out = tmp_path / f"{number}.csv"
        asked = ["score", str(file), f"out={out}", "reward=qed", "reward.workers=0", f"+reward.cache={kept}"]
        assert molrl(*asked).code == ExitCode.DONE
        values += [float(cell(row, "qed")) for row in csv.DictReader(out.open())]
    assert len(set(values)) == 1
    (row,) = sqlite3.connect(kept / FILE).execute("SELECT key, value FROM scores")
    assert row == ("CCO", pytest.approx(values[0], abs=1e-6))
