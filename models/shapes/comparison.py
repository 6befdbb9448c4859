"""Comparison of a set of shapes with references, in our way and in that of published tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.metrics import Kind, References, SetScores
from molrl.models.shapes.quality import pair_with_reference
from molrl.rewards.shapes.body import MIN_POINTS

SET_METRICS = {
    "nna": ("one_nna", "1-NNA; 0.5: cannot be told apart, 1: bad or collapsed, 0: memorised"),
    "coverage": ("coverage", "references that are nearest to some sample; about 0.6 at best"),
    "mmd": ("mmd", "from a reference to the nearest sample"),
    "nearest": ("nearest", "from a sample to the nearest reference; 0 for copies"),
    "diversity": ("diversity", "between two samples, of one class where classes are known"),
}


@dataclass(frozen=True, kw_only=True)
class ShapeMetrics:
    """The settings of the metrics of a set of shapes.

    Attributes:
        compared: number of points of each shape that are compared; fewer if some shape has fewer.
        most: largest number of shapes that are compared, with as many references.
        seeds: number of seeds (0, 1 and so on), each with its own draw of shapes, references and points.
        pvd: compare each class by itself as well, in the way of published tables, see `compare_by_class`.
        emd: compare by the exact earth mover's distance as well: 4 ms for two shapes of 256 points, 30,000 times.
        seconds: of simulated time in the drop test.
        plate: setting of the stability margin, see `StabilityMargin`.
        judge: a classifier that no policy was trained against, by name or folder.
        workers: number of processes for the physics; 0: this process.
        timeout: time limit for each shape, in seconds.
    """

    compared: int
    most: int
    seeds: int
    pvd: bool
    emd: bool
    seconds: float
    plate: float
    judge: str
    workers: int
    timeout: float

    def __post_init__(self) -> None:
        if self.compared < MIN_POINTS or self.most < 2 or self.seeds < 1:
            got = f"{self.compared}, {self.most}, {self.seeds}"
            raise ValueError(f"compared, most, seeds: got {got}; need at least {MIN_POINTS}, 2 and 1")


@dataclass(frozen=True)
class Comparison:
    """The metrics of a set of shapes against references.

    Attributes:
        figures: means over the seeds, and standard deviations between them.
        protocol: the numbers and choices that the figures depend on.
        problem: why there are no figures; empty if there are.
    """

    figures: dict[str, float | None]
    protocol: dict[str, Any]
    problem: str

    def describe(self, reference: str) -> str:
        """Describe the protocol of the comparison in one sentence."""
        if self.problem:
            return f"not compared with {reference}: {self.problem}"
        protocol = self.protocol
        seeds = f"seeds 0 to {protocol['seeds'] - 1}" if protocol["seeds"] > 1 else "seed 0"
        return (
            f"protocol: {protocol['compared']} samples against as many of {reference}, {protocol['matched']}; "
            f"{protocol['points']} points each, in the unit box; {seeds}; Chamfer of squared distances, both "
            "directions added. Compare only with scores of the same protocol."
        )


def compare_sets(samples: Sequence[PointCloud], references: Sequence[PointCloud], metrics: ShapeMetrics) -> Comparison:
    """Compare the samples as a set with references, class by class if the references have all classes."""
    samples = [sample for sample in samples if len(sample) >= MIN_POINTS]
    classes = {shape.label for shape in references}
    unknown = sorted({sample.label for sample in samples} - classes)
    matched = "of the same classes"
    if unknown or classes == {""}:
        labels = ", ".join(repr(label) if label else "none" for label in unknown[:3])
        matched = f"of any class, as the samples' ({labels}) are not known there" if unknown else "without classes"
        samples = [replace(sample, label="") for sample in samples]
        references = [replace(shape, label="") for shape in references]
    points = min([metrics.compared, *(len(shape) for shape in (*samples, *references))])
    kinds: tuple[Kind, ...] = ("chamfer", "emd") if metrics.emd else ("chamfer",)
    scores: dict[Kind, list[SetScores]] = {kind: [] for kind in kinds}
    count = 0
    for seed in range(metrics.seeds):
        generator = np.random.default_rng(seed)
        pair = pair_with_reference(shuffle(samples, generator), shuffle(references, generator), metrics.most)
        chosen, matches = ([subsample(shape, points, generator) for shape in shapes] for shapes in pair)
        count = len(chosen)
        if count < 2:
            return Comparison({}, {}, f"{count} samples with a reference, need at least 2")
        for kind in kinds:
            scores[kind].append(References(matches, kind).compare(chosen))
    protocol = {"compared": count, "points": points, "seeds": metrics.seeds, "matched": matched}
    protocol |= {"normalise": "shape_bbox", "distances": list(kinds)}
    figures: dict[str, float | None] = {}
    for kind, prefix in zip(kinds, ("", "emd_"), strict=False):
        figures |= {prefix + name: value for name, value in average_scores(scores[kind]).items()}
    return Comparison(figures, protocol, "")


def shuffle(shapes: Sequence[PointCloud], generator: np.random.Generator) -> list[PointCloud]:
    """Return the shapes in random order."""
    return [shapes[row] for row in generator.permutation(len(shapes))]


def subsample(shape: PointCloud, count: int, generator: np.random.Generator) -> PointCloud:
    """Return a shape of `count` random points of it."""
    return replace(shape, points=shape.points[generator.permutation(len(shape))[:count]])


def compare_by_class(
    samples: Sequence[PointCloud], references: Sequence[PointCloud], metrics: ShapeMetrics
) -> list[dict[str, Any]]:
    """Compare each class by itself, all its shapes in one scale (PVD: Zhou et al. 2021, arXiv:2104.03670, Sec. 4.1).

    PVD and PointFlow (Yang et al. 2019, arXiv:1906.12320) divide by one standard deviation of all coordinates of the
    class, here of its references; no shape is scaled by itself. One row for each class of which there are two samples
    and two references, with the number of both, the number of points, the normalisation and the distance.
    """
    rows = []
    for label in sorted({shape.label for shape in references}):
        sets = [
            [shape for shape in shapes if shape.label == label and len(shape) >= MIN_POINTS]
            for shapes in (samples, references)
        ]
        count = min(len(sets[0]), len(sets[1]), metrics.most)
        if count < 2:
            continue
        points = min([metrics.compared, *(len(shape) for shape in (*sets[0], *sets[1]))])
        scale = float(np.concatenate([shape.points for shape in sets[1]]).std(dtype=np.float64))
        scores = []
        for seed in range(metrics.seeds):
            generator = np.random.default_rng(seed)
            chosen, matches = (
                [subsample(shape, points, generator) for shape in shuffle(shapes, generator)[:count]] for shapes in sets
            )
            scores.append(
                References([rescale(shape, scale) for shape in matches]).compare(
                    [rescale(shape, scale) for shape in chosen]
                )
            )
        row: dict[str, Any] = {"class": label, "n": count, "points": points, "seeds": metrics.seeds}
        rows.append(row | {"normalise": "global_unit", "distance": "chamfer", **average_scores(scores)})
    return rows


def rescale(shape: PointCloud, scale: float) -> PointCloud:
    """Return a shape divided by a scale; its place does not matter, as all of a set are moved alike."""
    return replace(shape, points=(shape.points / scale).astype(np.float32))


def average_scores(scores: Sequence[SetScores]) -> dict[str, float | None]:
    """Return the means over the seeds by the names of metrics, and the standard deviations as `..._sd`."""
    figures: dict[str, float | None] = {}
    for field, (name, _) in SET_METRICS.items():
        values = np.array([asdict(of_seed)[field] for of_seed in scores])
        figures[name] = float(values.mean()) if np.isfinite(values).all() else None
        figures[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else None
    return figures


def format_classes(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the comparison of each class as a line."""
    if not rows:
        return "by class: no class with two samples and two references"
    lines = ["each class by itself, one scale for all its shapes (PVD), Chamfer:"]
    for row in rows:
        spread = "" if row["one_nna_sd"] is None else f" +- {row['one_nna_sd']:.4f}"
        lines.append(
            f"  {row['class'] or 'none':<12} 1-NNA {row['one_nna']:.4f}{spread}, coverage {row['coverage']:.4f}, "
            f"MMD {row['mmd']:.5f}; n {row['n']} a side, {row['points']} points, {row['normalise']}"
        )
    return "\n".join(lines)
