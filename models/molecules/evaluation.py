"""`molrl evaluate` for molecules: quality, variety, EDM's protocol, MOSES, composition and plausible geometries."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from molrl.config import ConfigError
from molrl.data.molecules.bonds import BondReader, Reading
from molrl.data.molecules.edm_protocol import measure_edm
from molrl.data.molecules.graphs import Graphs, read_unembedded
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.plausibility import TESTS, PoseBustersCheck, Tests
from molrl.data.molecules.quality import Quality, fragment_smiles, measure_readings
from molrl.data.molecules.records import has_geometry
from molrl.models.molecules.metric_sections import (
    composition_section,
    edm_section,
    known_section,
    moses_section,
    quality_section,
    variety_section,
)
from molrl.models.molecules.metric_table import Metric, Section, format_sections
from molrl.models.molecules.reference import Reference, load_reference
from molrl.rewards.scores import category
from molrl.rewards.workers.local import Workers
from molrl.rewards.workers.protocol import Lost

MAX_POSEBUSTERS_SAMPLES = 200  # molecules that PoseBusters tests
POSEBUSTERS_TIMEOUT = 20.0  # seconds for each molecule

class PoseBustersResult(NamedTuple):
    """The outcome of the PoseBusters tests of some molecules.

    Attributes:
        passed: number of molecules that pass all tests.
        tested: number of molecules with an outcome.
        lost: number of molecules without an outcome, by reason.
    """

    passed: int
    tested: int
    lost: dict[str, int]

    @property
    def pass_rate(self) -> float | None:
        """Return the fraction of the tested molecules that pass; None if none was tested."""
        return self.passed / self.tested if self.tested else None


@dataclass(frozen=True)
class Samples:
    """The molecules of a file as one reader reads them.

    Attributes:
        molecules: at least one.
        readings: one for each molecule.
        unread: records of the file that gave no molecule, by reason.
    """

    molecules: Sequence[Molecule]
    readings: Sequence[Reading]
    unread: Mapping[str, int]

    @cached_property
    def smiles(self) -> list[str]:
        """Return the SMILES of the largest fragment of each valid molecule."""
        return [fragment_smiles(reading) for reading in self.readings if reading.mol is not None]

    @cached_property
    def have_geometries(self) -> bool:
        """Tell whether all molecules have a geometry; those of SMILES have none."""
        return all(map(has_geometry, self.molecules))


def evaluate_molecules(
    *,
    file: str,
    reference: str | None,
    known: str | None,
    max_reference: int | None,
    hydrogens: str,
    perceive: bool,
    posebusters: Tests | None,
    seconds: float,
    out: str | None,
    reader: BondReader,
) -> int:
    """Print the metrics of a molecule file and return the exit code.

    Args:
        reference: a molecule file, or a model (its training set), to compare with.
        known: the same, of molecules that exist whether or not they are in the reference.
        max_reference: molecules of the reference that MOSES and the composition take, evenly chosen; null for all.
        hydrogens: "file" leaves them as they are, "counts" folds them into the heavy atoms, "atoms" demands them.
        perceive: ignore bonds that a file gives with a geometry, and read them off the geometry.
        posebusters: which tests of PoseBusters to make, "mol_fast" or "mol"; null for none.
        seconds: time after which no further molecule is given to PoseBusters.
        out: a JSON file for the metrics; None: no file.
    """
    check_settings(hydrogens, posebusters, seconds, max_reference)
    if known is not None and reference is None:
        raise ConfigError(f"known={known}: needs a reference, the molecules that the model has seen")
    molecules, report = read_unembedded(file, hydrogens)  # type: ignore[arg-type]
    print(report)
    if not molecules:
        return 3
    if perceive:
        molecules = [replace(molecule, graph=None) for molecule in molecules]
    samples = Samples(molecules, [reader(molecule) for molecule in molecules], report.reasons())
    if perceive and not samples.have_geometries:
        raise ConfigError(f"perceive=true: {file} has molecules without a geometry")
    seen = None if reference is None else load_reference("reference", reference, reader, perceive=perceive)
    real = None if known is None else load_reference("known", known, reader, perceive=perceive)
    source = "by" if perceive else "the file's where it has them, else by"
    quality = measure_readings(samples.molecules, samples.readings, seen and seen.distinct, samples.unread)
    sections = [
        quality_section(quality, f"{source} {getattr(reader, '__name__', type(reader).__name__)}"),
        *([] if seen is None or real is None else [known_section(samples.smiles, seen.distinct, real.distinct)]),
        *comparison_sections(samples, quality, seen, max_reference),
    ]
    if posebusters is not None:
        sections.append(geometry_section(samples, reader, posebusters, seconds))
    print(format_sections(sections))
    if quality.unreadable:
        print(f"\nunreadable: {', '.join(f'{count} {reason}' for reason, count in quality.unreadable.items())}")
    if out is not None:
        figures = {metric.name: metric.value for section in sections for metric in section.metrics}
        Path(out).write_text(json.dumps({**quality.as_dict(), **figures}, indent=1) + "\n")
    return 0


def check_settings(hydrogens: str, posebusters: Tests | None, seconds: float, max_reference: int | None) -> None:
    """Raise ConfigError for a value that is not allowed."""
    if posebusters not in (None, *TESTS):
        raise ConfigError(f"posebusters: got {posebusters!r}, allowed are {', '.join(map(repr, TESTS))}, null")
    if not seconds > 0:
        raise ConfigError(f"seconds: got {seconds}, need a positive number")
    if hydrogens not in ("file", "counts", "atoms"):
        raise ConfigError(f"hydrogens: got {hydrogens!r}, allowed are 'file', 'counts', 'atoms'")
    if max_reference is not None and max_reference < 1:
        raise ConfigError(f"max_reference: got {max_reference}, need at least 1, or null")


def comparison_sections(
    samples: Samples, quality: Quality, reference: Reference | None, max_reference: int | None
) -> list[Section]:
    """Return the sections that compare the samples with one another and with the reference."""
    edm = None
    if samples.have_geometries:
        edm = measure_edm(samples.molecules, quality.n, None if reference is None else reference.edm_smiles)
    graphs = Graphs.parse(samples.smiles)
    chosen = None if reference is None else reference.choose(max_reference)
    sections = [variety_section(quality, graphs), moses_section(graphs, chosen)]
    if chosen is not None:
        sections.append(composition_section(graphs, chosen))
    return [*sections, edm_section(quality, edm)]


def geometry_section(samples: Samples, reader: BondReader, tests: Tests, seconds: float) -> Section:
    """Return the fraction of plausible geometries, of the molecules that could be tested."""
    if not samples.have_geometries:
        return Section("geometry: the file has none", [])
    installed = find_spec("posebusters")
    result = run_posebusters(samples.molecules, reader, tests, seconds) if installed else None
    meaning = describe_posebusters(result, tests, len(samples.molecules), seconds)
    metrics = [Metric("posebusters", None if result is None else result.pass_rate, meaning)]
    return Section("geometry", [*metrics, Metric("posebusters_tested", result.tested if result else 0, "molecules")])


def run_posebusters(
    molecules: Sequence[Molecule], reader: BondReader, tests: Tests, seconds: float
) -> PoseBustersResult:
    """Test at most `MAX_POSEBUSTERS_SAMPLES` evenly chosen molecules with PoseBusters, in a worker process.

    No further molecule is tested once the seconds are over.
    """
    rows = np.linspace(0, len(molecules) - 1, min(len(molecules), MAX_POSEBUSTERS_SAMPLES)).round().astype(int)
    order = np.random.default_rng(0).permutation(rows).tolist()  # so that any prefix is an even choice as well
    with Workers(PoseBustersCheck(tests, reader), workers=1, timeout=POSEBUSTERS_TIMEOUT, chunk=1) as workers:
        end = time.monotonic() + seconds
        outcomes = list(workers.stream(molecules[row] for row in order if time.monotonic() < end))
    lost = Counter(category(outcome.reason) for outcome in outcomes if isinstance(outcome, Lost))
    passed = sum(outcome is True for outcome in outcomes)
    return PoseBustersResult(passed, len(outcomes) - lost.total(), dict(lost.most_common()))


def describe_posebusters(result: PoseBustersResult | None, tests: Tests, molecules: int, seconds: float) -> str:
    """Describe which of the molecules were tested, and why the others were not."""
    if result is None:
        return "not installed: pip install 'molrl[posebusters]'"
    submitted = result.tested + sum(result.lost.values())
    text = f"pass all tests of {tests!r}, of {result.tested}"
    if submitted < min(molecules, MAX_POSEBUSTERS_SAMPLES):
        text += f" that {seconds:g} s allowed, of {molecules} molecules"
    elif submitted < molecules:
        text += f" chosen evenly of {molecules} molecules"
    return text + "".join(f"; {count} more without an answer ({reason})" for reason, count in result.lost.items())
