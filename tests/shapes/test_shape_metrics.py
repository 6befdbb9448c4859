"""Laws of the scores of sets of shapes: their definitions, and their values for copies, collapse and chance."""

from itertools import permutations

import numpy as np
import pytest
from solids import box, cloud, sphere

from molrl.data.shapes.cloud import PointCloud, place_in_unit_box
from molrl.data.shapes.metrics import (
    References,
    chamfer,
    chamfer_matrix,
    distances_within,
    emd,
    one_nearest_neighbour,
)

pytest.importorskip("scipy")


def family(count: int, seed: int, points: int = 96) -> list[PointCloud]:
    """Return boxes of random proportions, each with its own points."""
    rng = np.random.default_rng(seed)
    edges = rng.uniform(0.2, 1, (count, 3))
    made = (box(w, h, d, points, int(rng.integers(1 << 30))) for w, h, d in edges.tolist())
    return [cloud(place_in_unit_box(each.astype(np.float32))) for each in made]


def perturb(clouds: list[PointCloud]) -> list[PointCloud]:
    """Return the same shapes with a little noise."""
    rng = np.random.default_rng(5)
    return [cloud(each.points + rng.normal(0, 0.01, each.points.shape)) for each in clouds]


REAL = References(family(50, 0))


def test_chamfer_is_the_sum_of_both_mean_squares() -> None:
    first, second = np.random.default_rng(0).random((2, 40, 3))
    square = np.square(first[:, None] - second[None]).sum(-1)
    assert chamfer(first, second) == pytest.approx(square.min(1).mean() + square.min(0).mean())
    assert chamfer(first[:1], first[:1] + np.array([3, 4, 0])) == pytest.approx(50)


@pytest.mark.parametrize("points", [512, 513])
def test_large_clouds_are_compared_by_trees_with_the_same_result(points: int) -> None:
    """All squared distances give the same matrix; that of a set with itself is symmetric and 0 on the diagonal."""
    shapes = np.stack([each.points for each in family(4, 3, points)])
    square = np.square(shapes[:, None, :, None] - shapes[None, :, None].astype(np.float64)).sum(-1)
    exact = square.min(3).mean(2) + square.min(2).mean(2)
    np.testing.assert_allclose(chamfer_matrix(shapes[:3], shapes[1:]), exact[:3, 1:], atol=1e-12)
    np.testing.assert_allclose(distances_within(shapes, "chamfer"), exact, atol=1e-12)


def test_the_earth_movers_distance_is_that_of_the_best_matching() -> None:
    first, second = np.random.default_rng(0).random((2, 6, 3))
    best = min(np.linalg.norm(first - second[list(order)], axis=1).mean() for order in permutations(range(6)))
    assert emd(first, second) == pytest.approx(best)
    assert emd(first, first + np.array([0.01, 0, 0])) == pytest.approx(0.01)


def test_the_earth_movers_distance_of_many_points_is_of_a_fixed_choice() -> None:
    points = sphere(1500)
    assert emd(points, points) == 0
    assert emd(points, points + np.array([0.001, 0, 0])) == pytest.approx(0.001)
    assert 0 < emd(points, sphere(1500, seed=1)) < 0.3


@pytest.mark.parametrize("distance", [chamfer, emd])
def test_distances_are_symmetric(distance: object) -> None:
    first, second = sphere(200), box(1, 1, 1, 200)
    assert callable(distance)
    assert distance(first, second) == pytest.approx(distance(second, first))


def test_two_samplings_of_one_distribution_cannot_be_told_apart() -> None:
    found = [REAL.compare(family(50, seed)) for seed in (1, 2, 3)]
    assert np.mean([scores.nna for scores in found]) == pytest.approx(0.5, abs=0.08)
    assert all(0.45 < scores.coverage < 0.75 for scores in found)


def test_copies_are_caught() -> None:
    scores = REAL.compare(perturb(list(REAL.point_clouds)))
    assert scores.nna < 0.05
    assert scores.coverage > 0.95
    assert scores.nearest < REAL.compare(family(50, 1)).nearest / 4


def test_collapse_is_caught() -> None:
    scores = REAL.compare(perturb(family(3, 1) * 17)[:50])
    assert scores.nna > 0.9
    assert scores.coverage <= 3 / 50 + 0.1
    assert scores.diversity < REAL.compare(family(50, 1)).diversity


def test_the_hand_made_case() -> None:
    """Samples at 0 and 10, references at 1 and 5 on a line: only the reference at 5 has its own kind next to it."""
    places = np.array([0.0, 10, 1, 5])
    matrix = np.abs(places[:, None] - places)
    assert one_nearest_neighbour(matrix[:2, :2], matrix[:2, 2:], matrix[2:, 2:]) == 1 / 4


def test_the_earth_movers_scores_and_the_cached_block() -> None:
    real = References(family(6, 0), "emd")
    scores = real.compare(family(6, 1))
    assert 0 < scores.mmd < 1
    assert real.distances is real.distances
    np.testing.assert_allclose(real.distances, real.distances.T)
    assert not real.distances.diagonal().any()


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="samples: got 3 for 50 references"):
        REAL.compare(family(3, 0))
    with pytest.raises(ValueError, match="samples: got 50 shapes of 64 points, need 96"):
        REAL.compare(family(50, 0, points=64))
    with pytest.raises(ValueError, match="references: got 0 shapes"):
        References([])
    with pytest.raises(ValueError, match="kind: got 'cd'"):
        References(family(2, 0), "cd")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="emd: got 3 and 4 points"):
        emd(np.zeros((3, 3)), np.zeros((4, 3)))
