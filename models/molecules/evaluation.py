"""The metrics of a set of molecules by EDM's protocol (Hoogeboom et al. 2022, arXiv:2203.17003), as a table."""

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
from molrl.models.molecules.model import read_reference
from molrl.models.shipped import locate
from molrl.rewards.scores import category
from molrl.rewards.workers.local import Workers
from molrl.rewards.workers.protocol import Lost
from molrl.runs.errors import CheckpointError

LARGEST_SAMPLE = 200  # molecules that PoseBusters is asked about
PATIENCE = 20.0  # seconds that it may take for one

ROWS = {
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


class Plausible(NamedTuple):
    """What PoseBusters says of a sample of molecules.

    Attributes:
        passed: molecules that pass all tests.
        tested: those with an answer.
        lost: how many have none, by reason.
    """

    passed: int
    tested: int
    lost: dict[str, int]

    @property
    def share(self) -> float | None:
        """Of the tested that pass; None where none was."""
        return self.passed / self.tested if self.tested else None


def evaluate_molecules(
    *,
    file: str,
    reference: str | None,
    hydrogens: str,
    perceive: bool,
    posebusters: Tests | None,
    seconds: float,
    out: str | None,
    reader: BondReader,
) -> int:
    """Print the metrics of a molecule file; returns the exit code.

    Args:
        reference: what novelty is against: a molecule file, or a model (its training set).
        hydrogens: "file" leaves them as they are, "counts" folds them into the heavy atoms, "atoms" demands them.
        perceive: ignore bonds that the file gives, and read them off the geometry.
        posebusters: which tests of PoseBusters to make, "mol_fast" or "mol"; null for none.
        seconds: after which no further molecule is given to PoseBusters.
        out: also write the figures here, as JSON.
    """
    if posebusters not in (None, *TESTS):
        raise ConfigError(f"posebusters: got {posebusters!r}, allowed are {', '.join(map(repr, TESTS))}, null")
    if not seconds > 0:
        raise ConfigError(f"seconds: got {seconds}, need a positive number")
    if hydrogens not in ("file", "counts", "atoms"):
        raise ConfigError(f"hydrogens: got {hydrogens!r}, allowed are 'file', 'counts', 'atoms'")
    molecules, report = read(file, hydrogens)  # type: ignore[arg-type]
    print(report)
    if not molecules:
        return 3
    if perceive:
        molecules = [replace(molecule, graph=None) for molecule in molecules]
    quality = measure(molecules, reader, known_smiles(reference, reader))
    source = "by" if perceive else "the file's where it has them, else by"
    print(f"bonds: {source} {getattr(reader, '__name__', type(reader).__name__)}")
    print(table(quality))
    figures = quality.as_dict()
    if posebusters is not None:
        found = plausible(molecules, reader, posebusters, seconds) if find_spec("posebusters") else None
        print(line("posebusters", found and found.share, told(found, posebusters, len(molecules), seconds)))
        figures |= {"posebusters": found and found.share, "posebusters_tested": found.tested if found else 0}
    if quality.unreadable:
        print(f"unreadable: {', '.join(f'{count} {reason}' for reason, count in quality.unreadable.items())}")
    if out is not None:
        Path(out).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def plausible(molecules: Sequence[Molecule], reader: BondReader, tests: Tests, seconds: float) -> Plausible:
    """Ask PoseBusters, in a worker process, about at most 200 molecules, chosen evenly, until the time is over."""
    rows = np.linspace(0, len(molecules) - 1, min(len(molecules), LARGEST_SAMPLE)).round().astype(int)
    order = np.random.default_rng(0).permutation(rows).tolist()  # whatever the time allows is a fair sample
    with Workers(PoseBustersCheck(tests, reader), workers=1, timeout=PATIENCE, chunk=1) as workers:
        end = time.monotonic() + seconds
        answers = list(workers.stream(molecules[row] for row in order if time.monotonic() < end))
    lost = Counter(category(found.reason) for found in answers if isinstance(found, Lost))
    return Plausible(sum(found is True for found in answers), len(answers) - lost.total(), dict(lost.most_common()))


def told(found: Plausible | None, tests: Tests, molecules: int, seconds: float) -> str:
    """What was tested, and why not everything."""
    if found is None:
        return "not installed: pip install 'molrl[posebusters]'"
    asked = found.tested + sum(found.lost.values())
    text = f"pass all tests of {tests!r}, of {found.tested}"
    if asked < min(molecules, LARGEST_SAMPLE):
        text += f" that {seconds:g} s allowed, of {molecules} molecules"
    elif asked < molecules:
        text += f" chosen evenly of {molecules} molecules"
    return text + "".join(f"; {count} more without an answer ({reason})" for reason, count in found.lost.items())


def known_smiles(reference: str | None, reader: BondReader) -> frozenset[str] | None:
    """SMILES of the reference set."""
    if reference is None:
        return None
    if suffix(reference) in SUFFIXES:
        return smiles_set(read(reference)[0], reader)
    try:
        known = read_reference(locate(reference))
    except CheckpointError as error:
        raise ValueError(f"reference={reference}: neither a model nor one of {', '.join(SUFFIXES)}") from error
    if known is None:
        raise ValueError(f"reference={reference}: this model came without its training set")
    return known


def table(quality: Quality) -> str:
    """One line per metric."""
    return "\n".join(line(name, getattr(quality, name), meaning) for name, meaning in ROWS.items())


def line(name: str, value: float | None, meaning: str) -> str:
    """One metric: a count, a fraction, or - for none."""
    shown = "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
    return f"{name:<20} {shown:>8}  {meaning}"
