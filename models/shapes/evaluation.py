"""`molrl evaluate` for shapes: a set against held-out ones, and what its single shapes are worth.

Scores depend on the number of shapes and of points, the normalisation, the distance and the references: those of two
protocols must not be compared, so the protocol is printed and kept with them.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from molrl.data.files import ReadReport, Skipped, suffix
from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.files import SHAPE_SUFFIXES, report_of
from molrl.data.shapes.metrics import Kind, References, SetScores
from molrl.data.shapes.records import ShapeReader
from molrl.models.shapes.model import load_shapes
from molrl.models.shapes.quality import pair_with_reference
from molrl.models.shapes.recognition import count_recognised
from molrl.models.shipped import locate
from molrl.rewards.scores import category
from molrl.rewards.shapes.body import MIN_POINTS
from molrl.rewards.shapes.exam import Exam, Examined
from molrl.rewards.workers.local import Workers
from molrl.rewards.workers.protocol import Lost
from molrl.runs.errors import CheckpointError

HELD_OUT = "shapes"  # the shipped model whose held-out shapes are the references unless others are named
STANDS = 20.0  # degrees that a stable shape tips by at most (DSO, Li et al. 2025, arXiv:2503.22677)

SET_ROWS = {
    "nna": ("one_nna", "1-NNA; 0.5: cannot be told apart, 1: bad or collapsed, 0: memorised"),
    "coverage": ("coverage", "references that are nearest to some sample; about 0.6 at best"),
    "mmd": ("mmd", "from a reference to the nearest sample"),
    "nearest": ("nearest", "from a sample to the nearest reference; 0 for copies"),
    "diversity": ("diversity", "between two samples, of one class where classes are known"),
}


@dataclass(frozen=True, kw_only=True)
class ShapeMetrics:
    """How a set of shapes is measured.

    Attributes:
        compared: points of each shape that are compared; fewer where some shape has fewer.
        most: shapes that are compared, with as many references.
        seeds: how often shapes, references and points are drawn anew: 0, 1, and so on.
        emd: compare by the exact earth mover's distance as well: 4 ms for two shapes of 256 points, 30,000 times.
        seconds: of simulated time in the drop test.
        plate: of the stability margin, see `StabilityMargin`.
        judge: a classifier that was not trained against, shipped or a folder.
        workers: processes for the physics; 0 for this one.
        timeout: seconds for each shape.
    """

    compared: int
    most: int
    seeds: int
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


def evaluate_shapes(
    file: str, reference: str | None, out: str | None, reader: ShapeReader, metrics: ShapeMetrics
) -> int:
    """Print the metrics of a file or folder of shapes; returns the exit code.

    Args:
        reference: what to compare with: a file or folder of shapes, or a model (its held-out shapes); None: those of
            the shipped model.
        out: also write the figures here, as JSON.
    """
    samples, report = read_point_clouds(file, reader)
    print(report)
    if not samples:
        return 3
    records = len(samples) + len(report.skipped)
    real = references(reference or HELD_OUT, reader)
    exams, lost = examined(samples, metrics)
    figures: dict[str, Any] = {"n": records, "shapes": len(samples), **single(exams, records)}
    known, right = count_recognised(samples, metrics.judge)
    figures |= {"recognised": right / known if known else None, "recognised_of": known}
    compared = comparable(samples, real, metrics)
    figures |= compared.figures
    figures["protocol"] = {**compared.protocol, "reference": reference or HELD_OUT, "up": reader.up}
    print(table(figures, metrics, lost))
    print(compared.told(reference or HELD_OUT))
    flaws = Counter(category(exam.flaw) for exam in exams if exam.flaw)
    if flaws:
        print(f"no sound shape: {', '.join(f'{count} {reason}' for reason, count in flaws.most_common())}")
    if out is not None:
        Path(out).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def read_point_clouds(source: str, reader: ShapeReader) -> tuple[list[PointCloud], ReadReport]:
    """The shapes of a file or folder, and what was skipped."""
    clouds: list[PointCloud] = []
    skipped: list[Skipped] = []
    for entry in map(reader.point_cloud, reader.records(source)):
        if isinstance(entry, Skipped):
            skipped.append(entry)
        else:
            clouds.append(entry)
    return clouds, report_of(clouds, skipped, source)


def references(reference: str, reader: ShapeReader) -> list[PointCloud]:
    """What to compare with.

    Raises ValueError for what is neither a model with held-out shapes nor a source with shapes in it.
    """
    try:
        folder = locate(reference)
    except CheckpointError as error:
        if not Path(reference).is_dir() and suffix(reference) not in SHAPE_SUFFIXES:
            allowed = f"{', '.join(SHAPE_SUFFIXES)}, a folder of these"
            raise ValueError(f"reference={reference}: neither a model nor one of {allowed}") from error
        held, report = read_point_clouds(reference, reader)
        print(f"reference: {report}")
    else:
        held = list(load_shapes(str(folder)).reference)
    if not held:
        raise ValueError(f"reference={reference}: no shapes in it")
    return held


def examined(samples: Sequence[PointCloud], metrics: ShapeMetrics) -> tuple[list[Examined], dict[str, int]]:
    """What the physics says of each shape, and how many have no answer, by reason."""
    exam = Exam(plate=metrics.plate, seconds=metrics.seconds if find_spec("mujoco") else None)
    with Workers(exam, workers=metrics.workers, timeout=metrics.timeout) as workers:
        answers = list(workers.stream(samples))
    lost = Counter(category(found.reason) for found in answers if isinstance(found, Lost))
    return [found for found in answers if not isinstance(found, Lost)], dict(lost.most_common())


def single(exams: Sequence[Examined], records: int) -> dict[str, float | None]:
    """Figures of single shapes. Shares are of all that have an answer; what is no sound shape does not stand."""

    def mean(values: Sequence[float]) -> float | None:
        finite = [value for value in values if np.isfinite(value)]
        return float(np.mean(finite)) if finite else None

    def share(passes: Callable[[Examined], bool]) -> float | None:
        return sum(map(passes, exams)) / len(exams) if exams else None

    dropped = any(np.isfinite(exam.tilt) for exam in exams)
    return {
        "validity": sum(not exam.flaw for exam in exams) / records,
        "stands": share(lambda exam: exam.tilt < STANDS) if dropped else None,
        "tilt": mean([exam.tilt for exam in exams]),
        "balanced": share(lambda exam: exam.margin > 0),
        "margin": mean([exam.margin for exam in exams]),
        "sdi": mean([exam.sdi for exam in exams]),
        "asymmetry": mean([exam.asymmetry for exam in exams]),
    }


@dataclass(frozen=True)
class Comparison:
    """A set against references.

    Attributes:
        figures: means over the seeds, and standard deviations between them.
        problem: why there are none.
    """

    figures: dict[str, float | None]
    protocol: dict[str, Any]
    problem: str

    def told(self, reference: str) -> str:
        """The protocol in words."""
        if self.problem:
            return f"not compared with {reference}: {self.problem}"
        protocol = self.protocol
        seeds = f"seeds 0 to {protocol['seeds'] - 1}" if protocol["seeds"] > 1 else "seed 0"
        return (
            f"protocol: {protocol['compared']} samples against as many of {reference}, {protocol['matched']}; "
            f"{protocol['points']} points each, in the unit box; {seeds}; Chamfer of squared distances, both "
            "directions added. Compare only with scores of the same protocol."
        )


def comparable(samples: Sequence[PointCloud], real: Sequence[PointCloud], metrics: ShapeMetrics) -> Comparison:
    """The scores of the samples as a set, each against a reference of its class where all have one."""
    samples = [cloud for cloud in samples if len(cloud) >= MIN_POINTS]
    classes = {cloud.label for cloud in real}
    unknown = sorted({cloud.label for cloud in samples} - classes)
    matched = "of the same classes"
    if unknown or classes == {""}:
        labels = ", ".join(repr(label) if label else "none" for label in unknown[:3])
        matched = f"of any class, as the samples' ({labels}) are not known there" if unknown else "without classes"
        samples = [replace(cloud, label="") for cloud in samples]
        real = [replace(cloud, label="") for cloud in real]
    points = min([metrics.compared, *(len(cloud) for cloud in (*samples, *real))])
    kinds: tuple[Kind, ...] = ("chamfer", "emd") if metrics.emd else ("chamfer",)
    found: dict[Kind, list[SetScores]] = {kind: [] for kind in kinds}
    count = 0
    for seed in range(metrics.seeds):
        generator = np.random.default_rng(seed)
        pair = pair_with_reference(shuffled(samples, generator), shuffled(real, generator), metrics.most)
        kept, against = ([thinned(cloud, points, generator) for cloud in clouds] for clouds in pair)
        count = len(kept)
        if count < 2:
            return Comparison({}, {}, f"{count} samples with a reference, need at least 2")
        for kind in kinds:
            found[kind].append(References(against, kind).compare(kept))
    protocol = {"compared": count, "points": points, "seeds": metrics.seeds, "matched": matched}
    protocol |= {"normalise": "shape_bbox", "distances": list(kinds)}
    figures: dict[str, float | None] = {}
    for kind in kinds:
        for field, (name, _) in SET_ROWS.items():
            values = np.array([asdict(scores)[field] for scores in found[kind]])
            key = name if kind == "chamfer" else f"emd_{name}"
            figures[key] = float(values.mean()) if np.isfinite(values).all() else None
            figures[f"{key}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else None
    return Comparison(figures, protocol, "")


def shuffled(clouds: Sequence[PointCloud], generator: np.random.Generator) -> list[PointCloud]:
    """In another order."""
    return [clouds[row] for row in generator.permutation(len(clouds))]


def thinned(cloud: PointCloud, count: int, generator: np.random.Generator) -> PointCloud:
    """Some of the points."""
    return replace(cloud, points=cloud.points[generator.permutation(len(cloud))[:count]])


def table(figures: dict[str, Any], metrics: ShapeMetrics, lost: dict[str, int]) -> str:
    """One line per metric."""
    missing = "".join(f"; {count} without an answer ({reason})" for reason, count in lost.items())
    rows = [
        ("n", "records"),
        ("validity", "one piece, neither collapsed nor a line, of the records"),
    ]
    for prefix, distance in (("", "Chamfer"), ("emd_", "EMD")):
        if f"{prefix}one_nna" in figures:
            rows += [(prefix + name, f"{text} ({distance})") for name, text in SET_ROWS.values()]
    drop = f"tip by less than {STANDS:g} degrees in {metrics.seconds:g} s of physics{missing}"
    if figures["stands"] is None and not find_spec("mujoco"):
        drop = "not installed: pip install 'molrl[shapes]'"
    rows += [
        ("stands", drop),
        ("tilt", "degrees, mean"),
        ("balanced", "have a stability margin above 0"),
        ("margin", "half lengths, mean of the sound"),
        ("sdi", "Chamfer distance to the mirror image; not 0 for a symmetric shape, as points are few"),
        ("asymmetry", "one direction of it in its best plane, less what chance explains"),
        ("recognised", judged(figures, metrics)),
    ]
    return "\n".join(line(name, figures[name], figures.get(f"{name}_sd"), meaning) for name, meaning in rows)


def judged(figures: dict[str, Any], metrics: ShapeMetrics) -> str:
    """What the classifier was asked."""
    if not figures["recognised_of"]:
        return f"no sample has a class that {metrics.judge} knows"
    return f"taken for their class by {metrics.judge}, of {figures['recognised_of']}"


def line(name: str, value: float | None, spread: float | None, meaning: str) -> str:
    """One metric, with its standard deviation over the seeds."""
    shown = "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
    return f"{name:<14} {shown:>8} {'' if spread is None else f'+- {spread:.4f}':<10} {meaning}"
