"""`molrl evaluate` for shapes: metrics of a set against held-out shapes, and of each shape by itself.

Set metrics depend on the number of shapes and of points, the normalisation, the distance and the references. Values of
two protocols must not be compared, so the protocol is printed and stored with them.
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
from molrl.data.shapes.files import report_of
from molrl.data.shapes.folders import SHAPE_SUFFIXES
from molrl.data.shapes.metrics import Kind, References, SetScores
from molrl.data.shapes.records import ShapeReader
from molrl.exit_codes import ExitCode
from molrl.machine.files import replace_file
from molrl.machine.workers.local import Workers
from molrl.machine.workers.protocol import Lost
from molrl.models.shapes.model import load_shapes
from molrl.models.shapes.quality import pair_with_reference
from molrl.models.shapes.recognition import count_recognised
from molrl.models.shipped import locate
from molrl.progress import stage
from molrl.rewards.scores import category
from molrl.rewards.shapes.body import MIN_POINTS
from molrl.rewards.shapes.exam import Exam, Examined
from molrl.runs.errors import CheckpointError

HELD_OUT = "shapes"  # the shipped model whose held-out shapes are the references unless others are named
MAX_STABLE_TILT = 20.0  # degrees that a stable shape tips by at most (DSO, Li et al. 2025, arXiv:2503.22677)

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
    """Print the metrics of a file or folder of shapes and return the exit code.

    Args:
        reference: shapes to compare with: a file or folder, or a model (its held-out shapes); None: the held-out
            shapes of the shipped model.
        out: a JSON file for the metrics; None: no file.
    """
    with stage(f"reading {file}"):
        samples, report = read_point_clouds(file, reader)
    print(report, flush=True)
    if not samples:
        return ExitCode.NOTHING_SCORED
    records = len(samples) + len(report.skipped)
    references = load_references(reference or HELD_OUT, reader)
    exams, lost = examine_shapes(samples, metrics)
    figures: dict[str, Any] = {"n": records, "shapes": len(samples), **average_exams(exams, records)}
    with stage("classes recognised by the judge"):
        labelled, recognised = count_recognised(samples, metrics.judge)
    figures |= {"recognised": recognised / labelled if labelled else None, "recognised_of": labelled}
    with stage("comparison with the references"):
        comparison = compare_sets(samples, references, metrics)
    figures |= comparison.figures
    figures["protocol"] = {**comparison.protocol, "reference": reference or HELD_OUT, "up": reader.up}
    print(format_table(figures, metrics, lost))
    print(comparison.describe(reference or HELD_OUT))
    flaws = Counter(category(exam.flaw) for exam in exams if exam.flaw)
    if flaws:
        print(f"no sound shape: {', '.join(f'{count} {reason}' for reason, count in flaws.most_common())}")
    if out is not None:
        replace_file(out, (json.dumps(figures, indent=1) + "\n").encode())
    return 0


def read_point_clouds(source: str, reader: ShapeReader) -> tuple[list[PointCloud], ReadReport]:
    """Read the shapes of a file or folder, and report the records that were skipped."""
    point_clouds: list[PointCloud] = []
    skipped: list[Skipped] = []
    for entry in map(reader.point_cloud, reader.records(source)):
        if isinstance(entry, Skipped):
            skipped.append(entry)
        else:
            point_clouds.append(entry)
    return point_clouds, report_of(point_clouds, skipped, source)


def load_references(reference: str, reader: ShapeReader) -> list[PointCloud]:
    """Load the shapes to compare with.

    Raises:
        ValueError: if `reference` is neither a model with held-out shapes nor a file or folder with shapes in it.
    """
    try:
        folder = locate(reference)
    except CheckpointError as error:
        if not Path(reference).is_dir() and suffix(reference) not in SHAPE_SUFFIXES:
            allowed = f"{', '.join(SHAPE_SUFFIXES)}, a folder of these"
            raise ValueError(f"reference={reference}: neither a model nor one of {allowed}") from error
        shapes, report = read_point_clouds(reference, reader)
        print(f"reference: {report}")
    else:
        shapes = list(load_shapes(str(folder)).reference)
    if not shapes:
        raise ValueError(f"reference={reference}: no shapes in it")
    return shapes


def examine_shapes(samples: Sequence[PointCloud], metrics: ShapeMetrics) -> tuple[list[Examined], dict[str, int]]:
    """Return the exam of each shape, and the number of shapes without one, by reason."""
    exam = Exam(plate=metrics.plate, seconds=metrics.seconds if find_spec("mujoco") else None)
    workers, outcomes = Workers(exam, workers=metrics.workers, timeout=metrics.timeout), list[Examined | Lost]()
    with workers, stage("shapes examined", len(samples)) as advance:
        for outcome in workers.stream(samples):
            outcomes.append(outcome)
            advance(1)
    lost = Counter(category(outcome.reason) for outcome in outcomes if isinstance(outcome, Lost))
    return [outcome for outcome in outcomes if not isinstance(outcome, Lost)], dict(lost.most_common())


def average_exams(exams: Sequence[Examined], records: int) -> dict[str, float | None]:
    """Average the exams of shapes; fractions are of all shapes with an exam, and a flawed shape does not stand."""

    def mean(values: Sequence[float]) -> float | None:
        finite = [value for value in values if np.isfinite(value)]
        return float(np.mean(finite)) if finite else None

    def fraction(passes: Callable[[Examined], bool]) -> float | None:
        return sum(map(passes, exams)) / len(exams) if exams else None

    dropped = any(np.isfinite(exam.tilt) for exam in exams)
    return {
        "validity": sum(not exam.flaw for exam in exams) / records,
        "stands": fraction(lambda exam: exam.tilt < MAX_STABLE_TILT) if dropped else None,
        "tilt": mean([exam.tilt for exam in exams]),
        "balanced": fraction(lambda exam: exam.margin > 0),
        "margin": mean([exam.margin for exam in exams]),
        "sdi": mean([exam.sdi for exam in exams]),
        "asymmetry": mean([exam.asymmetry for exam in exams]),
    }


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
    for kind in kinds:
        for field, (name, _) in SET_METRICS.items():
            values = np.array([asdict(of_seed)[field] for of_seed in scores[kind]])
            key = name if kind == "chamfer" else f"emd_{name}"
            figures[key] = float(values.mean()) if np.isfinite(values).all() else None
            figures[f"{key}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else None
    return Comparison(figures, protocol, "")


def shuffle(shapes: Sequence[PointCloud], generator: np.random.Generator) -> list[PointCloud]:
    """Return the shapes in random order."""
    return [shapes[row] for row in generator.permutation(len(shapes))]


def subsample(shape: PointCloud, count: int, generator: np.random.Generator) -> PointCloud:
    """Return a shape of `count` random points of it."""
    return replace(shape, points=shape.points[generator.permutation(len(shape))[:count]])


def format_table(figures: dict[str, Any], metrics: ShapeMetrics, lost: dict[str, int]) -> str:
    """Format the metrics as a table with one line for each."""
    missing = "".join(f"; {count} without an answer ({reason})" for reason, count in lost.items())
    rows = [
        ("n", "records"),
        ("validity", "one piece, neither collapsed nor a line, of the records"),
    ]
    for prefix, distance in (("", "Chamfer"), ("emd_", "EMD")):
        if f"{prefix}one_nna" in figures:
            rows += [(prefix + name, f"{text} ({distance})") for name, text in SET_METRICS.values()]
    drop = f"tip by less than {MAX_STABLE_TILT:g} degrees in {metrics.seconds:g} s of physics{missing}"
    if figures["stands"] is None and not find_spec("mujoco"):
        drop = "not installed: pip install 'molrl[shapes]'"
    rows += [
        ("stands", drop),
        ("tilt", "degrees, mean"),
        ("balanced", "have a stability margin above 0"),
        ("margin", "half lengths, mean of the sound"),
        ("sdi", "Chamfer distance to the mirror image; not 0 for a symmetric shape, as points are few"),
        ("asymmetry", "one direction of it in its best plane, less what chance explains"),
        ("recognised", describe_recognition(figures, metrics)),
    ]
    return "\n".join(format_row(name, figures[name], figures.get(f"{name}_sd"), meaning) for name, meaning in rows)


def describe_recognition(figures: dict[str, Any], metrics: ShapeMetrics) -> str:
    """Describe the fraction of samples that the classifier recognises."""
    if not figures["recognised_of"]:
        return f"no sample has a class that {metrics.judge} knows"
    return f"taken for their class by {metrics.judge}, of {figures['recognised_of']}"


def format_row(name: str, value: float | None, spread: float | None, meaning: str) -> str:
    """Format a metric as a line, with its standard deviation over the seeds."""
    text = "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
    return f"{name:<14} {text:>8} {'' if spread is None else f'+- {spread:.4f}':<10} {meaning}"
