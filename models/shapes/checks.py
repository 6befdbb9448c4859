"""Properties of shapes that are watched while others are rewarded: does it stand, is it symmetric, what is it."""

from collections.abc import Sequence
from functools import cache
from math import nan

from molrl.data.shapes.cloud import PointCloud
from molrl.rewards.shapes.class_probability import ClassProbability
from molrl.rewards.shapes.stability import StabilityMargin
from molrl.rewards.shapes.symmetry import MirrorSymmetry

EVEN = 0.5  # probability from which a shape is recognised
LOPSIDED = 5e-4  # from here on; 93 % of the sound procedural shapes are below, at 256 points


def checks(samples: Sequence[PointCloud]) -> dict[str, float]:
    """How many have what is watched, as shares of the samples; all NaN for none.

    `standing`: with a positive stability margin. `asymmetry`: no share, but the mean squared distance to the mirror
    image beyond chance; `symmetric`: where it is below 5e-4. `recognised`: taken by a second classifier for the class
    that was asked for; NaN where it knows none of them.
    """
    if not samples:
        return dict.fromkeys(("standing", "asymmetry", "symmetric", "recognised"), nan)
    margin, symmetry = StabilityMargin(plate=0.25), MirrorSymmetry()
    known = [sample for sample in samples if sample.label in judge().classifier.design.classes]
    odds = judge()(known).exp()
    away = [symmetry.score_one(sample).value ** 2 for sample in samples]
    return {
        "standing": sum(margin.score_one(sample).value > 0 for sample in samples) / len(samples),
        "asymmetry": sum(away) / len(away),
        "symmetric": sum(far < LOPSIDED for far in away) / len(away),
        "recognised": (odds > EVEN).float().mean().item() if known else nan,
    }


@cache
def judge() -> ClassProbability:
    """The classifier that no reward uses by default, read once."""
    return ClassProbability(wanted=None, weights="shape_judge")
