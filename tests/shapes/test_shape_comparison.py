"""The comparison of each class by itself, by hand."""

from pathlib import Path

import numpy as np
import pytest
from command import molrl
from solids import Points, cloud, sphere

from molrl.data.shapes.cloud import PointCloud
from molrl.models.shapes.comparison import ShapeMetrics, compare_by_class, format_classes

pytest.importorskip("scipy")

METRICS = ShapeMetrics(
    compared=200, most=8, seeds=1, pvd=True, emd=False, seconds=1.0, plate=0.25, judge="", workers=0, timeout=1.0
)
BALL = sphere(200)


def balls(radii: list[float], label: str) -> list[PointCloud]:
    """Return spheres of some radii, all with their points in the same directions."""
    return [cloud(radius * BALL, label) for radius in radii]


def test_the_scores_of_concentric_balls() -> None:
    """Two of radii r and s are 2 (r - s)^2 apart, as each point is nearest to the other in its own direction."""
    real = balls([1.0, 1.1], "far") + balls([1.0, 2.0, 3.0], "same") + balls([1.0], "single")
    drawn = balls([2.0, 2.1], "far") + balls([1.0, 2.0, 3.0, 9.0], "same")[:3] + balls([1.0, 1.0], "single")
    far, same = compare_by_class(drawn, real, METRICS)
    variance = np.concatenate([BALL, 1.1 * BALL]).std() ** 2
    assert far["mmd"] == pytest.approx((2 * 1.0**2 + 2 * 0.9**2) / 2 / variance, rel=1e-4)
    assert (far["one_nna"], far["coverage"]) == (1.0, 0.5)
    assert (same["one_nna"], same["coverage"]) == (0.0, 1.0)
    assert same["mmd"] == pytest.approx(0, abs=1e-5)
    assert [far[name] for name in ("class", "n", "points", "seeds")] == ["far", 2, 200, 1]
    assert [far[name] for name in ("normalise", "distance")] == ["global_unit", "chamfer"]
    assert "far          1-NNA 1.0000, coverage 0.5000" in format_classes([far, same])
    assert "n 2 a side, 200 points, global_unit" in format_classes([far, same])


def test_the_unit_does_not_matter_and_the_size_of_a_single_shape_does() -> None:
    def scored(drawn: Points, real: Points) -> dict[str, float]:
        samples, references = ([cloud(scale * BALL, "ball") for scale in scales] for scales in (drawn, real))
        (row,) = compare_by_class(samples, references, METRICS)
        return row

    drawn, real = np.array([1.0, 1.5, 2.0]), np.array([1.2, 1.4, 2.2])
    one, other = scored(drawn, real), scored(7 * drawn, 7 * real)
    assert one["mmd"] == pytest.approx(other["mmd"], rel=1e-4)
    assert scored(drawn + 9, real)["one_nna"] == 1.0 > one["one_nna"]


def test_the_command_adds_a_row_for_each_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = np.stack([sphere(150, seed) * rng.uniform(0.5, 1, 3) for seed in range(12)]).astype(np.float32)
    for name, part in (("real", slice(6)), ("new", slice(6, 12))):
        np.savez(tmp_path / f"{name}.npz", points=points[part], label=["egg"] * 4 + ["nut"] * 2)
    quick = ["metrics.pvd=true", "metrics.workers=0", "metrics.seconds=0.1", "metrics.compared=128"]
    shown = molrl("evaluate", f"{tmp_path / 'new.npz'}", f"reference={tmp_path / 'real.npz'}", *quick)
    assert shown.code == 0, shown
    assert "egg          1-NNA" in shown.out
    assert "n 4 a side, 128 points, global_unit" in shown.out
    assert "n 2 a side" in shown.out
