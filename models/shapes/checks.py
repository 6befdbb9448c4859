"""Properties of shapes that are watched while others are rewarded: stability, symmetry and the class."""

from collections.abc import Sequence
from functools import cache
from math import nan

from molrl.data.shapes.cloud import PointCloud
from molrl.rewards.shapes.class_probability import ClassProbability
from molrl.rewards.shapes.stability import StabilityMargin
from molrl.rewards.shapes.symmetry import MirrorSymmetry

MIN_PROBABILITY = 0.5  # of the requested class, for a shape that counts as one of it
MAX_ASYMMETRY = 5e-4  # of a symmetric shape; 93 % of the sound procedural shapes are below, at 256 points
NAMES = ("stable_fraction", "asymmetry", "symmetric_fraction", "class_accuracy")


def checks(samples: Sequence[PointCloud]) -> dict[str, float]:
    """Return the metrics `NAMES` of samples, all NaN for none.

    `stable_fraction`: share of the samples with a positive stability margin. `asymmetry`: mean squared distance to the
    mirror image beyond chance. `symmetric_fraction`: share below 5e-4 of it. `class_accuracy`: share that a second
    classifier takes for the requested class, of those whose class it knows; NaN where it knows none of them.
    """
    if not samples:
        return dict.fromkeys(NAMES, nan)
    margin, symmetry, classifier = StabilityMargin(plate=0.25), MirrorSymmetry(), independent_classifier()
    labelled = [sample for sample in samples if sample.label in classifier.classifier.design.classes]
    probabilities = classifier(labelled).exp()
    asymmetries = [symmetry.score_one(sample).value ** 2 for sample in samples]
    stable = sum(margin.score_one(sample).value > 0 for sample in samples) / len(samples)
    symmetric = sum(asymmetry < MAX_ASYMMETRY for asymmetry in asymmetries) / len(samples)
    accuracy = (probabilities > MIN_PROBABILITY).float().mean().item() if labelled else nan
    return dict(zip(NAMES, (stable, sum(asymmetries) / len(samples), symmetric, accuracy), strict=True))


@cache
def independent_classifier() -> ClassProbability:
    """Return the classifier that no reward uses by default; it is read once."""
    return ClassProbability(wanted=None, weights="shape_judge")
