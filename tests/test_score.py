"""Scoring files: one row for each record, every failure explained."""

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from torch import Tensor

from molrl.data.bonds import edm_table, rdkit_bonds
from molrl.data.molecule import Molecule
from molrl.rewards.logp import LogP
from molrl.rewards.qed import QED
from molrl.rewards.score import MoleculeReward, score_file
from molrl.rewards.workers import Pooled

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
DRUG_LIKENESS = {"qed": QED(reader=edm_table)}
MIXED = f"""# a comment
{ASPIRIN} aspirin
C1CC unclosed ring
* dummy
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
        "", "unreadable", "dummy atom", "disconnected", "unreadable", "",
    ]  # fmt: skip
    assert (rows[0]["name"], rows[0]["smiles"]) == ("aspirin", ASPIRIN)
    assert float(rows[0]["qed"]) == pytest.approx(0.5501, abs=1e-3)
    assert "line 3" in rows[1]["reason"]
    assert summary.exit_code == 0
    assert (summary.records, len(summary.tallies["qed"].values)) == (6, 2)
    assert summary.tallies["qed"].failed == {"unreadable": 2, "dummy atom": 1, "disconnected": 1}


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
    assert "2 unreadable" in text


def test_rewards_that_disagree_are_each_explained(tmp_path: Path) -> None:
    def only_small(samples: Sequence[Molecule]) -> Tensor:
        return torch.tensor([1.0 if len(sample) < 5 else torch.nan for sample in samples])

    (tmp_path / "in.smi").write_text(f"C\n{ASPIRIN}\nC.C\n", "utf-8")
    rewards: dict[str, MoleculeReward] = {**DRUG_LIKENESS, "small": only_small}
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
    assert rows[1]["reason"].startswith("unreadable: not a valid SMILES")


def test_a_file_in_which_nothing_can_be_scored_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "in.smi").write_text("*\nC.C\n", "utf-8")
    summary = score_file(tmp_path / "in.smi", DRUG_LIKENESS, tmp_path / "out.csv", reader=edm_table)
    assert summary.exit_code == 3
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

    with pytest.raises(ValueError, match=r"shape \(1,\), need \(4,\)"):
        score_file(mixed, {"one": one_value}, tmp_path / "out.csv", reader=edm_table)


def test_embedding_gives_smiles_a_geometry(tmp_path: Path) -> None:
    def extent(samples: Sequence[Molecule]) -> Tensor:
        return torch.tensor([float(sample.positions.std()) for sample in samples])

    (tmp_path / "in.smi").write_text("CCO\n", "utf-8")
    for embed, flat in ((False, True), (True, False)):
        score_file(tmp_path / "in.smi", {"extent": extent}, tmp_path / "out.csv", reader=edm_table, embed=embed)
        assert (float(rows_of(tmp_path / "out.csv")[0]["extent"]) == 0) is flat


def test_workers_write_the_same_table(mixed: Path, tmp_path: Path) -> None:
    score_file(mixed, DRUG_LIKENESS, tmp_path / "one.csv", reader=edm_table)
    with Pooled(QED(reader=edm_table), workers=2) as pooled:
        score_file(mixed, {"qed": pooled}, tmp_path / "two.csv", reader=edm_table)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
