"""The point classifier and the reward made of it: invariances, sensitivities and refusals."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from solids import Points, box, cloud, sphere, table
from torch.testing import assert_close

from molrl.data.shapes.cloud import PointCloud, TracedPointCloud, place_in_unit_box
from molrl.models.shapes.classifier import ClassifierDesign, load_classifier, save_classifier, stack_point_clouds
from molrl.models.shapes.classifier_training import no_shape, report, to_unit_boxes, train_classifier
from molrl.rewards.shapes.class_probability import ClassProbability
from molrl.runs.errors import CheckpointError

pytest.importorskip("scipy")

SHAPES: dict[str, Callable[..., Points]] = {"ball": sphere, "table": table}


def labelled(label: str, seed: int, count: int = 256) -> PointCloud:
    return cloud(place_in_unit_box(SHAPES[label](count=count, seed=seed).astype(np.float32)), label)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Train a classifier of balls and tables for a few steps."""
    clouds = [labelled(label, seed) for seed in range(20) for label in SHAPES]
    network = train_classifier(clouds, layout="wide", steps=100, seed=0, max_points=128)
    folder = tmp_path_factory.mktemp("classifier") / "weights"
    save_classifier(folder, network)
    return str(folder)


def stack(clouds: list[PointCloud]) -> torch.Tensor:
    return stack_point_clouds([torch.from_numpy(one.points) for one in clouds]).float()


def reward(weights: str, wanted: str | dict[str, str] | None = None) -> ClassProbability:
    return ClassProbability(wanted=wanted, weights=weights)


@pytest.mark.parametrize(("name", "judge"), [("shape_classifier", "shape_judge"), ("shape_kinds", "shape_kind_judge")])
def test_a_shipped_classifier_has_a_judge_that_knows_its_classes_by_other_weights(name: str, judge: str) -> None:
    own = ClassProbability(wanted=None, weights=name).held_out_reward
    assert own is not None
    assert (own.weights, own.held_out_reward) == (judge, None)
    assert list(own.classes) == list(ClassProbability(wanted=None, weights=name).classes)
    table = [labelled("table", 0)]
    assert own.classifier(stack(table)).ne(load_classifier(name)(stack(table))).any()


def test_a_moment_of_training_tells_balls_tables_and_noise_apart(weights: str) -> None:
    lines = report(load_classifier(weights), [labelled(label, 99) for label in SHAPES], 200).splitlines()
    assert lines[0] == "noise 0.00: accuracy 1.000"


@pytest.mark.parametrize("name", ["shape_classifier", "shape_judge"])
def test_pure_noise_is_no_shape(name: str) -> None:
    """A classifier of clean shapes alone calls it a chair, with a probability of 0.99."""
    blobs = torch.from_numpy(to_unit_boxes(np.random.default_rng(0).standard_normal((50, 300, 3)))).float()
    for count in (128, 300):
        assert load_classifier(name)(blobs[:, :count]).exp()[:, -1].mean() > 0.8


@pytest.mark.parametrize("name", ["shape_classifier", "shape_judge"])
def test_a_table_is_a_table(name: str) -> None:
    tables = [cloud(table(foot, count=512, seed=seed), "table") for seed, foot in enumerate((0.35, 0.4, 0.45))]
    assert (reward(name)(tables) > math.log(0.5)).all()
    assert (reward(name, "airplane")(tables) < math.log(0.2)).all()


def test_probabilities_sum_to_one_whatever_the_order_and_repetitions(weights: str) -> None:
    network = load_classifier(weights)
    points = torch.from_numpy(labelled("table", 1).points)
    found = network(points[None])
    assert found.exp().sum().item() == pytest.approx(1)
    assert_close(network(points[torch.randperm(len(points))][None]), found)
    assert_close(network(stack_point_clouds([points, torch.cat([points, points])])), found.expand(2, -1))


def test_each_sample_is_asked_for_its_own_class_or_for_the_one_that_is_named(weights: str) -> None:
    ball, shape = labelled("ball", 7), labelled("table", 7)
    own = reward(weights)([ball, shape])
    assert (own > math.log(0.5)).all()
    named = reward(weights, "ball")([ball, shape])
    assert_close(named[0], own[0])
    assert named[1] < -2


def test_values_do_not_depend_on_the_batch_the_order_the_place_or_the_size(weights: str) -> None:
    samples = [labelled("ball", 1), labelled("table", 2, 400), labelled("table", 3)]
    values = reward(weights)(samples)
    assert values.dtype == torch.float32
    assert_close(reward(weights)(samples[::-1]), values.flip(0))
    order = np.random.default_rng(0).permutation(400)
    moved = PointCloud(samples[1].points[order] * 7 + 3, "table")
    assert reward(weights).score_one(moved).value == pytest.approx(values[1].item(), abs=1e-4)
    assert reward(weights)([]).shape == (0,)


def test_bad_samples_get_the_floor_and_unlabelled_ones_no_value(weights: str) -> None:
    found = reward(weights).score(
        [labelled("ball", 1), cloud(sphere(20), "ball"), cloud(sphere(300)), labelled("table", 1)]
    )
    assert found.scored[1] == (-20, "too few points: 20, at least 128")
    assert math.isnan(found.values[2])
    assert found.reasons[2].startswith("error: class: got ''")
    assert found.counts() == {"ok": 2, "too few points": 1, "error": 1}


def test_less_than_a_higher_floor_counts_the_same_and_has_no_slope(weights: str) -> None:
    points = torch.from_numpy(labelled("table", 7).points).requires_grad_()
    lifted = replace(reward(weights, "ball"), floor=-1.5)
    assert reward(weights, "ball").score_one(labelled("table", 7)).value < -2
    assert lifted.score_one(labelled("table", 7)).value == -1.5
    assert lifted.score_one(labelled("ball", 7)) == reward(weights).score_one(labelled("ball", 7))
    assert lifted.score_one(cloud(sphere(20), "ball")).value == -1.5
    (slope,) = torch.autograd.grad(lifted([TracedPointCloud(points, "table")]).sum(), points)
    assert (slope == 0).all()


def test_another_class_may_be_wanted_for_each_label(weights: str) -> None:
    crossed = reward(weights, {"ball": "table", "table": "ball"})
    for wanted, label in (("table", "ball"), ("ball", "table")):
        assert crossed.score_one(labelled(label, 3)) == reward(weights, wanted).score_one(labelled(label, 3))
    missing = reward(weights, {"ball": "table"}).score_one(labelled("table", 3))
    assert math.isnan(missing.value)
    assert "'table', wanted has only ball" in missing.reason
    with pytest.raises(ValueError, match="class: got 'cube'"):
        reward(weights, {"ball": "cube"})


def test_traced_clouds_have_the_same_values_and_a_gradient_that_leads_uphill(weights: str) -> None:
    points = torch.from_numpy(labelled("table", 3).points).requires_grad_()
    judged = reward(weights, {"table": "ball"})
    bad = [TracedPointCloud(torch.full((200, 3), number), "table") for number in (0.0, torch.nan)]
    value = judged([TracedPointCloud(points, "table"), *bad])
    assert value[0].item() == pytest.approx(judged.score_one(labelled("table", 3)).value, abs=1e-5)
    assert value[1] == -20
    assert value[2].isnan()
    (gradient,) = torch.autograd.grad(value[0], points)
    assert judged([TracedPointCloud(points + 0.02 * gradient / gradient.norm(dim=1).max(), "table")]) > value[0]


def test_what_is_no_shape_is_drawn_in_all_its_kinds() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([no_shape(box(1, 1, 1, 200), rng) for _ in range(40)])
    assert drawn.shape == (40, 200, 3)
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda weights: reward(weights, "chair"), "class: got 'chair', .* has ball, table"),
        (lambda _: reward("none", "chair"), "no such model"),
        (lambda weights: replace(reward(weights), floor=0.0), "floor: got 0.0, need a finite number below 0"),
        (lambda weights: replace(reward(weights), floor=-math.inf), "floor: got -inf"),
        (lambda _: reward("qm9_heavy", "chair"), "one of shape classifier"),
        (lambda _: train_classifier([labelled("ball", 0)], layout="small", steps=1, seed=0), "need at least two"),
        (lambda _: ClassifierDesign(classes=["a"], widths=[0], hidden=3), r"widths \[0\]"),
    ],
)
def test_what_cannot_be_is_one_clear_error(weights: str, wrong: Callable[[str], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong(weights)


def test_a_damaged_classifier_is_refused(weights: str, tmp_path: Path) -> None:
    network = load_classifier(weights)
    save_classifier(tmp_path / "x", network)
    text = (tmp_path / "x/model.json").read_text()
    (tmp_path / "x/model.json").write_text(text.replace('"hidden": 96', '"hidden": 97'))
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_classifier(str(tmp_path / "x"))
