"""Scoring files: one row for each record, a reason for every failure, and resumption after a kill."""

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import complaint, molrl
from command import score_molecules as score_file
from faulty_scorers import Half, Weight, faulty_reader
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from torch import Tensor

from molrl.config import ConfigError
from molrl.data.molecules.bonds import edm_table, rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.records import molecule_of, records
from molrl.rewards.molecules.logp import LogP
from molrl.rewards.molecules.qed import QED
from molrl.rewards.scores import Explained, PerSample, Scored
from molrl.rewards.scoring.command import FileReward
from molrl.rewards.scoring.journal import output_lock
from molrl.rewards.scoring.summary import Tally
from molrl.rewards.scoring.table import join_reasons, split_reasons
from molrl.rewards.workers.pooled import Pooled

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
DRUG_LIKENESS = {"qed": QED(reader=edm_table)}
MIXED = f"""# a comment
{ASPIRIN} aspirin
C1CC unclosed ring
[H][H] hydrogen
C.C two methanes
=cmd() formula

C =HYPERLINK("x")
"""


def mol_block(smiles: str) -> str:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    mol.SetProp("_Name", smiles)
    return str(Chem.MolToMolBlock(mol)) + "$$$$\n"


def xyz_frame(smiles: str) -> str:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    return str(Chem.MolToXYZBlock(mol))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.smi"
    path.write_text(MIXED, "utf-8")
    return path


def test_every_record_has_a_row_in_order_with_a_value_or_a_reason(mixed: Path, tmp_path: Path) -> None:
    summary = score_file(mixed, DRUG_LIKENESS, tmp_path / "out.csv", reader=edm_table)
    rows = rows_of(tmp_path / "out.csv")
    assert [row["record"] for row in rows] == list("123456")
    assert [bool(row["qed"]) for row in rows] == [not row["reason"] for row in rows]
    assert [row["reason"].partition(":")[0] for row in rows] == [
        "", "unreadable", "no heavy atoms", "disconnected", "unreadable", "",
    ]  # fmt: skip
    assert (rows[0]["name"], rows[0]["smiles"]) == ("aspirin", ASPIRIN)
    assert float(rows[0]["qed"]) == pytest.approx(0.5501, abs=1e-3)
    assert [row["line"] for row in rows] == list("234568")
    assert (summary.records, summary.failed, summary.figures["qed"].scored) == (6, 2, 2)
    assert summary.figures["qed"].missing == {"unreadable": 2, "no heavy atoms": 1, "disconnected": 1}
    assert summary.figures["qed"].lines == {"unreadable": [3, 6], "no heavy atoms": [4], "disconnected": [5]}


def test_text_from_a_file_is_no_formula_in_the_table(mixed: Path, tmp_path: Path) -> None:
    score_file(mixed, {"logp": LogP(reader=edm_table)}, tmp_path / "out.csv", reader=edm_table)
    cells = [cell for row in rows_of(tmp_path / "out.csv") for name, cell in row.items() if name != "logp"]
    assert "'=cmd()" in cells
    assert """'=HYPERLINK("x")""" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_a_summary_gives_mean_quantiles_and_failures(mixed: Path, tmp_path: Path) -> None:
    text = str(score_file(mixed, DRUG_LIKENESS, tmp_path / "out.csv", reader=edm_table))
    assert "6 records" in text
    assert "qed: 2 scored, mean 0.4550" in text
    assert "2 unreadable (lines 3, 6)" in text


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_quantiles_are_those_of_all_values_to_four_digits(count: int) -> None:
    values = np.random.default_rng(count).lognormal(0, 3, count)
    tally = Tally({})
    for value in values.tolist():
        tally.add(f"{value:.6g}", "", 0)
    figures = tally.figures()
    assert figures.mean == pytest.approx(values.mean(), rel=1e-5)
    assert figures.quantiles == pytest.approx(np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]), rel=1e-3)


@pytest.mark.parametrize(
    "reasons",
    [
        {},
        {"qed": "timeout"},
        {"qed": "error: a; b: c", "sa": "crash: exit code 7"},
        {"qed": "disconnected: 2 fragments", "sa": "disconnected: 2 fragments"},
    ],
)
def test_joint_reasons_can_be_told_apart_again(reasons: dict[str, str]) -> None:
    plain = {name: reason.replace("; ", ", ") for name, reason in reasons.items()}
    assert split_reasons(join_reasons(reasons, ["qed", "sa"]), ["qed", "sa"]) == plain


def test_rewards_that_disagree_are_each_explained(tmp_path: Path) -> None:
    def only_small(samples: Sequence[Molecule]) -> Tensor:
        return torch.tensor([1.0 if len(sample) < 5 else torch.nan for sample in samples])

    (tmp_path / "in.smi").write_text(f"C\n{ASPIRIN}\nC.C\n", "utf-8")
    rewards: dict[str, FileReward] = {**DRUG_LIKENESS, "small": only_small}
    score_file(tmp_path / "in.smi", rewards, tmp_path / "out.csv", reader=edm_table)
    rows = rows_of(tmp_path / "out.csv")
    assert [row["small"] for row in rows] == ["1", "", "1"]
    assert [row["reason"] for row in rows] == ["", "small: not scored", "qed: disconnected: 2 fragments"]


@pytest.mark.parametrize("zipped", [False, True])
def test_a_bad_record_in_the_middle_of_an_sdf_costs_itself_only(tmp_path: Path, zipped: bool) -> None:
    text = mol_block(ASPIRIN) + "garbage\n$$$$\n" + mol_block("CCO")
    path = tmp_path / ("in.sdf.gz" if zipped else "in.sdf")
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    summary = score_file(path, DRUG_LIKENESS, tmp_path / "out.csv", reader=edm_table)
    rows = rows_of(tmp_path / "out.csv")
    assert [row["smiles"] for row in rows] == [ASPIRIN, "", "CCO"]
    assert rows[1]["reason"].startswith("unreadable: ")
    assert float(rows[0]["qed"]) == pytest.approx(0.5501, abs=1e-3)
    assert summary.records == 3


def test_bonds_of_an_xyz_file_are_perceived(tmp_path: Path) -> None:
    (tmp_path / "in.xyz").write_text(xyz_frame("CCO") + xyz_frame(ASPIRIN), "utf-8")
    score_file(tmp_path / "in.xyz", {"qed": QED(reader=rdkit_bonds)}, tmp_path / "out.csv", reader=rdkit_bonds)
    rows = rows_of(tmp_path / "out.csv")
    assert [row["smiles"] for row in rows] == ["CCO", ASPIRIN]
    assert float(rows[1]["qed"]) == pytest.approx(0.5501, abs=1e-3)


def test_a_csv_file_is_read_by_its_smiles_column(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"id,SMILES\nx1,{ASPIRIN}\nx2,nonsense\n", "utf-8")
    score_file(tmp_path / "in.csv", DRUG_LIKENESS, tmp_path / "out.csv", reader=edm_table)
    rows = rows_of(tmp_path / "out.csv")
    assert [row["name"] for row in rows] == ["x1", "x2"]
    assert rows[1]["reason"].startswith("unreadable: not a SMILES")


def test_a_file_in_which_nothing_can_be_scored_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "in.smi").write_text("*\nC.C\n", "utf-8")
    summary = score_file(tmp_path / "in.smi", DRUG_LIKENESS, tmp_path / "out.csv", reader=edm_table)
    assert summary.exit_code(allow_failures=True) == 3
    assert "nothing scored" in str(summary)


@pytest.mark.parametrize(
    ("name", "content"),
    [("missing.smi", None), ("empty.sdf", ""), ("molecules.pkl", "x"), ("columns.csv", "a,b\n1,2\n")],
)
def test_an_unreadable_file_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, content: str | None
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(ValueError, match=name):
        score_file(tmp_path / name, DRUG_LIKENESS, tmp_path / "out.csv", reader=edm_table)
    assert not list(tmp_path.glob("out*"))


def test_a_file_without_a_reward_is_refused(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rewards: got none"):
        score_file(mixed, {}, tmp_path / "out.csv", reader=edm_table)


def test_a_reward_of_the_wrong_length_stops_at_once(mixed: Path, tmp_path: Path) -> None:
    def one_value(samples: Sequence[Molecule]) -> Tensor:
        return torch.zeros(1)

    with pytest.raises(ValueError, match=r"shape \(1,\), need a tensor of shape \(4,\)"):
        score_file(mixed, {"one": one_value}, tmp_path / "out.csv", reader=edm_table)


def test_embedding_gives_smiles_a_geometry(tmp_path: Path) -> None:
    def extent(samples: Sequence[Molecule]) -> Tensor:
        return torch.tensor([float(sample.positions.std()) for sample in samples])

    (tmp_path / "in.smi").write_text("CCO\n", "utf-8")
    for embed, flat in ((False, True), (True, False)):
        out = tmp_path / f"{embed}.csv"
        score_file(tmp_path / "in.smi", {"extent": extent}, out, reader=edm_table, embed=embed)
        assert (float(rows_of(out)[0]["extent"]) == 0) is flat


def test_workers_write_the_same_table(mixed: Path, tmp_path: Path) -> None:
    score_file(mixed, DRUG_LIKENESS, tmp_path / "one.csv", reader=edm_table)
    with Pooled(QED(reader=edm_table), workers=2) as pooled:
        score_file(mixed, {"qed": pooled}, tmp_path / "two.csv", reader=edm_table)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


# formats


def test_a_reward_that_explains_itself_gets_a_column_for_each_part(mixed: Path, tmp_path: Path) -> None:
    rewards: dict[str, FileReward] = {"pooled": Pooled(Weight(), workers=0), "plain": Batch()}
    for name, reward in rewards.items():
        score_file(mixed, {"w": reward, "half": Half()}, tmp_path / f"{name}.csv", reader=edm_table)
        rows = rows_of(tmp_path / f"{name}.csv")
        assert list(rows[0]) == ["record", "line", "name", "smiles", "w", "w.carbon", "half", "reason"]
        assert [(row["w"], row["w.carbon"], row["half"]) for row in rows[:3]] == [
            ("13", "9", "6.5"), ("", "", ""), ("0", "0", "0"),
        ]  # fmt: skip


class Batch:
    """A reward of whole batches that explains itself."""

    parts = ("carbon",)

    def __call__(self, samples: Sequence[Molecule]) -> Tensor:
        return torch.tensor([float((sample.numbers > 1).sum()) for sample in samples])

    def explain(self, sample: Molecule) -> dict[str, float]:
        return Weight().explain(sample)


def test_parts_that_come_with_a_value_are_not_worked_out_again(mixed: Path, tmp_path: Path) -> None:
    class Whole(PerSample[Molecule]):
        parts = ("good", "bad")

        def score_one(self, sample: Molecule, /) -> Scored:
            return Explained(0.0, "bad: as a whole", {"good": 1.0, "bad": float("nan")})

        def explain(self, sample: Molecule) -> dict[str, float]:
            raise AssertionError("explained twice")

    rewards: dict[str, FileReward] = {"pooled": Pooled(Whole(), workers=0), "plain": Whole()}
    for name, reward in rewards.items():
        score_file(mixed, {"w": reward}, tmp_path / f"{name}.csv", reader=edm_table)
        row = rows_of(tmp_path / f"{name}.csv")[0]
        assert (row["w"], row["w.good"], row["w.bad"], row["reason"]) == ("", "1", "", "bad: as a whole")


def test_a_value_that_is_lost_says_so_whatever_its_reason(tmp_path: Path) -> None:
    class Shy:
        def score_one(self, sample: Molecule, /) -> Scored:
            return Scored(float("nan"), "did not feel like it")

        def __call__(self, samples: Sequence[Molecule]) -> Tensor:
            return torch.zeros(len(samples))

    (tmp_path / "in.smi").write_text("C\n", "utf-8")
    summary = score_file(tmp_path / "in.smi", {"shy": Shy(), "half": Half()}, tmp_path / "o.csv", reader=edm_table)
    assert rows_of(tmp_path / "o.csv")[0]["reason"] == "shy: not scored: did not feel like it"
    assert summary.figures["shy"].missing == {"not scored: did not feel like it": 1}
    assert (summary.exit_code(), summary.exit_code(allow_failures=True)) == (4, 0)


@pytest.mark.parametrize("source", ["in.sdf", "in.smi", "in.xyz"])
def test_an_sdf_file_has_a_record_for_every_record_with_the_score_as_a_property(tmp_path: Path, source: str) -> None:
    own = ">  <qed>\n77\n\n>  <kept>\nm\xe9\n\n$$$$\n"
    text = {
        "in.sdf": mol_block(ASPIRIN).replace("$$$$\n", own) + "garbage\n" + own + mol_block("CCO"),
        "in.smi": f"{ASPIRIN}\nC1CC garbage\nCCO\n",
        "in.xyz": xyz_frame(ASPIRIN) + "1\n\nXx 0 0 0\n" + xyz_frame("CCO"),
    }[source]
    (tmp_path / source).write_bytes(text.encode("latin-1"))
    rewards: dict[str, FileReward] = {"qed": QED(reader=rdkit_bonds)}
    score_file(tmp_path / source, rewards, tmp_path / "out.sdf", reader=rdkit_bonds)
    mols = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=True))
    assert [Chem.MolToSmiles(mol) for mol in mols] == [ASPIRIN, "", "CCO"]
    assert [bool(mol.HasProp("qed")) for mol in mols] == [True, False, True]
    assert float(mols[0].GetProp("qed")) == pytest.approx(0.5501, abs=1e-3)
    assert [mol.GetProp("molrl_record") for mol in mols] == list("123")
    assert [bool(mol.HasProp("molrl_reason")) for mol in mols] == [False, True, False]
    assert bool(mols[0].HasProp("kept")) is (source == "in.sdf")
    assert bool(mols[0].GetConformer().GetPositions()[:, 2].any()) is (source != "in.smi")


def test_compressed_tables_hold_the_same(mixed: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv.gz"):
        score_file(mixed, DRUG_LIKENESS, tmp_path / name, reader=edm_table)
    assert gzip.decompress((tmp_path / "b.csv.gz").read_bytes()) == (tmp_path / "a.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.csv", "a.csv.state", "b.csv.gz", "b.csv.gz.state", "mixed.smi",
    ]  # fmt: skip


def test_parquet_holds_numbers_and_nothing_for_what_is_missing(mixed: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    score_file(mixed, DRUG_LIKENESS, tmp_path / "out.parquet", reader=edm_table)
    rows: list[dict[str, Any]] = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["record"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0]["qed"] == pytest.approx(0.5501, abs=1e-3)
    assert (rows[0]["reason"], rows[1]["qed"], rows[4]["smiles"]) == (None, None, "=cmd()")


def test_parquet_columns_have_their_types_and_exact_numbers(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("molrl.rewards.scoring.table.ROW_GROUP_SIZE", 4)  # several row groups, one with no value at all
    rewards: dict[str, FileReward] = {"w": Weight(), "qed": QED(reader=edm_table)}
    score_file(mixed, rewards, tmp_path / "out.parquet", reader=edm_table)
    table = parquet.read_table(tmp_path / "out.parquet")
    whole, text, number = arrow.int64(), arrow.string(), arrow.float64()
    assert list(zip(table.schema.names, table.schema.types, strict=True)) == [
        ("record", whole), ("line", whole), ("name", text), ("smiles", text),
        ("w", number), ("w.carbon", number), ("qed", number), ("reason", text),
    ]  # fmt: skip
    rows = table.to_pylist()
    aspirin = molecule_of(next(records(mixed)), embedded=False)
    assert isinstance(aspirin, Molecule)
    assert rows[0]["qed"] == QED(reader=edm_table).score_one(aspirin).value
    assert [row["w"] for row in rows] == [13, None, 0, 2, None, 1]
    missing = {name: table.column(name).null_count for name in table.column_names}
    assert (missing["record"], missing["line"], missing["w"], missing["qed"], missing["reason"]) == (0, 0, 2, 4, 2)
    assert "" not in {cell for row in rows for cell in row.values()}


def test_parquet_has_no_line_for_a_file_without_lines(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    np.savez(
        tmp_path / "in.npz",
        index=np.array([1], dtype=np.int32),
        num_atoms=np.array([3], dtype=np.uint8),
        atomic_numbers=np.array([8, 1, 1], dtype=np.uint8),
        positions=np.array([[0, 0, 0], [960, 0, 0], [-240, 930, 0]], dtype=np.int16),
    )
    score_file(tmp_path / "in.npz", {"w": Weight()}, tmp_path / "out.parquet", reader=edm_table)
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["record"], row["line"], row["name"], row["w"]) for row in rows] == [(1, None, "qm9 1", 1.0)]


def test_parquet_without_its_package_is_refused(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molrl.rewards.scoring.table.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs pyarrow: pip install 'molrl\[parquet\]'"):
        score_file(mixed, DRUG_LIKENESS, tmp_path / "out.parquet", reader=edm_table)


def test_an_unknown_format_names_the_known_ones(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out\.txt: unknown suffix, allowed are \.csv, .*\.parquet"):
        score_file(mixed, DRUG_LIKENESS, tmp_path / "out.txt", reader=edm_table)


# faults


def many(path: Path, *, count: int = 2000) -> list[str]:
    """Write molecules, one in a hundred broken, two that hang and two that crash, and return the reason of each."""
    names = {700: "hang", 703: "segmentation fault", 1200: "read hang", 1201: "read exit"}
    due = {
        "hang": "timeout",
        "segmentation fault": "crash: SIGSEGV",
        "read hang": "timeout: while reading it",
        "read exit": "crash: exit code 7, while reading it",
    }
    lines, reasons = [], []
    for row in range(count):
        if row % 100 == 50:
            lines.append((b"C1CC broken", b"C\xff\xfe", b"C" * 20_000)[row // 100 % 3])
            reasons.append("unreadable")
        else:
            lines.append(b"C" * (1 + row % 9) + b" " + names.get(row, f"m{row}").encode())
            reasons.append(due.get(names.get(row, ""), ""))
    path.write_bytes(b"\n".join(lines) + b"\n")
    return reasons


def test_broken_hanging_and_crashing_molecules_are_named_and_no_good_one_is_lost(tmp_path: Path) -> None:
    due = many(tmp_path / "in.smi")
    pooled = Pooled(Weight(), workers=2, timeout=1.0)
    rewards: dict[str, FileReward] = {"weight": pooled, "half": Half()}
    summary = score_file(tmp_path / "in.smi", rewards, tmp_path / "out.csv", reader=faulty_reader)
    rows = rows_of(tmp_path / "out.csv")
    assert [int(row["line"]) for row in rows] == list(range(1, 2001))
    for row, (cells, reason) in enumerate(zip(rows, due, strict=True)):
        alone = reason in ("timeout", "crash: SIGSEGV")  # with one reward, and the other one scored it
        assert cells["weight"] == ("" if reason else str(1 + row % 9))
        assert cells["half"] == ("" if reason and not alone else f"{(1 + row % 9) / 2:g}")
        shown = cells["reason"].removeprefix("weight: ")
        assert (shown.partition(":")[0] if reason == "unreadable" else shown) == reason
    assert summary.figures["weight"].missing == {"unreadable": 20, "timeout": 2, "crash": 2}
    assert summary.figures["half"].missing == {"unreadable": 20, "timeout": 1, "crash": 1}
    assert summary.figures["weight"].lines["timeout"] == [701, 1201]
    assert (summary.failed, summary.exit_code(), summary.exit_code(allow_failures=True)) == (24, 4, 0)


def test_a_broken_end_of_a_compressed_file_is_a_named_failure(tmp_path: Path) -> None:
    text = "".join(f"{'C' * (1 + row % 7)} {row * 7919 % 10007}\n" for row in range(5000)).encode()
    packed = gzip.compress(text)
    (tmp_path / "in.smi.gz").write_bytes(packed[: len(packed) // 2])
    summary = score_file(tmp_path / "in.smi.gz", {"half": Half()}, tmp_path / "out.csv", reader=edm_table)
    rows = rows_of(tmp_path / "out.csv")
    assert len(rows) > 1000
    assert not any(row["reason"] for row in rows[:-1])
    assert rows[-1]["reason"].startswith("unreadable: the rest cannot be read: ")
    assert summary.exit_code() == 4


# killed and started again

SCRIPT = """
import sys
from faulty_scorers import Weight
from molrl.data.molecules.bonds import edm_table
from command import score_molecules as score_file
from molrl.rewards.workers.pooled import Pooled
if __name__ == "__main__":
    source, out, log, workers = sys.argv[1:]
    score_file(source, {"weight": Pooled(Weight(log, 0.004), workers=int(workers))}, out, reader=edm_table)
"""


def started(folder: Path, out: str, log: str, workers: int) -> "subprocess.Popen[bytes]":
    """Start a process that scores slowly and logs the names of what it scores."""
    (folder / "script.py").write_text(SCRIPT, "utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    files = [str(folder / name) for name in ("script.py", "in.smi", out, log)]
    return subprocess.Popen([sys.executable, *files, str(workers)], env=environment)


def row_count(path: Path) -> int:
    mark = b"$$$$\n" if ".sdf" in path.name else b"\n"
    return path.read_bytes().count(mark) if path.exists() else 0


@pytest.mark.parametrize(("out", "workers"), [("out.csv", 0), ("out.sdf", 1)])
def test_killed_in_the_middle_and_started_again_gives_what_an_uninterrupted_run_gives(
    tmp_path: Path, out: str, workers: int
) -> None:
    (tmp_path / "in.smi").write_text("".join(f"{'C' * (1 + row % 9)} m{row}\n" for row in range(400)), "utf-8")
    expected = score_file(tmp_path / "in.smi", {"weight": Weight()}, tmp_path / f"whole_{out}", reader=edm_table)
    part = tmp_path / f"{out}.part"
    first = started(tmp_path, out, "first", workers)
    while row_count(part) < 100 and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / out).exists()
    with part.open("ab") as file:
        file.write(b"torn,ro")  # as if the kill had come in the middle of a row
    text = part.read_text("utf-8")
    kept = {f"m{row}" for row in range(400) if f"m{row},C" in text or f"m{row}\n" in text}
    assert started(tmp_path, out, "second", workers).wait(60) == 0
    assert (tmp_path / out).read_bytes() == (tmp_path / f"whole_{out}").read_bytes()
    again = Counter((tmp_path / "second").read_text("utf-8").split())
    assert 90 < len(kept) < 400
    assert set(again) == {f"m{row}" for row in range(400)} - kept
    assert max(again.values()) == 1
    state = json.loads((tmp_path / f"{out}.state").read_text("utf-8"))
    assert state["end"]["figures"]["weight"] == expected.as_dict()["figures"]["weight"]
    assert not part.exists()


def cuts(size: int) -> Iterator[int]:
    yield from range(0, size, max(1, size // 25))
    yield size


@pytest.mark.parametrize("out", ["out.csv", "out.sdf", "out.csv.gz"])
def test_wherever_the_part_is_cut_the_output_is_the_same(mixed: Path, tmp_path: Path, out: str) -> None:
    summary = score_file(mixed, DRUG_LIKENESS, tmp_path / out, reader=edm_table)
    whole, state = (tmp_path / out).read_bytes(), json.loads((tmp_path / f"{out}.state").read_bytes())
    plain = gzip.decompress(whole) if out.endswith(".gz") else whole
    for cut in cuts(len(plain)):
        for tail in (b"", b"\0" * 40):  # what a power failure may leave
            (tmp_path / out).unlink()
            (tmp_path / f"{out}.part").write_bytes(plain[:cut] + tail)
            (tmp_path / f"{out}.state").write_text(json.dumps({"records": 0, "subject": state["subject"]}))
            assert score_file(mixed, DRUG_LIKENESS, tmp_path / out, reader=edm_table) == summary
            assert (tmp_path / out).read_bytes() == whole


@pytest.mark.parametrize("out", ["out.csv", "out.csv.gz"])
def test_killed_between_the_last_row_and_the_output_it_is_complete(mixed: Path, tmp_path: Path, out: str) -> None:
    summary = score_file(mixed, DRUG_LIKENESS, tmp_path / out, reader=edm_table)
    whole = (tmp_path / out).read_bytes()
    (tmp_path / out).rename(tmp_path / f"{out}.{'ready' if out.endswith('.gz') else 'part'}")
    again = score_file(mixed, DRUG_LIKENESS, tmp_path / out, reader=edm_table)
    assert again == replace(summary, existed=True)
    assert (tmp_path / out).read_bytes() == whole


def test_a_complete_output_is_left_alone_unless_it_may_be_overwritten(mixed: Path, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out.csv"
    score = partial(score_file, mixed, {"weight": Weight(str(log))}, out, reader=edm_table)
    summary = score()
    scored = log.read_text("utf-8")
    assert score() == replace(summary, existed=True)
    assert score().exit_code() == 0
    assert log.read_text("utf-8") == scored
    assert score(overwrite=True) == summary
    assert log.read_text("utf-8") == scored * 2
    out.unlink()
    assert score() == summary


def test_another_input_or_other_settings_are_refused_with_what_differs(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    score_file(mixed, DRUG_LIKENESS, out, reader=edm_table)
    before = out.read_bytes()
    with pytest.raises(ConfigError, match=r"\(rewards.qed.reader: 'molrl.*edm_table' -> 'molrl.*rdkit_bonds'\)"):
        score_file(mixed, {"qed": QED(reader=rdkit_bonds)}, out, reader=edm_table)
    with pytest.raises(ConfigError, match="embed: False -> True"):
        score_file(mixed, DRUG_LIKENESS, out, reader=edm_table, embed=True)
    mixed.write_text(MIXED + "CC\n", "utf-8")
    with pytest.raises(ConfigError, match=r"input.bytes: \d+ -> \d+; .*overwrite=true"):
        score_file(mixed, DRUG_LIKENESS, out, reader=edm_table)
    assert out.read_bytes() == before
    assert score_file(mixed, DRUG_LIKENESS, out, reader=edm_table, overwrite=True).records == 7


def test_how_many_workers_score_is_free_to_change(mixed: Path, tmp_path: Path) -> None:
    for workers in (0, 1):
        pooled: dict[str, FileReward] = {"qed": Pooled(QED(reader=edm_table), workers=workers, timeout=5.0)}
        summary = score_file(mixed, pooled, tmp_path / "out.csv", reader=edm_table)
        assert summary.existed is (workers == 1)


def test_files_of_others_are_not_overwritten(mixed: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("precious", "utf-8")
    with pytest.raises(ConfigError, match=r"exists, without a out\.csv\.state"):
        score_file(mixed, DRUG_LIKENESS, tmp_path / "out.csv", reader=edm_table)
    (tmp_path / "in.sdf").write_text(mol_block("C"), "utf-8")
    with pytest.raises(ConfigError, match="is the file to be scored"):
        score_file(tmp_path / "in.sdf", DRUG_LIKENESS, tmp_path / "in.sdf", reader=edm_table, overwrite=True)
    (tmp_path / "new.csv.state").write_text("[1]", "utf-8")
    with pytest.raises(ConfigError, match="not a state file"):
        score_file(mixed, DRUG_LIKENESS, tmp_path / "new.csv", reader=edm_table)
    assert (tmp_path / "out.csv").read_text("utf-8") == "precious"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_two_processes_cannot_write_one_output(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with output_lock(out), pytest.raises(ConfigError, match="is being written by another process"):
        score_file(mixed, DRUG_LIKENESS, out, reader=edm_table)
    assert score_file(mixed, DRUG_LIKENESS, out, reader=edm_table).records == 6
    assert not (tmp_path / "out.csv.lock").exists()


# the command


@pytest.mark.parametrize("several", ["reward=qed,sa", "reward=[qed,sa]"])
def test_several_rewards_are_columns_of_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.smi").write_text(f"{ASPIRIN}\nCCO\n", "utf-8")
    done = molrl("score", "in.smi", several, "reward.workers=0")
    assert done.code == 0, done.err
    assert [(bool(row["qed"]), bool(row["sa"])) for row in rows_of(Path("in.smi.qed_sa.csv"))] == [(True, True)] * 2
    shown = molrl("score", "in.smi", several, "reward.timeout=3.0", "--cfg").out
    assert shown.count("timeout: 3.0") == 2
    assert "reward=nope" in complaint(["score", "in.smi", "reward=qed,nope"], 2)


def test_the_exit_code_tells_failed_records_and_a_second_run_finds_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("id,structure\n1,CCO\n2,C1CC\n", "utf-8")
    assert "got: id, structure" in complaint(["score", "in.csv", "reward.workers=0"], 5)
    command = ["score", "in.csv", "smiles_column=structure", "reward.workers=0"]
    assert molrl(*command, "out=a.csv").code == 4
    assert molrl(*command, "out=b.csv", "allow_failures=true").code == 0
    again = molrl(*command, "out=a.csv")
    assert again.code == 0
    assert "complete already" in again.out
    assert "reward.qed" in complaint([*command, "out=a.csv", "reward=sa"], 2).replace("rewards.", "reward.")
