"""Measure what fine-tuning does to the composition of molecules: reward, elements, rings, novelty.

`python benchmarks/composition.py runs/table/rgdm_0 [more run folders] [--csv rows.csv]` reads `samples/before.sdf` and
`samples/after.sdf` of each run of `molrl train` and prints one Markdown row per measure. With one folder, ± is the
standard error over the samples; with several, over the folders. `--csv` also writes one row per folder and file.
"""

import argparse
import csv
import math
from collections.abc import Container, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from rdkit import Chem, rdBase

from molrl.data.molecules.bonds import Reading
from molrl.data.molecules.quality import fragment_smiles, is_aromatic
from molrl.data.molecules.sdf import blocks
from molrl.models.molecules.model import load

FILES = ("before", "after")
NITROGEN = 7


class Sample(NamedTuple):
    """One record: its reward, its number of heavy atoms, and the molecule where the record is a valid one."""

    reward: float
    heavy_atoms: int
    mol: Chem.Mol | None


class Value(NamedTuple):
    """A mean and its standard error."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if math.isnan(self.error) else f"{self.mean:.3f} ± {self.error:.3f}"


def read_samples(path: Path) -> list[Sample]:
    """Read the records of a file that `molrl train` wrote; a record with the property `unreadable` is not valid."""
    samples = []
    for block in blocks(path):
        fields = properties(block.text)
        with rdBase.BlockLogs():
            mol = Chem.MolFromMolBlock(block.text, sanitize="unreadable" not in fields, removeHs=False)
        if mol is None:
            raise ValueError(
                f"{path}, {block.where}: got a record that RDKit does not read, expected one of molrl train"
            )
        valid = None if "unreadable" in fields else Chem.RemoveHs(mol)
        samples.append(Sample(float(fields.get("reward", "nan")), mol.GetNumHeavyAtoms(), valid))
    return samples


def properties(text: str) -> dict[str, str]:
    """Return the data items of one SDF record by name."""
    lines = text.split("\n")
    return {line.partition("<")[2].partition(">")[0]: value for line, value in pairwise(lines) if line.startswith(">")}


def measure_composition(samples: Sequence[Sample], reference: Container[str]) -> dict[str, Value]:
    """Measure a set of samples; rewards that are NaN are left out.

    Args:
        reference: canonical SMILES of the training set, or their hashes.
    """
    mols = [sample.mol for sample in samples if sample.mol is not None]
    texts = [fragment_smiles(Reading(mol, "")) for mol in mols]
    distinct = set(texts)
    return {
        "mean reward, all samples": average([sample.reward for sample in samples]),
        "mean reward, valid molecules": average([sample.reward for sample in samples if sample.mol is not None]),
        "valid": average([sample.mol is not None for sample in samples]),
        "heavy atoms, all samples": average([sample.heavy_atoms for sample in samples]),
        "with nitrogen": average([any(atom.GetAtomicNum() == NITROGEN for atom in mol.GetAtoms()) for mol in mols]),
        "rings per molecule": average([mol.GetRingInfo().NumRings() for mol in mols]),
        "without a ring": average([mol.GetRingInfo().NumRings() == 0 for mol in mols]),
        "aromatic": average([is_aromatic(mol) for mol in mols]),
        "unique": Value(len(distinct) / len(texts), math.nan) if texts else Value(math.nan, math.nan),
        "novel": average([text not in reference for text in sorted(distinct)]),
    }


def average(values: Sequence[float]) -> Value:
    """Return the mean and the standard error of the values that are not NaN."""
    known = [float(value) for value in values if not math.isnan(value)]
    if not known:
        return Value(math.nan, math.nan)
    return Value(fmean(known), stdev(known) / math.sqrt(len(known)) if len(known) > 1 else math.nan)


def table(runs: Sequence[Mapping[str, Mapping[str, Value]]]) -> str:
    """Return the Markdown table of one run, or of the means of several, with the change from before to after."""
    lines = ["| | before | after | change |", "|---|---|---|---|"]
    for name in runs[0][FILES[0]]:
        cells = []
        for file in FILES:
            values = [run[file][name] for run in runs]
            cells.append(str(values[0] if len(values) == 1 else average([value.mean for value in values])))
        change = average([run["after"][name].mean - run["before"][name].mean for run in runs])
        lines.append(f"| {name} | {' | '.join(cells)} | {change.mean:+.3f}{str(change)[len(f'{change.mean:.3f}') :]} |")
    return "\n".join(lines)


def write_rows(path: Path, folders: Sequence[Path], runs: Sequence[Mapping[str, Mapping[str, Value]]]) -> None:
    """Write one row per run and file: means, and standard errors where there are any."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        names = list(runs[0][FILES[0]])
        rows.writerow(["run", "samples", *(column for name in names for column in (name, f"{name}: standard error"))])
        for folder, run in zip(folders, runs, strict=True):
            for when in FILES:
                numbers = [number for value in run[when].values() for number in value]
                cells = ["" if math.isnan(number) else f"{number:.4f}" for number in numbers]
                rows.writerow([folder.name, when, *cells])


def main() -> None:
    """Print the composition of the samples before and after each run, as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders of molrl train")
    parser.add_argument("--reference", default="qm9_heavy", help="model whose training set novelty is measured against")
    parser.add_argument("--csv", type=Path, help="also write one row per run and file here")
    arguments = parser.parse_args()
    reference = load(arguments.reference).reference or parser.error(f"{arguments.reference} has no reference")
    samples = {
        folder: {when: read_samples(folder / "samples" / f"{when}.sdf") for when in FILES} for folder in arguments.runs
    }
    runs = [
        {when: measure_composition(found, reference) for when, found in files.items()} for files in samples.values()
    ]
    print(table(runs))
    counts = sorted({len(found) for files in samples.values() for found in files.values()})
    names = ", ".join(folder.name for folder in samples)
    over = "samples of one run" if len(runs) == 1 else f"{len(runs)} runs"
    print(f"\n{names}; n = {', '.join(map(str, counts))} in each file; ± is the standard error over the {over}")
    if arguments.csv:
        write_rows(arguments.csv, arguments.runs, runs)


if __name__ == "__main__":
    main()
