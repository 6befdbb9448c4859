"""Evaluating sets of shapes: known metrics come out, and missing ones are named with the reason."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import complaint, molrl
from numpy.typing import NDArray
from solids import box, cloud, sphere, table

from molrl.data.shapes.cloud import place_in_unit_box
from molrl.data.shapes.metrics import chamfer, chamfer_matrix
from molrl.domains import domain_of_file
from molrl.models.shapes.recognition import count_recognised
from molrl.rewards.shapes.exam import Exam

pytest.importorskip("scipy")

QUICK = ("metrics.workers=0", "metrics.compared=128", "metrics.most=24", "metrics.seeds=2", "metrics.seconds=1.0")


def family(count: int, seed: int, points: int = 256) -> NDArray[np.float32]:
    """Return boxes of random proportions [count, points, 3]."""
    rng = np.random.default_rng(seed)
    edges = rng.uniform(0.3, 1, (count, 3)).tolist()
    made = [box(w, h, d, points, int(rng.integers(1 << 30))) for w, h, d in edges]
    return np.stack([place_in_unit_box(each.astype(np.float32)) for each in made])


def saved(path: Path, points: NDArray[np.floating], label: str | list[str] = "box") -> str:
    labels = [label] * len(points) if isinstance(label, str) else label
    np.savez(path, points=points.astype(np.float32), label=labels)
    return str(path)


def evaluated(tmp_path: Path, file: str, *settings: str) -> tuple[dict[str, Any], str]:
    """Return the figures of a file, and the output."""
    shown = molrl("evaluate", file, f"out={tmp_path / 'out.json'}", "overwrite=true", *QUICK, *settings)
    assert shown.code == 0, shown
    return json.loads((tmp_path / "out.json").read_text()), shown.out


@pytest.fixture
def real(tmp_path: Path) -> str:
    return saved(tmp_path / "real.npz", family(24, 0))


def test_another_sampling_cannot_be_told_apart_while_copies_and_collapse_can(tmp_path: Path, real: str) -> None:
    fresh, shown = evaluated(tmp_path, saved(tmp_path / "fresh.npz", family(24, 1)), f"reference={real}")
    copies, _ = evaluated(tmp_path, real, f"reference={real}")
    same = saved(tmp_path / "same.npz", np.stack([box(1, 1, 1, 256, seed) for seed in range(24)]))
    collapsed, _ = evaluated(tmp_path, same, f"reference={real}")
    assert 0.3 < fresh["one_nna"] < 0.7
    assert copies["one_nna"] < 0.1
    assert collapsed["one_nna"] > 0.85
    assert copies["nearest"] < fresh["nearest"] / 2
    # two draws of 128 points on a surface of 24 are 24/(128 pi) apart, squared, in each direction
    assert collapsed["diversity"] == pytest.approx(2 * 24 / (128 * np.pi), rel=0.1)
    assert fresh["diversity"] > 1.5 * collapsed["diversity"]
    assert collapsed["coverage"] < fresh["coverage"] < copies["coverage"]
    assert fresh["protocol"] == {
        **{"compared": 24, "points": 128, "seeds": 2, "matched": "of the same classes", "normalise": "shape_bbox"},
        **{"distances": ["chamfer"], "reference": real, "up": "y"},
    }
    assert "24 samples against as many of" in shown
    assert "128 points each, in the unit box; seeds 0 to 1" in shown
    assert "Compare only with scores of the same protocol" in shown
    assert fresh["one_nna_sd"] >= 0


def test_what_stands_and_what_is_symmetric_is_counted(tmp_path: Path, real: str) -> None:
    """Three boxes stand, a table far from its feet falls, noise in pieces is no shape, a bad record is no sample."""
    pytest.importorskip("mujoco")
    halves = np.concatenate([sphere(1024), sphere(1024, seed=1) + 9])
    broken = np.full((2048, 3), np.inf)
    shapes = [box(1, 1, 1), box(1, 0.8, 1), box(0.8, 1, 0.8), table(0.1, shift=0.3), halves, broken]
    found, shown = evaluated(tmp_path, saved(tmp_path / "in.npz", np.stack(shapes)), f"reference={real}")
    assert (found["n"], found["shapes"]) == (6, 5)
    assert found["validity"] == pytest.approx(4 / 6)
    assert found["stands"] == pytest.approx(3 / 5)
    assert found["balanced"] == pytest.approx(3 / 5)
    assert "1 skipped (1 non-finite coordinates" in shown
    assert "no sound shape: 1 in pieces" in shown


def test_one_shape_is_measured_as_the_rewards_have_it() -> None:
    """A box is its own mirror image but for the choice of points, a box with one arm is not."""
    exam = Exam(plate=0.25, seconds=None)
    plain = exam(cloud(box(1, 1, 1)))
    arm = exam(cloud(np.concatenate([box(1, 1, 1), box(0.6, 0.1, 0.1, 400) + np.array([0.8, 0, 0])])))
    assert plain.flaw == arm.flaw == ""
    assert plain.margin == pytest.approx(1, abs=0.05)
    assert np.isnan(plain.tilt)
    assert plain.asymmetry < 0.002
    assert arm.asymmetry > 0.01
    assert plain.sdi == pytest.approx(0.004, abs=0.004)
    assert arm.sdi > 2 * arm.asymmetry
    assert exam(cloud(sphere(40))).flaw == "too few points: 40, at least 128"


def test_classes_that_are_not_known_are_compared_with_all_and_that_is_said(tmp_path: Path, real: str) -> None:
    found, shown = evaluated(tmp_path, saved(tmp_path / "in.npz", family(8, 1), "spoon"), f"reference={real}")
    assert found["protocol"]["matched"] == "of any class, as the samples' ('spoon') are not known there"
    assert found["protocol"]["compared"] == 8
    assert (found["recognised"], found["recognised_of"]) == (None, 0)
    assert "no sample has a class that shape_judge knows" in shown


def test_samples_meet_references_of_their_class_only(tmp_path: Path) -> None:
    both = np.concatenate([family(8, 0), np.stack([sphere(256, seed) for seed in range(8)])])
    real = saved(tmp_path / "real.npz", both, ["box"] * 8 + ["ball"] * 8)
    balls = saved(tmp_path / "balls.npz", np.stack([sphere(256, seed) for seed in range(20, 36)]), "ball")
    found, _ = evaluated(tmp_path, balls, f"reference={real}")
    assert found["protocol"]["compared"] == 8
    # points of one ball are 4/n from the nearest of another, squared and on the average; a box is farther away
    assert found["mmd"] == pytest.approx(2 * 4 / 128, rel=0.15)


def test_the_held_out_shapes_of_the_shipped_model_are_the_references_by_default(tmp_path: Path) -> None:
    points = np.stack([table(count=256, seed=seed) for seed in range(4)])
    found, shown = evaluated(tmp_path, saved(tmp_path / "in.npz", points, "table"), "metrics.emd=true")
    assert (found["protocol"]["reference"], found["protocol"]["compared"]) == ("shapes", 4)
    assert found["recognised"] == 1
    assert found["recognised_of"] == 4
    assert 0 < found["mmd"] < found["emd_mmd"] < 1  # squared distances below 1 and plain ones
    assert "emd_one_nna" in shown


def test_the_second_classifier_takes_nothing_unsound_for_a_shape() -> None:
    line = cloud(np.outer(np.linspace(0, 1, 300), [1, 1, 1]), "table")
    assert count_recognised(
        [cloud(table(), "table"), cloud(table(), "airplane"), line, cloud(table())], "shape_judge"
    ) == (
        3,
        1,
    )


def test_distances_between_sets_are_those_of_each_pair() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((5, 40, 3)), rng.random((700, 60, 3))
    square = np.square(first[:, None, :, None] - second[None, :3, None]).sum(-1)
    found = chamfer_matrix(first, second)
    np.testing.assert_allclose(found[:, :3], square.min(3).mean(2) + square.min(2).mean(2), rtol=1e-9)
    assert found[4, 699] == pytest.approx(chamfer(first[4], second[699]))
    assert chamfer(first[0] + 1e3, first[0] + 1e3) == pytest.approx(0, abs=1e-8)


def test_what_a_file_holds_is_told_from_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "molecules.npz", R=np.zeros((1, 3, 3)), Z=np.zeros((1, 3)))
    saved(tmp_path / "shapes.npz", family(1, 0))
    (tmp_path / "broken.npz").write_text("no archive", "utf-8")
    kinds = {name: domain_of_file(tmp_path / name).name for name in ("molecules.npz", "broken.npz", "x.xyz", "x.sdf")}
    assert set(kinds.values()) == {"molecules"}
    assert {domain_of_file(tmp_path / name).name for name in ("shapes.npz", "x.glb", "x.npy", ".")} == {"shapes"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("in.npz reference=nowhere", 5, "reference=nowhere neither a model"),
        ("in.npz reference=qm9_heavy", 5, "a model of molecules one of shapes"),
        ("in.npz metrics.judge=shapes", 5, "shapes a model of shapes one of shape classifier"),
        ("in.npz metrics.compared=3", 2, "compared 3 at least 128"),
        ("in.npz domain=images", 5, "in.npz no table of captions"),
        ("missing.glb", 5, "missing.glb no such file"),
        ("x.sdf domain=shapes", 5, "x.sdf '.sdf' .glb"),
    ],
)
def test_what_cannot_be_evaluated_is_one_clear_line(
    arguments: str, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "in.npz", family(2, 0))
    said = complaint(
        ["evaluate", *arguments.split(), *(() if "compared" in arguments or "images" in arguments else QUICK)], code
    )
    assert not [word for word in words.split() if word not in said], said


def test_a_file_without_a_shape_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "x.off").write_text("not a mesh", "utf-8")
    shown = molrl("evaluate", str(tmp_path / "x.off"), *QUICK)
    assert shown.code == 3
    assert "0 shapes, 1 skipped (1 no OFF file" in shown.out
