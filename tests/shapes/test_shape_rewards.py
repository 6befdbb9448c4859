"""Rewards of shapes: values known in closed form, invariances, floors with a reason, and robustness to tricks."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from solids import Points, box, boxes, cloud, sphere, table, table_margin
from toy import Clouds, cloud_task, learner

from molrl.algos.rgdm import RGDM
from molrl.data.shapes.cloud import TracedPointCloud
from molrl.data.shapes.procedural import Procedural
from molrl.gaussian import Context
from molrl.models.shapes.checks import MAX_ASYMMETRY
from molrl.noise import Key
from molrl.rewards.scores import category
from molrl.rewards.shapes.body import MAX_POINTS, MIN_POINTS, DifferentiableReward, PointCloudReward, body_of
from molrl.rewards.shapes.chamfer import Likeness
from molrl.rewards.shapes.compactness import Compactness
from molrl.rewards.shapes.proportions import Proportions
from molrl.rewards.shapes.smoothness import Smoothness
from molrl.rewards.shapes.stability import StabilityMargin
from molrl.rewards.shapes.symmetry import MirrorSymmetry, mirror_plane, sampling_distance

pytest.importorskip("scipy")

MARGIN = StabilityMargin(plate=0.25)
CUBE = Path(__file__).parents[1] / "data/cube.off"
DIFFERENTIABLE: list[DifferentiableReward] = [
    MARGIN,
    MirrorSymmetry(),
    Proportions(size=[1, 2, 1]),
    Smoothness(),
    Likeness(target=cloud(sphere(500))),
]
REWARDS: list[PointCloudReward] = [Compactness(), *DIFFERENTIABLE]
SHAPES = {"box": box(1, 2, 3), "table": table(), "tippy": table(0.1, 0.3), "few": table(count=512), "ball": sphere()}

each_reward = pytest.mark.parametrize("reward", REWARDS, ids=lambda reward: type(reward).__name__)
each_differentiable = pytest.mark.parametrize("reward", DIFFERENTIABLE, ids=lambda reward: type(reward).__name__)


def value(reward: PointCloudReward, points: Points) -> float:
    """Return the value of a sound sample."""
    scored = reward.score_one(cloud(points))
    assert scored.reason == ""
    return scored.value


def oblique(shear: float) -> Points:
    """Return a unit cube whose top is moved aside."""
    points = box(1, 1, 1, 4000)
    return points + np.outer(points[:, 1] + 0.5, [shear, 0, 0])


# golden values


def test_a_cube_stands_as_firmly_as_it_is_wide() -> None:
    assert value(MARGIN, box(1, 1, 1)) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("shear", [0.0, 0.4, 0.8, 1.2, 1.5])
def test_the_margin_of_an_oblique_prism(shear: float) -> None:
    """Its centre is above shear / 2, its base ends at 1 / 2; its box is 1 + shear long."""
    expected = min((0.5 - shear / 2), 0.5) * 2 / (1 + shear)
    assert value(MARGIN, oblique(shear)) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(("foot", "shift"), [(0.45, 0), (0.3, 0), (0.15, 0), (0.25, 0.2), (0.15, 0.3), (0.1, -0.35)])
@pytest.mark.parametrize("seed", range(3))
def test_the_margin_of_a_table_whose_feet_are_moved(foot: float, shift: float, seed: int) -> None:
    assert value(MARGIN, table(foot, shift, seed=seed)) == pytest.approx(table_margin(foot, shift), abs=0.08)


def test_a_margin_is_rewarded_up_to_its_maximum() -> None:
    wide, narrow = table(0.45, 0), oblique(1.2)
    limited = StabilityMargin(plate=0.25, enough=0.2)
    assert value(MARGIN, wide) > 0.5
    assert value(limited, wide) == 0.2
    assert value(limited, narrow) == value(MARGIN, narrow) < 0


def test_wings_close_above_the_floor_support_and_are_no_base_plate() -> None:
    """An airplane on its belly tips by a few degrees, until a wing meets the floor."""
    belly, wings = ((-0.06, 0.0, -1.0), (0.06, 0.12, 1.0)), ((-0.8, 0.05, -0.15), (0.8, 0.08, 0.15))
    assert value(MARGIN, boxes([belly, wings], 2048)) > 0.2
    assert value(StabilityMargin(plate=0.5), boxes([belly], 2048)) == pytest.approx(0.06, abs=0.02)


def test_a_ball_is_as_compact_as_can_be_and_a_box_as_its_volume_and_area_say() -> None:
    assert value(Compactness(), sphere()) == pytest.approx(1, abs=0.005)
    assert value(Compactness(), box(1, 1, 1)) == pytest.approx(math.pi / 6, rel=1e-5)
    assert value(Compactness(), box(1, 2, 3)) == pytest.approx(36 * math.pi * 6**2 / 22**3, rel=1e-5)


def test_the_asymmetry_of_a_fin() -> None:
    """A fin of height h on one half of a box has its mirror image on the lid, h^2 / 3 away in the mean square."""
    height, length, width = 0.5, 4.0, 1.0
    points = boxes([((-2, -1, -1), (2, 1, 1)), ((0.999, 1, -0.5), (1.001, 1 + height, 0.5))], 20_000)
    fin = 2 * height * width / (2 * length * 2 * 2 + 2 * 2 * 2 + 2 * height * width)
    expected = fin * height**2 / 3 * (2 / length) ** 2
    assert value(MirrorSymmetry(), points) ** 2 == pytest.approx(expected, rel=0.25)


def test_a_shape_with_its_mirror_image_is_symmetric() -> None:
    half = table(0.2, 0.25)
    assert value(MirrorSymmetry(), half) < -0.15
    assert value(MirrorSymmetry(), np.concatenate([half, half * [-1, 1, 1]])) == 0


@pytest.mark.parametrize("count", [256, 2048])
def test_the_mirror_is_where_the_shape_comes_closest_to_its_image(count: int) -> None:
    """Not in the middle of its box: a few points beyond one edge of the lid move that, and no part of the table."""
    points = table(count=count)
    tip = np.stack([np.linspace(0.5, 0.6, 8), np.full(8, 0.7), np.zeros(8)], axis=1)
    longer = np.concatenate([points, tip])
    assert mirror_plane(longer) == pytest.approx(0, abs=0.01)
    assert mirror_plane(longer + np.array([0.1, 0, 0])) == pytest.approx(0.1, abs=0.01)
    assert value(MirrorSymmetry(), longer) > -0.022


@pytest.mark.parametrize("family", ["airplane", "chair", "table"])
def test_lopsided_shapes_are_told_from_sound_ones(family: str) -> None:
    """By the check of the task at 256 points; the truth is known from how the shapes were made."""
    sets = [Procedural(families=(family,), split="test", tippy=0.0, asymmetric=share) for share in (0.0, 1.0)]
    found = [
        [MirrorSymmetry().score_one(shapes.point_cloud(row, 256)).value ** 2 for row in range(40)] for shapes in sets
    ]
    sound, lopsided = (np.mean([far < MAX_ASYMMETRY for far in every]) for every in found)
    assert sound > 0.8
    assert lopsided < 0.1


@pytest.mark.parametrize("count", [256, 512, 2048])
@pytest.mark.parametrize("shape", [sphere, table])
def test_the_chance_of_sampling_is_no_asymmetry(shape: Callable[..., Points], count: int) -> None:
    shapes = [shape(count=count, seed=seed) for seed in range(8)]
    mean = float(np.mean([value(MirrorSymmetry(), points) ** 2 for points in shapes]))
    assert mean < 0.1 * sampling_distance(body_of(shapes[0]).points)
    assert value(MirrorSymmetry(), table(legs=3, count=count)) ** 2 > max(5 * mean, 0.01)


@pytest.mark.parametrize(
    ("wanted", "missed"), [((2, 4, 1), 0.0), ((1, 1, 1), 0.25 + 0.5625), ((1, 2, 1), 0.0625), ((4, 2, 4), 1.0625)]
)
def test_the_proportions_of_a_box(wanted: tuple[float, float, float], missed: float) -> None:
    assert value(Proportions(size=wanted), box(1, 2, 0.5)) == pytest.approx(-missed, abs=1e-6)


def test_planes_and_balls_are_smooth_and_clouds_that_fill_a_space_are_not() -> None:
    plane = np.random.default_rng(0).random((2048, 3)) * [1, 1, 0]
    gauss = np.random.default_rng(0).normal(size=(2048, 3))
    assert value(Smoothness(), plane) == pytest.approx(1, abs=1e-6)
    assert value(Smoothness(), sphere()) > 0.99
    assert value(Smoothness(), gauss) < 0.5
    rough = [
        value(Smoothness(), sphere() * (1 + np.random.default_rng(1).normal(0, s, (2048, 1)))) for s in (0, 0.02, 0.05)
    ]
    assert rough[0] > rough[1] + 0.02 > rough[2] + 0.04


def test_likeness_is_minus_the_chamfer_distance() -> None:
    points, wanted = table(count=300), sphere(400)
    body = body_of(points).points
    square = np.square(body[:, None] - body_of(wanted).points[None]).sum(-1)
    expected = square.min(1).mean() + square.min(0).mean()
    assert value(Likeness(target=cloud(wanted)), points) == pytest.approx(-expected, rel=1e-5)
    assert value(Likeness(target=cloud(wanted)), wanted * 3 + 1) == pytest.approx(0, abs=1e-9)


def test_a_target_may_be_a_file() -> None:
    reward = Likeness(target=str(CUBE))
    assert value(reward, box(1, 1, 1)) > -0.015
    assert value(reward, table()) < value(reward, sphere()) < -0.05


# invariances


@each_reward
@pytest.mark.parametrize("points", SHAPES.values(), ids=SHAPES)
def test_neither_order_nor_place_nor_size_change_the_value(reward: PointCloudReward, points: Points) -> None:
    expected = value(reward, points)
    order = np.random.default_rng(1).permutation(len(points))
    assert value(reward, points[order]) == pytest.approx(expected, abs=1e-6)
    assert value(reward, points * 40 + [3, -5, 7]) == pytest.approx(expected, abs=1e-3)


@each_reward
def test_the_order_of_many_points_changes_nothing_either(reward: PointCloudReward) -> None:
    points = table(count=MAX_POINTS + 1000)
    order = np.random.default_rng(1).permutation(len(points))
    assert value(reward, points[order]) == pytest.approx(value(reward, points), abs=1e-6)


@each_reward
def test_one_float32_for_each_sample_in_its_order(reward: PointCloudReward) -> None:
    samples = [cloud(points) for points in SHAPES.values()]
    values = reward(samples)
    assert (values.shape, values.dtype) == ((len(samples),), torch.float32)
    torch.testing.assert_close(reward(samples[::-1]), values.flip(0))
    assert reward([]).shape == (0,)


# bad samples


@each_reward
@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (sphere(MIN_POINTS - 1), "too few points: 127, at least 128"),
        (np.zeros((200, 3)), "collapsed: all points in one place"),
        (box(1, 1, 1, 8).repeat(100, 0), "collapsed: most points coincide"),
        (np.random.default_rng(0).normal(size=(500, 3)) * [1, 0.03, 0.03], "collapsed: a line"),
        (np.concatenate([sphere(1000), sphere(1000) + 5]), "in pieces: 2, the largest has 50% of the points"),
    ],
)
def test_a_bad_cloud_gets_the_floor_and_a_reason(reward: PointCloudReward, points: Points, reason: str) -> None:
    scored = reward.score_one(cloud(points))
    assert scored.value == reward.floor
    assert scored.reason.startswith(reason)


@pytest.mark.parametrize(
    ("reward", "points", "reason"),
    [
        (MARGIN, box(2, 0.02, 2), "base plate"),
        (MARGIN, np.random.default_rng(0).normal(size=(2048, 3)) * [1, 0, 1], "base plate"),
        (MARGIN, np.random.default_rng(0).random((2048, 3)) * [1, 1, 0], "no footing"),
        (MirrorSymmetry(), box(0.04, 1, 1), "flat"),
        (Compactness(), np.random.default_rng(0).normal(size=(2048, 3)) * [1, 0, 1], "flat"),
    ],
)
def test_what_one_reward_finds_bad(reward: PointCloudReward, points: Points, reason: str) -> None:
    scored = reward.score_one(cloud(points))
    assert (scored.value, category(scored.reason)) == (reward.floor, reason)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda: StabilityMargin(plate=0), "plate: got 0"),
        (lambda: StabilityMargin(plate=0.25, enough=0.0), "enough: got 0.0"),
        (lambda: MirrorSymmetry(floor=math.nan), "floor: got nan"),
        (lambda: MirrorSymmetry(sound=0.0), "sound: got 0.0, need a positive number or null"),
        (lambda: MirrorSymmetry(sound=math.inf), "sound: got inf"),
        (lambda: MirrorSymmetry(sound=math.nan), "sound: got nan"),
        (lambda: Proportions(size=[1, 2]), "size: got .1, 2.*three positive numbers"),
        (lambda: Proportions(size=[1, 0, 2]), "size"),
        (lambda: Likeness(target=cloud(sphere(20))), "target: too few points: 20"),
        (lambda: Likeness(target="none.off"), "none.off: no such file"),
        (lambda: Likeness(target="x.pkl"), "unknown suffix"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(wrong: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        wrong()


# tricks


@pytest.mark.parametrize("strays", [20, 60])
def test_stray_points_on_the_floor_hold_nothing_up(strays: int) -> None:
    """For the plain margin twenty are enough to turn every tippy shape stable."""
    rng = np.random.default_rng(0)
    for seed in range(10):
        points = table(0.08, 0.3, seed=seed)
        assert value(MARGIN, points) < 0
        points[:strays] = rng.uniform([-0.5, 0, -0.35], [0.5, 0, 0.35], (strays, 3))
        assert value(MARGIN, points) < 0


def test_neither_a_ring_around_a_shape_nor_one_point_below_it_moves_its_margin() -> None:
    points, angle = table(0.3), np.linspace(0, 2 * np.pi, 41)
    expected = value(MARGIN, points[42:])
    points[:41] = 0.6 * np.stack([np.cos(angle), np.zeros(41), np.sin(angle)], 1)
    points[41] = [0, -2, 0]
    assert value(MARGIN, points) == pytest.approx(expected, abs=1e-3)


@each_reward
def test_a_few_far_points_change_no_reward_much(reward: PointCloudReward) -> None:
    points = table()
    expected = value(reward, points)
    points[:6] = [[9, 0, 0], [-9, 0, 0], [0, 9, 0], [0, -9, 0], [0, 0, 9], [0, 0, -9]]
    assert value(reward, points) == pytest.approx(expected, abs=0.02)
    assert body_of(points).strays == pytest.approx(6 / 2048)


def test_strays_are_rough() -> None:
    points = sphere()
    points[:100] *= 3
    assert value(Smoothness(), points) < 0.96


def test_the_margin_comes_with_its_parts() -> None:
    scored: Any = MARGIN.score_one(cloud(box(1, 1, 1)))
    assert scored.parts["contact"] == pytest.approx(1 / 6, abs=0.03)
    assert scored.parts["strays"] == 0


# gradients


@each_differentiable
@pytest.mark.parametrize("points", SHAPES.values(), ids=SHAPES)
def test_a_traced_cloud_has_the_value_of_its_numbers(reward: DifferentiableReward, points: Points) -> None:
    values = reward([TracedPointCloud(torch.from_numpy(points).float())])
    torch.testing.assert_close(values, reward([cloud(points)]), atol=2e-6, rtol=1e-5)


@each_differentiable
def test_the_gradient_is_the_slope_of_the_value(reward: DifferentiableReward) -> None:
    rng = np.random.default_rng(0)
    numbers = table(0.2, 0.2, count=400) + rng.normal(0, 0.01, (400, 3))
    points = torch.from_numpy(numbers).requires_grad_()
    (gradient,) = torch.autograd.grad(reward([TracedPointCloud(points)]).sum(), points)
    direction, step = rng.normal(size=(400, 3)), 1e-7

    def moved(way: float) -> float:
        body = body_of(numbers + way * direction)
        value = reward.measure(body).value
        if isinstance(reward, MirrorSymmetry):  # the sampling distance is a constant of the gradient
            return -float(
                (value**2 + sampling_distance(body.points) - sampling_distance(body_of(numbers).points)) ** 0.5
            )
        return value

    slope = (moved(step) - moved(-step)) / (2 * step)
    assert (gradient.numpy() * direction).sum() == pytest.approx(slope, rel=1e-3, abs=1e-6)
    assert gradient.norm() > 0


@pytest.mark.parametrize("points", [oblique(0.5), table(0.2, 0.2), table(legs=3), sphere()])
def test_symmetry_counted_in_logarithms(points: Points) -> None:
    """-log(d / s) of a distance d beyond s, with the slope of the distance over d; 0 and no slope below s."""
    sound, traced = 0.05, torch.from_numpy(points).requires_grad_()
    far, logarithm = (
        r([TracedPointCloud(traced)]) for r in (MirrorSymmetry(), MirrorSymmetry(sound=sound, floor=-9.0))
    )
    slope, logarithmic = (torch.autograd.grad(v.sum(), traced)[0] for v in (far, logarithm))
    times = -far.item() / sound
    assert logarithm.item() == pytest.approx(-math.log(max(times, 1.0)), abs=1e-5)
    torch.testing.assert_close(logarithmic, slope / -far.item() if times > 1 else torch.zeros_like(slope))
    assert logarithm.item() == pytest.approx(value(MirrorSymmetry(sound=sound, floor=-9.0), points), abs=1e-5)


@each_differentiable
def test_walking_uphill_raises_the_value(reward: DifferentiableReward) -> None:
    points = torch.from_numpy(table(0.2, 0.2, count=512)).float()
    values = []
    for _ in range(20):
        points = points.detach().requires_grad_()
        reached = reward([TracedPointCloud(points)])
        (gradient,) = torch.autograd.grad(reached.sum(), points)
        values.append(reached.item())
        points = points + 0.02 * gradient / gradient.norm(dim=1).max().clamp(min=1e-12)  # 0 at the top
    assert values[-1] > values[0]


@each_differentiable
def test_a_bad_traced_cloud_has_the_floor_and_no_slope_and_nan_stays_nan(reward: DifferentiableReward) -> None:
    bad, lost = torch.zeros(200, 3, requires_grad=True), torch.zeros(200, 3, requires_grad=True)
    values = reward([TracedPointCloud(bad), TracedPointCloud(lost + torch.nan)])
    assert values[0] == reward.floor
    assert values[1].isnan()
    assert not torch.autograd.grad(values[0], bad)[0].any()


@pytest.mark.parametrize(
    ("reward", "higher"),
    [
        (MARGIN, StabilityMargin(plate=0.25, floor=-0.05)),
        (MirrorSymmetry(), MirrorSymmetry(floor=-0.05)),
        (Compactness(), Compactness(floor=0.5)),
    ],
    ids=["margin", "symmetry", "compactness"],
)
def test_faults_beyond_a_higher_floor_are_all_the_same(reward: PointCloudReward, higher: PointCloudReward) -> None:
    """Its own value where that is above, the floor where it is below; and there is no slope below."""
    values = np.array([[value(one, points) for one in (reward, higher)] for points in (*SHAPES.values(), oblique(2.5))])
    assert 0 < (values[:, 0] < higher.floor).sum() < len(values)
    np.testing.assert_array_equal(values[:, 1], values[:, 0].clip(min=higher.floor))
    if isinstance(higher, DifferentiableReward):
        points = torch.from_numpy(oblique(2.5)).requires_grad_()
        (gradient,) = torch.autograd.grad(higher([TracedPointCloud(points)]).sum(), points)
        assert not gradient.any()


class TracedPointClouds(Clouds):
    """Clouds of points that are free."""

    def decode(self, x0: torch.Tensor, context: Context) -> Sequence[Any]:
        decoded = super().decode(x0, context)
        return (
            [TracedPointCloud(points) for points in decoded]
            if x0.requires_grad
            else [cloud(p.numpy()) for p in decoded]
        )


def test_gradient_guidance_pulls_toward_the_reward() -> None:
    """A chain of 128 free points, wanted as a column: reward-guided training asks for the gradient and gets one."""
    reward = Proportions(size=[1, 3, 1])
    task = cloud_task(reward, sizes=(MIN_POINTS,), width=MIN_POINTS)
    task = type(task)(task.name, task.policy, TracedPointClouds((MIN_POINTS,), MIN_POINTS, channels=3), reward)
    settings: dict[str, Any] = {"source": "policy", "guidance": "gradient", "candidates": 2, "radius": 0.5}
    settings |= {
        "temperature": 1.0,
        "states": 2,
        "first": 0.5,
        "last": 1.0,
        "lookahead": 0,
        "held": 0,
        "kl_weight": 0.0,
    }
    rollout = RGDM(**settings).collect(learner(task), [0, 1, 2], Key(0))
    assert rollout.metrics["pull"] > 0
    assert rollout.metrics["payoff_lost"] == 0
