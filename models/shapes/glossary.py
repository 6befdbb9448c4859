"""Terms of a report for the metrics of shapes."""

from collections.abc import Mapping

from molrl.glossary import Term

SAMPLES = ("n",)  # that a share is taken of
MAX_RUN_SAMPLES = 512  # that the metrics before and after a run are computed of,
MAX_SHAPES = 256  # and of these, those that are compared with held-out shapes

METRICS: Mapping[str, Term] = {
    "validity": Term("valid", "share of the samples that are shapes at all", SAMPLES),
    "one_nna": Term(
        "1-NNA",
        "how well nearest neighbours tell samples from held-out shapes; 0.5: not at all, which is best",
        SAMPLES,
        MAX_SHAPES,
    ),
    "coverage": Term(
        "coverage", "share of the held-out shapes that are the nearest one of a sample", SAMPLES, MAX_SHAPES
    ),
    "diversity": Term("diversity", "mean Chamfer distance of two samples of one class"),
    "stable_fraction": Term("stable", "share of the samples that stand by themselves", SAMPLES, MAX_RUN_SAMPLES),
    "symmetric_fraction": Term(
        "symmetric", "share of the samples that are their own mirror image, up to noise", SAMPLES, MAX_RUN_SAMPLES
    ),
    "class_accuracy": Term(
        "of the class asked for",
        "share of the samples that a second classifier takes for what was asked",
        SAMPLES,
        MAX_RUN_SAMPLES,
    ),
    "asymmetry": Term("asymmetry", "mean squared distance to the mirror image beyond chance"),
    "mmd": Term("distance to held-out shapes", "mean Chamfer distance of each held-out shape to its nearest sample"),
    "nearest": Term(
        "distance from held-out shapes", "mean Chamfer distance of each sample to its nearest held-out shape"
    ),
}
