"""`molrl evaluate` for molecules: the metrics of EDM's protocol (Hoogeboom et al. 2022, arXiv:2203.17003)."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from molrl.config import ConfigError
from molrl.data.files import suffix
from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.files import SUFFIXES, read
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.plausibility import TESTS, PoseBustersCheck, Tests
from molrl.data.molecules.quality import Quality, measure, smiles_set
from molrl.data.molecules.standardise import AS_IT_IS, Fragments, Treatment
from molrl.models.molecules.model import read_reference
from molrl.models.shipped import locate
from molrl.rewards.scores import category
from molrl.rewards.workers.local import Workers
from molrl.rewards.workers.protocol import Lost
from molrl.runs.errors import CheckpointError

MAX_POSEBUSTERS_SAMPLES = 200  # molecules that PoseBusters tests
POSEBUSTERS_TIMEOUT = 20.0  # seconds for each molecule

METRIC_DESCRIPTIONS = {
    "atom_stability": "atoms with an allowed valence",
    "molecule_stability": "molecules of such atoms only",
    "validity": "read by the reader",
    "validity_connected": "read, and one fragment",
    "uniqueness": "distinct, of the valid",
    "novelty": "not in the reference, of the distinct",
    "internal_diversity": "mean Tanimoto distance",
    "scaffolds": "distinct Bemis-Murcko scaffolds",
    "aromatic": "with an aromatic ring, of the valid",
    "mean_heavy_atoms": "heavy atoms per molecule",
}


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
    hydrogens: str,
    fragments: Fragments,
    perceive: bool,
    posebusters: Tests | None,
    seconds: float,
    out: str | None,
    reader: BondReader,
) -> int:
    """Print the metrics of a molecule file and return the exit code.

    Args:
        reference: a molecule file, or a model (its training set), that novelty is measured against.
        hydrogens: "file" leaves them as they are, "counts" folds them into the heavy atoms, "atoms" demands them.
        fragments: of every molecule that comes with bonds, of the reference as well; see `Treatment`.
        perceive: ignore bonds that the file gives, and perceive them; hydrogens and charges of its atoms are kept.
        posebusters: which tests of PoseBusters to make, "mol_fast" or "mol"; null for none.
        seconds: time after which no further molecule is given to PoseBusters.
        out: a JSON file for the metrics; None: no file.
    """
    if posebusters not in (None, *TESTS):
        raise ConfigError(f"posebusters: got {posebusters!r}, allowed are {', '.join(map(repr, TESTS))}, null")
    if not seconds > 0:
        raise ConfigError(f"seconds: got {seconds}, need a positive number")
    if hydrogens not in ("file", "counts", "atoms"):
        raise ConfigError(f"hydrogens: got {hydrogens!r}, allowed are 'file', 'counts', 'atoms'")
    treatment = Treatment(fragments)
    molecules, report = read(file, hydrogens, treatment=treatment)  # type: ignore[arg-type]
    print(report)
    if not molecules:
        return 3
    if perceive:
        molecules = [replace(molecule, graph=None) for molecule in molecules]
    quality = measure(molecules, reader, reference_smiles(reference, reader, treatment))
    bond_source = "by" if perceive else "the file's where it has them, else by"
    print(f"bonds: {bond_source} {getattr(reader, '__name__', type(reader).__name__)}")
    print(format_table(quality))
    metrics = quality.as_dict()
    if posebusters is not None:
        result = run_posebusters(molecules, reader, posebusters, seconds) if find_spec("posebusters") else None
        pass_rate, tested = (result.pass_rate, result.tested) if result else (None, 0)
        meaning = describe_posebusters(result, posebusters, len(molecules), seconds)
        print(format_row("posebusters", pass_rate, meaning))
        metrics |= {"posebusters": pass_rate, "posebusters_tested": tested}
    if quality.unreadable:
        print(f"unreadable: {', '.join(f'{count} {reason}' for reason, count in quality.unreadable.items())}")
    if out is not None:
        Path(out).write_text(json.dumps(metrics, indent=1) + "\n")
    return 0


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


def reference_smiles(
    reference: str | None, reader: BondReader, treatment: Treatment = AS_IT_IS
) -> frozenset[str] | None:
    """Return the SMILES of the reference set, or None without a reference."""
    if reference is None:
        return None
    if suffix(reference) in SUFFIXES:
        return smiles_set(read(reference, treatment=treatment)[0], reader)
    try:
        smiles = read_reference(locate(reference))
    except CheckpointError as error:
        raise ValueError(f"reference={reference}: neither a model nor one of {', '.join(SUFFIXES)}") from error
    if smiles is None:
        raise ValueError(f"reference={reference}: this model came without its training set")
    return smiles


def format_table(quality: Quality) -> str:
    """Format the metrics as a table with one line for each."""
    return "\n".join(format_row(name, getattr(quality, name), meaning) for name, meaning in METRIC_DESCRIPTIONS.items())


def format_row(name: str, value: float | None, meaning: str) -> str:
    """Format a metric as a line: a count, a fraction, or "-" for a missing value."""
    text = "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
    return f"{name:<20} {text:>8}  {meaning}"
