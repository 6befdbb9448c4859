"""`molrl evaluate` for molecules: quality, variety, EDM's protocol, MOSES, composition and plausible geometries."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from molrl.config import ConfigError
from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.edm_protocol import measure_edm
from molrl.data.molecules.molecule import Hydrogens, Molecule
from molrl.data.molecules.plausibility import PoseBustersCheck, Tests
from molrl.data.molecules.quality import Quality, measure_readings
from molrl.data.molecules.standardise import Fragments, Treatment
from molrl.data.molecules.unembedded import Graphs
from molrl.exit_codes import ExitCode
from molrl.machine.files import replace_file
from molrl.machine.workers.local import Workers
from molrl.machine.workers.protocol import Lost
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
from molrl.models.molecules.samples import Samples, read_samples
from molrl.progress import stage
from molrl.rewards.scores import category

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


def evaluate_molecules(
    *,
    file: str,
    reference: str | None,
    known: str | None,
    max_reference: int | None,
    hydrogens: Hydrogens,
    fragments: Fragments,
    perceive: bool,
    posebusters: Tests | None,
    max_posebusters: int | None,
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
        fragments: of every molecule that comes with bonds, also of the reference and the known; see `Treatment`.
        perceive: ignore bonds that a file gives with a geometry, and perceive them; hydrogens and charges of its atoms
            are kept.
        posebusters: which tests of PoseBusters to make, "mol_fast" or "mol"; null for none.
        max_posebusters: samples that are given to PoseBusters, evenly chosen; null for all.
        seconds: time after which no further one is given to it.
        out: a JSON file for the metrics; None: no file.
    """
    if not seconds > 0:
        raise ConfigError(f"seconds: got {seconds}, need a positive number")
    for name, most in {"max_reference": max_reference, "max_posebusters": max_posebusters}.items():
        if most is not None and most < 1:
            raise ConfigError(f"{name}: got {most}, need at least 1, or null")
    if known is not None and reference is None:
        raise ConfigError(f"known={known}: needs a reference, the molecules that the model has seen")
    treatment = Treatment(fragments)
    with stage(f"reading {file}"):
        samples, report = read_samples(file, hydrogens, reader, perceive=perceive, treatment=treatment)
    print(report, flush=True)
    if not samples.molecules:
        return ExitCode.NOTHING_SCORED
    reference_of = partial(
        load_reference, reader=reader, hydrogens=samples.hydrogens, perceive=perceive, treatment=treatment
    )
    with stage("reading the reference"):
        seen = None if reference is None else reference_of("reference", reference)
        real = None if known is None else reference_of("known", known)
    with stage("validity and uniqueness"):
        quality = measure_readings(
            samples.molecules, samples.readings, None if seen is None else seen.members, samples.unread
        )
    bonds = "by" if perceive else "the file's where it has them, else by"
    sections = [quality_section(quality, f"{bonds} {getattr(reader, '__name__', type(reader).__name__)}")]
    if seen is not None and real is not None:
        sections.append(known_section(samples.smiles, seen.members, real.members))
    with stage("comparison with the reference"):
        sections += comparison_sections(samples, quality, seen, max_reference)
    if posebusters is not None:
        sections.append(geometry_section(samples, reader, posebusters, max_posebusters, seconds))
    print(format_sections(sections))
    if quality.unreadable:
        print(f"\nunreadable: {', '.join(f'{count} {reason}' for reason, count in quality.unreadable.items())}")
    if out is not None:
        figures = {metric.name: metric.value for section in sections for metric in section.metrics}
        replace_file(out, (json.dumps({**quality.as_dict(), **figures}, indent=1) + "\n").encode())
    return 0


def comparison_sections(
    samples: Samples, quality: Quality, reference: Reference | None, max_reference: int | None
) -> list[Section]:
    """Return the sections that compare the samples with one another and with the reference."""
    graphs = Graphs.parse(samples.smiles)
    if lost := len(samples.smiles) - len(graphs):
        print(f"left out of variety, MOSES and composition: {lost} molecules whose SMILES RDKit cannot read back")
    sections = [variety_section(quality, graphs)]
    if reference is None:
        sections.append(moses_section(graphs, None, "without a reference"))
    elif reference.hashes is not None:
        sections.append(moses_section(graphs, None, f"{reference.source} keeps only hashes of its training set"))
    else:
        chosen = reference.choose(max_reference)
        against = f"against {len(chosen)} of {len(reference.smiles)} molecules of {reference.source}"
        sections += [moses_section(graphs, chosen, against), composition_section(graphs, chosen)]
    edm = None
    if samples.have_geometries:
        edm = measure_edm(samples.molecules, quality.n, None if reference is None else reference.edm_smiles)
    return [*sections, edm_section(quality, edm, implicit=samples.hydrogens == "counts", origin=samples.origin)]


def choose_evenly(molecules: Sequence[Molecule], most: int | None) -> list[Molecule]:
    """Return at most so many molecules, from all parts of the file, shuffled: any prefix is an even choice as well."""
    rows = np.linspace(0, len(molecules) - 1, min(len(molecules), most or len(molecules))).round().astype(int)
    return [molecules[row] for row in np.random.default_rng(0).permutation(rows)]


def geometry_section(
    samples: Samples, reader: BondReader, tests: Tests, max_posebusters: int | None, seconds: float
) -> Section:
    """Return the fraction of plausible geometries, of the molecules that could be tested."""
    if not samples.have_geometries:
        return Section("geometry: the file has none", [])
    chosen, total = choose_evenly(samples.molecules, max_posebusters), len(samples.molecules)
    result = run_posebusters(chosen, reader, tests, seconds) if find_spec("posebusters") else None
    metrics = [
        Metric(
            "posebusters",
            None if result is None else result.pass_rate,
            describe_posebusters(result, tests, len(chosen), total, seconds),
        ),
        Metric("posebusters_tested", result.tested if result else 0, "molecules"),
    ]
    return Section(f"geometry{samples.origin}", metrics)


def run_posebusters(
    molecules: Sequence[Molecule], reader: BondReader, tests: Tests, seconds: float
) -> PoseBustersResult:
    """Test molecules with PoseBusters, in a worker process, until all are tested or the seconds are over."""
    workers = Workers(PoseBustersCheck(tests, reader), workers=1, timeout=POSEBUSTERS_TIMEOUT, chunk=1)
    with workers, stage("PoseBusters: molecules tested", len(molecules)) as advance:
        end, outcomes = time.monotonic() + seconds, list[bool | Lost]()
        for outcome in workers.stream(molecule for molecule in molecules if time.monotonic() < end):
            outcomes.append(outcome)
            advance(1)
    lost = Counter(category(outcome.reason) for outcome in outcomes if isinstance(outcome, Lost))
    passed = sum(outcome is True for outcome in outcomes)
    return PoseBustersResult(passed, len(outcomes) - lost.total(), dict(lost.most_common()))


def describe_posebusters(
    result: PoseBustersResult | None, tests: Tests, chosen: int, total: int, seconds: float
) -> str:
    """Describe how many of the chosen and of all molecules were tested, and why the others were not."""
    if result is None:
        return "not installed: pip install 'molrl[posebusters]'"
    submitted = result.tested + sum(result.lost.values())
    text = f"pass all tests of {tests!r}, of {result.tested}"
    if submitted < chosen:
        text += f" that {seconds:g} s allowed, of {total} molecules"
    elif submitted < total:
        text += f" chosen evenly of {total} molecules"
    return text + "".join(f"; {count} more without an answer ({reason})" for reason, count in result.lost.items())
