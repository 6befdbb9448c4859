"""`molrl evaluate`: the metrics of a set of molecules by EDM's protocol."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from molrl.checkpoint import CheckpointError
from molrl.config import ConfigError
from molrl.data.bonds import BondReader
from molrl.data.files import SUFFIXES, read, suffix
from molrl.data.plausibility import LARGEST_SAMPLE, plausible
from molrl.data.quality import Quality, measure, smiles_set
from molrl.models.pretrained import locate, read_reference

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


def evaluate_file(
    *, file: str, reference: str | None, hydrogens: str, perceive: bool, out: str | None, reader: BondReader
) -> int:
    """Print the metrics of a molecule file; returns the exit code.

    Args:
        reference: what novelty is against: a molecule file, or a model (its training set).
        hydrogens: "file" leaves them as they are, "counts" folds them into the heavy atoms, "atoms" demands them.
        perceive: ignore bonds that the file gives, and read them off the geometry.
        out: also write the figures here, as JSON.
    """
    if hydrogens not in ("file", "counts", "atoms"):
        raise ConfigError(f"hydrogens: got {hydrogens!r}, allowed are 'file', 'counts', 'atoms'")
    molecules, report = read(file, hydrogens)  # type: ignore[arg-type]
    print(report)
    if not molecules:
        return 3
    if perceive:
        molecules = [replace(molecule, graph=None) for molecule in molecules]
    quality = measure(molecules, reader, known_smiles(reference, reader))
    share = plausible(molecules, reader)
    source = "by" if perceive else "the file's where it has them, else by"
    print(f"bonds: {source} {getattr(reader, '__name__', type(reader).__name__)}")
    print(table(quality))
    missing = "" if find_spec("posebusters") else ": pip install posebusters"
    print(line("posebusters", share, f"pass all its tests, of {min(len(molecules), LARGEST_SAMPLE)}{missing}"))
    if quality.unreadable:
        print(f"unreadable: {', '.join(f'{count} {reason}' for reason, count in quality.unreadable.items())}")
    if out is not None:
        Path(out).write_text(json.dumps({**quality.as_dict(), "posebusters": share}, indent=1) + "\n")
    return 0


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
