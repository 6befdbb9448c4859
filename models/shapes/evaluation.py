"""`molrl evaluate` for shapes: metrics of a set against held-out shapes, and of each shape by itself.

Set metrics depend on the number of shapes and of points, the normalisation, the distance and the references. Values of
two protocols must not be compared, so the protocol is printed and stored with them.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from molrl.data.files import ReadReport, Skipped, suffix
from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.files import report_of
from molrl.data.shapes.folders import SHAPE_SUFFIXES
from molrl.data.shapes.records import ShapeReader
from molrl.exit_codes import ExitCode
from molrl.machine.files import replace_file
from molrl.machine.workers.local import Workers
from molrl.machine.workers.protocol import Lost
from molrl.models.shapes.comparison import SET_METRICS, ShapeMetrics, compare_by_class, compare_sets, format_classes
from molrl.models.shapes.model import load_shapes
from molrl.models.shapes.recognition import count_recognised
from molrl.models.shipped import locate
from molrl.progress import stage
from molrl.rewards.scores import category
from molrl.rewards.shapes.exam import Exam, Examined
from molrl.runs.errors import CheckpointError

HELD_OUT = "shapes"  # the shipped model whose held-out shapes are the references unless others are named
MAX_STABLE_TILT = 20.0  # degrees that a stable shape tips by at most (DSO, Li et al. 2025, arXiv:2503.22677)


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
        by_class = compare_by_class(samples, references, metrics) if metrics.pvd else []
    figures |= comparison.figures
    figures["protocol"] = {**comparison.protocol, "reference": reference or HELD_OUT, "up": reader.up}
    print(format_table(figures, metrics, lost))
    print(comparison.describe(reference or HELD_OUT))
    if metrics.pvd:
        figures["pvd"] = by_class
        print(format_classes(by_class))
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
