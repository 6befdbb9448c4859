"""Scoring files of shapes: a row for each record, known values for known shapes, and a reason for everything else."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import complaint, molrl
from command import score_shapes as score_file
from numpy.typing import NDArray
from solids import box, cloud, sphere, table

from molrl.config import ConfigError
from molrl.data.molecules.bonds import edm_table
from molrl.data.shapes import files as meshes
from molrl.data.shapes.glb import write_glb
from molrl.data.shapes.mesh import Mesh
from molrl.data.shapes.ply import write_ply
from molrl.data.shapes.records import ShapeReader
from molrl.domains import reward_kinds
from molrl.rewards.combine import Term, WeightedSum
from molrl.rewards.molecules.qed import QED
from molrl.rewards.shapes.proportions import Proportions
from molrl.rewards.shapes.stability import StabilityMargin
from molrl.rewards.shapes.symmetry import MirrorSymmetry

pytest.importorskip("scipy")

CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 2) for z in (0, 1)], dtype=np.float64)  # 1 x 2 x 1
SIDES = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
FACES = np.array([corner for a, b, c, d in SIDES for corner in ([a, b, c], [a, c, d])])
MARGIN = StabilityMargin(plate=0.25)
COLUMN = Proportions(size=[1.0, 2.0, 1.0])


def write_off(path: Path, corners: NDArray[np.float64] = CORNERS, faces: NDArray[np.int64] = FACES) -> None:
    rows = [" ".join(map(str, row)) for row in corners.tolist()] + [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
    path.write_text(f"OFF\n{len(corners)} {len(faces)} 0\n" + "\n".join(rows), "utf-8")


def write_obj(path: Path) -> None:
    rows = [f"v {x} {y} {z}" for x, y, z in CORNERS.tolist()] + [f"f {a} {b} {c}" for a, b, c in (FACES + 1).tolist()]
    path.write_text("\n".join(rows), "utf-8")


def write_stl(path: Path) -> None:
    loops = ["\n".join(f"vertex {x} {y} {z}" for x, y, z in CORNERS[face].tolist()) for face in FACES]
    facets = [f"facet normal 0 0 0\nouter loop\n{loop}\nendloop\nendfacet" for loop in loops]
    path.write_text("\n".join(["solid box", *facets, "endsolid box"]), "utf-8")


def write_xyz(path: Path) -> None:
    np.savetxt(path, box(1, 2, 1))


WRITERS: dict[str, Callable[[Path], object]] = {
    ".off": write_off,
    ".obj": write_obj,
    ".stl": write_stl,
    ".ply": lambda path: write_ply(path, CORNERS, FACES),
    ".glb": lambda path: write_glb(path, CORNERS, FACES),
    ".xyz": write_xyz,
    ".npy": lambda path: np.save(path, box(1, 2, 1)),
    ".npz": lambda path: np.savez(path, points=box(1, 2, 1)),
}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_box_scores_the_same_in_every_format(suffix: str, tmp_path: Path) -> None:
    """A box of 1 x 2 x 1 has these proportions exactly, and stands half a half length from its edges."""
    WRITERS[suffix](tmp_path / f"box{suffix}")
    rewards = {"column": COLUMN, "margin": MARGIN}
    summary = score_file(tmp_path / f"box{suffix}", rewards, tmp_path / "out.csv")
    (row,) = rows_of(tmp_path / "out.csv")
    assert float(row["column"]) == pytest.approx(0, abs=1e-3)
    assert float(row["margin"]) == pytest.approx(0.5, abs=0.03)
    assert (row["name"], row["class"], row["reason"], row["record"]) == (f"box{suffix}", "", "", "1")
    assert 0.05 < float(row["margin.contact"]) < 0.2
    assert (summary.records, summary.failed, summary.exit_code()) == (1, 0, 0)


def test_what_is_up_in_the_file_is_a_setting(tmp_path: Path) -> None:
    write_off(tmp_path / "box.off", CORNERS[:, [0, 2, 1]], FACES)
    standing = ShapeReader(points=2048, seed=0, up="z", manifold=True)
    score_file(tmp_path / "box.off", {"column": COLUMN}, tmp_path / "z.csv", shapes=standing)
    score_file(tmp_path / "box.off", {"column": COLUMN}, tmp_path / "y.csv")
    assert float(rows_of(tmp_path / "z.csv")[0]["column"]) == pytest.approx(0, abs=1e-3)
    assert float(rows_of(tmp_path / "y.csv")[0]["column"]) == pytest.approx(-0.5, abs=0.01)  # (1, 1, 2) for (1, 2, 1)


def test_neither_the_place_of_a_shape_nor_its_size_counts(tmp_path: Path) -> None:
    for number, (size, place) in enumerate([(1.0, 0.0), (1e-3, 7.0), (2.0, 1e8)]):
        write_off(tmp_path / "box.off", CORNERS * size + place)
        score_file(tmp_path / "box.off", {"margin": MARGIN}, tmp_path / f"{number}.csv")
    values = [float(rows_of(tmp_path / f"{number}.csv")[0]["margin"]) for number in range(3)]
    assert values == pytest.approx([values[0]] * 3, abs=1e-4)


def test_a_file_of_many_shapes_has_a_row_for_each_with_its_class(tmp_path: Path) -> None:
    """A ball has a margin of 0.3 by the reward's own account, a tippy table one below 0, a line and noise none."""
    rng = np.random.default_rng(0)
    line = np.outer(np.linspace(0, 1, 2048), [1, 1, 1])
    broken = np.full((2048, 3), np.nan)
    shapes = np.stack([box(1, 1, 1), table(0.1, shift=0.3), line, broken, table(), rng.normal(size=(2048, 3))])
    labels = ["box", "table", "line", "", "=table", ""]
    np.savez(tmp_path / "after.npz", points=shapes.astype(np.float32), label=labels, reward=np.zeros(6))
    summary = score_file(tmp_path / "after.npz", {"margin": MARGIN}, tmp_path / "out.csv")
    rows = rows_of(tmp_path / "out.csv")
    assert [row["class"] for row in rows] == ["box", "table", "line", "", "'=table", ""]
    assert [row["name"] for row in rows] == [f"after.npz, shape {number}" for number in range(1, 7)]
    assert float(rows[0]["margin"]) == pytest.approx(1, abs=0.05)
    assert float(rows[1]["margin"]) < -0.1
    assert (rows[2]["margin"], rows[2]["reason"]) == ("", "collapsed: a line")
    assert (rows[3]["margin"], rows[3]["reason"]) == ("", "unreadable: non-finite coordinates")
    assert float(rows[4]["margin"]) > 0.2
    assert summary.figures["margin"].missing["unreadable: non-finite coordinates"] == 1
    assert (summary.records, summary.failed) == (6, 1)


def test_a_folder_has_a_row_for_each_file_in_order_with_the_class_of_its_folder(tmp_path: Path) -> None:
    source = tmp_path / "set"
    for label in ("table", "box", "02691156"):
        (source / label).mkdir(parents=True)
    write_off(source / "box" / "one.off")
    (source / "box" / "two.glb").write_bytes(b"not a GLB file at all")
    np.savez(source / "table" / "many.npz", points=np.stack([table(), table(0.3)]))
    write_obj(source / "02691156" / "plane.obj")
    (source / "notes.txt").write_text("passed over", "utf-8")
    summary = score_file(source, {"margin": MARGIN}, source / "out.csv")
    rows = rows_of(source / "out.csv")
    assert [(row["class"], row["name"]) for row in rows] == [
        ("airplane", "02691156/plane.obj"),
        ("box", "box/one.off"),
        ("box", "box/two.glb"),
        ("table", "table/many.npz, shape 1"),
        ("table", "table/many.npz, shape 2"),
    ]
    assert [bool(row["margin"]) for row in rows] == [True, True, False, True, True]
    assert rows[2]["reason"] == "unreadable: no GLB file of version 2"
    assert summary.exit_code() == 4
    again = score_file(source, {"margin": MARGIN}, source / "out.csv")
    assert (again.existed, again.records) == (True, 5)
    write_off(source / "box" / "three.off")
    with pytest.raises(ConfigError, match="begun with something else"):
        score_file(source, {"margin": MARGIN}, source / "out.csv")


def wing(path: Path) -> None:
    """Write a box with a sheet on one of its edges, which then has three triangles."""
    corners = np.concatenate([CORNERS, [[3.0, 3.0, 3.0]]])
    write_off(path, corners, np.concatenate([FACES, [[0, 1, 8]]]))


def holed(path: Path) -> None:
    write_off(path, np.where(CORNERS == 2, np.nan, CORNERS))


BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("wing.off", wing, "not manifold: edges of more than two triangles, 1 of them"),
    ("nan.off", holed, "non-finite coordinates"),
    ("cut.off", lambda path: path.write_text("OFF\n8 12 0\n0 0 0\n", "utf-8"), "1 lines of 3 numbers, 8 vertices"),
    ("flat.off", lambda path: write_off(path, CORNERS * 0), "no surface"),
    ("index.off", lambda path: write_off(path, CORNERS, FACES + 1), "a vertex that is not there"),
    ("empty.stl", lambda path: path.write_bytes(b""), "empty file"),
    ("nothing.obj", lambda path: path.write_text("# nothing\n", "utf-8"), "no vertices"),
    ("two.xyz", lambda path: np.savetxt(path, box(1, 1, 1)[:, :2]), "2 coordinates, need three"),
    ("four.npy", lambda path: np.save(path, np.zeros((500, 4))), "need numbers"),
    ("same.npy", lambda path: np.save(path, np.ones((500, 3))), "all points are in one place"),
    ("pickle.npy", lambda path: np.save(path, np.array([None]), allow_pickle=True), "nothing is unpickled"),
    ("damaged.npz", lambda path: path.write_bytes(b"PK\x03\x04 and no more"), "damaged"),
]


@pytest.mark.parametrize(("name", "write", "reason"), BAD, ids=[name for name, _, _ in BAD])
def test_a_bad_file_is_a_row_with_the_reason_and_never_a_value(
    name: str, write: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    rewards = {"margin": MARGIN, "column": COLUMN, "symmetry": MirrorSymmetry()}
    summary = score_file(tmp_path / name, rewards, tmp_path / "out.csv")
    (row,) = rows_of(tmp_path / "out.csv")
    assert [row["margin"], row["column"], row["symmetry"]] == ["", "", ""]
    assert row["reason"].startswith("unreadable: ")
    assert reason in row["reason"]
    assert (summary.failed, summary.exit_code()) == (1, 3)


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meshes, "MAX_BYTES", 1000)
    write_xyz(tmp_path / "box.xyz")
    score_file(tmp_path / "box.xyz", {"column": COLUMN}, tmp_path / "out.csv")
    assert rows_of(tmp_path / "out.csv")[0]["reason"] == "unreadable: more than 1000 bytes"


def test_points_that_are_too_few_for_a_reward_are_no_value(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", sphere(60))
    score_file(tmp_path / "few.npy", {"column": COLUMN}, tmp_path / "out.csv")
    (row,) = rows_of(tmp_path / "out.csv")
    assert (row["column"], row["reason"]) == ("", "too few points: 60, at least 128")


def test_what_is_not_manifold_is_scored_where_that_is_asked_for(tmp_path: Path) -> None:
    wing(tmp_path / "wing.off")
    loose = ShapeReader(points=2048, seed=0, up="y", manifold=False)
    score_file(tmp_path / "wing.off", {"column": COLUMN}, tmp_path / "out.csv", shapes=loose)
    assert -1 < float(rows_of(tmp_path / "out.csv")[0]["column"]) < -0.01


def test_edges_are_those_of_places_not_of_numbers() -> None:
    """Corners written once for each triangle, as GLB and STL have them, are one corner."""
    whole, split = Mesh(CORNERS, FACES), Mesh(CORNERS[FACES].reshape(-1, 3), np.arange(36).reshape(-1, 3))
    assert whole.count_non_manifold_edges() == split.count_non_manifold_edges() == 0
    twice = Mesh(CORNERS[FACES].reshape(-1, 3), np.concatenate([np.arange(36), np.arange(36)]).reshape(-1, 3))
    assert twice.count_non_manifold_edges() == 18
    assert twice.without_doubles().count_non_manifold_edges() == 0
    needle = Mesh(CORNERS, np.concatenate([FACES, [[0, 0, 1], [0, 0, 1], [1, 1, 0]]]))
    assert needle.count_non_manifold_edges() == 0


def test_a_combination_scores_the_kinds_of_its_parts() -> None:
    both = {"a": Term(scorer=MARGIN, weight=1.0), "b": Term(scorer=QED(reader=edm_table), weight=1.0)}
    assert reward_kinds(MARGIN) == {"shapes"}
    assert reward_kinds(WeightedSum(terms={"a": both["a"]}, floor=-1.0)) == {"shapes"}
    assert reward_kinds(WeightedSum(terms=both, floor=-1.0)) == {"shapes", "molecules"}
    assert reward_kinds(lambda samples: samples) == frozenset()


def test_a_combination_of_shape_rewards_has_a_column_for_each_part(tmp_path: Path) -> None:
    write_off(tmp_path / "box.off")
    terms = {"margin": Term(scorer=MARGIN, weight=2.0), "column": Term(scorer=COLUMN, weight=1.0)}
    score_file(tmp_path / "box.off", {"sum": WeightedSum(terms=terms, floor=-3.0)}, tmp_path / "o.csv")
    row = {name: float(cell) for name, cell in rows_of(tmp_path / "o.csv")[0].items() if name.startswith("sum")}
    assert row["sum"] == pytest.approx(2 * row["sum.margin"] + row["sum.column"], rel=1e-4)
    assert "sum.margin.contact" in row


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("box.off reward=qed", 5, "box.off scores molecules '.off' allowed .sdf"),
        ("folder reward=qed", 5, "folder scores molecules allowed .sdf"),
        ("mol.sdf reward=shape_stability", 5, "mol.sdf scores shapes '.sdf' allowed .glb folders"),
        ("missing.glb reward=shape_stability", 5, "missing.glb no such file"),
        ("folder reward=shape_stability", 5, "folder no shape files"),
        ("box.off reward=qed,shape_stability", 2, "qed scores molecules shape_stability scores shapes"),
        ("box.off reward=shape_stability embed=true", 2, "embed=true"),
        ("box.off reward=shape_stability out=x.sdf", 2, "out=x.sdf .csv .parquet"),
        ("box.off reward=shape_stability reader.up=x", 2, "reader.up 'x' 'y' 'z'"),
        ("box.off reward=shape_stability reader.points=0", 2, "reader: points 0 1 to"),
    ],
)
def test_what_cannot_be_scored_is_one_clear_line(
    arguments: str, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    write_off(tmp_path / "box.off")
    (tmp_path / "mol.sdf").write_text("x\n", "utf-8")
    said = complaint(["score", *arguments.split()], code)
    assert not [word for word in words.split() if word not in said], said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box.off", "folder", "mol.sdf"]


def test_the_command_scores_points_or_molecules_of_xyz_as_the_reward_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_xyz(tmp_path / "box.xyz")
    (tmp_path / "water.xyz").write_text("3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n", "utf-8")
    assert molrl("score", "box.xyz", "reward=shape_size").code == 0
    assert molrl("score", "water.xyz", "reward=qed", "reward.workers=0").code == 0
    (box_row,), (water_row,) = rows_of(tmp_path / "box.xyz.shape_size.csv"), rows_of(tmp_path / "water.xyz.qed.csv")
    assert float(box_row["shape_size"]) == pytest.approx(0, abs=1e-3)
    assert (water_row["smiles"], bool(water_row["qed"])) == ("O", True)
    shown = molrl("score", "water.xyz", "reward=shape_size")
    assert shown.code == 3
    assert "1 unreadable: not numbers (a point)" in shown.out


def test_the_table_of_a_folder_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    write_off(tmp_path / "set" / "box.off")
    shown = molrl("score", "set/", "reward=shape_stability", "reward.workers=1")
    assert shown.code == 0, shown
    (row,) = rows_of(tmp_path / "set.shape_stability.csv")
    assert float(row["shape_stability"]) == pytest.approx(0.5, abs=0.03)


def test_the_class_that_is_scored_is_that_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    points = np.stack([cloud(table()).points] * 3)
    np.savez(tmp_path / "in.npz", points=points, label=["table", "airplane", "spoon"])
    assert molrl("score", "in.npz", "reward=shape_class").code == 4
    first, second, third = rows_of(tmp_path / "in.npz.shape_class.csv")
    assert float(first["shape_class"]) > float(second["shape_class"])
    assert third["shape_class"] == ""
    assert "'spoon'" in third["reason"]
