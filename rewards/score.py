"""Score a file of molecules: one row per record, whatever became of it, and a summary."""

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from rdkit import Chem, rdBase

from molrl.data.bonds import BondReader
from molrl.data.files import MAX_HEAVY, Skipped, stream, suffix
from molrl.data.molecule import Molecule
from molrl.data.smiles import MAX_LENGTH, Line, listed
from molrl.rewards.scores import Scored, Scores, Values, category, scores

BATCH = 256  # records held in memory
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DONE, NOTHING_SCORED = 0, 3
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


class MoleculeReward(Protocol):
    """A reward of molecules; one that also has `score(samples) -> Scores` explains its values."""

    def __call__(self, samples: Sequence[Molecule], /) -> Values:
        """One number for each sample; NaN where a sample could not be scored."""
        ...


class Record(NamedTuple):
    """One record of a file: a molecule, or why there is none."""

    name: str
    smiles: str
    molecule: Molecule | None
    reason: str


@dataclass
class Tally:
    """What one reward said of a file: the values of good samples, and the reasons of the others by category."""

    values: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, scored: Scored) -> None:
        if good(scored):
            self.values.append(scored.value)
        else:
            self.failed[category(scored.reason)] += 1

    def __str__(self) -> str:
        if not self.values:
            return "nothing scored"
        points = " ".join(f"{value:.4g}" for value in np.quantile(self.values, QUANTILES))
        percent = "/".join(f"{100 * point:g}" for point in QUANTILES)
        return f"mean {np.mean(self.values):.4f}, {percent} % quantiles {points}"


@dataclass(frozen=True)
class Summary:
    """What scoring a file came to.

    Attributes:
        records: in the file, readable or not.
        tallies: by reward.
    """

    source: str
    records: int
    tallies: Mapping[str, Tally]

    @property
    def exit_code(self) -> int:
        """0, or 3 when no reward could score anything."""
        return DONE if any(tally.values for tally in self.tallies.values()) else NOTHING_SCORED

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.records} records"]
        for name, tally in self.tallies.items():
            lines.append(f"  {name}: {len(tally.values)} scored, {tally}")
            lines += [f"    {count} {reason}" for reason, count in tally.failed.most_common()]
        return "\n".join(lines)


def score_file(
    path: str | Path,
    rewards: Mapping[str, MoleculeReward],
    out: str | Path,
    *,
    reader: BondReader,
    embed: bool = False,
) -> Summary:
    """Write one CSV row for each record of a molecule file, in order: record, name, SMILES, values, reason.

    Cells of bad samples and of those that could not be scored are empty; the reason says why. The table appears under
    `out` when it is complete, under `out` + ".part" until then.

    Args:
        rewards: by the name of their column.
        reader: gives the SMILES of molecules that come without bonds.
        embed: make geometries for SMILES. Rewards of the graph alone need none; without it all their atoms are at the
            origin, which a reward of the geometry must not be given.

    Raises:
        ValueError: the file is missing, empty, binary or of an unknown format, or there is no reward.
    """
    if not rewards:
        raise ValueError("rewards: got none, need at least one")
    entries = records(path, reader, embed=embed)
    tallies = {name: Tally() for name in rewards}
    part = Path(f"{out}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    with part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["record", "name", "smiles", *rewards, "reason"])
        while batch := list(islice(entries, BATCH)):
            for record, row in zip(batch, score_records(batch, rewards), strict=True):
                number += 1
                for name, scored in row.items():
                    tallies[name].add(scored)
                cells = [f"{scored.value:.6g}" if good(scored) else "" for scored in row.values()]
                texts = [harmless(record.name), harmless(record.smiles)]
                table.writerow([number, *texts, *cells, harmless(joint_reason(row))])
    part.replace(out)
    return Summary(str(path), number, tallies)


def records(path: str | Path, reader: BondReader, *, embed: bool) -> Iterator[Record]:
    """The records of a file in order, SMILES without a geometry unless wanted."""
    if suffix(path) in {".smi", ".txt", ".csv"} and not embed:
        lines = listed(path)
        return chained(next(lines, None), lines)
    return (read_record(entry, reader) for entry in stream(path))


def chained(first: Line | Skipped | None, rest: Iterable[Line | Skipped]) -> Iterator[Record]:
    """The records of SMILES lines; the first one is already read, so that a bad file has failed by now."""
    if first is not None:
        yield smiles_record(first)
    yield from map(smiles_record, rest)


def smiles_record(line: Line | Skipped) -> Record:
    """The graph of a SMILES."""
    if isinstance(line, Skipped):
        return skipped_record(line)
    if len(line.smiles) > MAX_LENGTH:
        return unreadable(line, f"more than {MAX_LENGTH} characters")
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(line.smiles)
    if mol is None:
        return unreadable(line, "not a valid SMILES")
    if mol.GetNumHeavyAtoms() > MAX_HEAVY:
        return unreadable(line, f"more than {MAX_HEAVY} heavy atoms")
    return Record(line.name, Chem.MolToSmiles(mol), graph_molecule(mol, line.name), "")


def graph_molecule(mol: Chem.Mol, name: str) -> Molecule:
    """A molecule that is its graph; its atoms are at the origin."""
    atoms = list(mol.GetAtoms())
    return Molecule(
        numbers=np.array([atom.GetAtomicNum() for atom in atoms], dtype=np.int64),
        positions=np.zeros((len(atoms), 3), dtype=np.float32),
        hydrogens=np.array([atom.GetTotalNumHs() for atom in atoms], dtype=np.int64),
        name=name,
        graph=mol,
    )


def read_record(entry: Molecule | Skipped, reader: BondReader) -> Record:
    """A record of a file with geometries."""
    if isinstance(entry, Skipped):
        return skipped_record(entry)
    mol, _ = reader(entry)
    return Record(entry.name, "" if mol is None else Chem.MolToSmiles(mol), entry, "")


def skipped_record(entry: Skipped) -> Record:
    """A record that its reader could not read."""
    return Record("", "", None, f"unreadable: {entry.reason} ({entry.where})")


def unreadable(line: Line, reason: str) -> Record:
    """A line that is no SMILES."""
    return Record(line.name, line.smiles[:MAX_LENGTH], None, f"unreadable: {reason} ({line.where})")


def score_records(batch: Sequence[Record], rewards: Mapping[str, MoleculeReward]) -> list[dict[str, Scored]]:
    """Each record's values by reward; records without a molecule go to no reward."""
    rows = [dict.fromkeys(rewards, Scored(math.nan, record.reason)) for record in batch]
    readable = [place for place, record in enumerate(batch) if record.molecule is not None]
    molecules = [molecule for record in batch if (molecule := record.molecule) is not None]
    if molecules:
        for name, reward in rewards.items():
            for place, scored in zip(readable, explain(reward, molecules).scored, strict=True):
                rows[place][name] = scored
    return rows


def explain(reward: MoleculeReward, samples: Sequence[Molecule]) -> Scores:
    """Values with reasons, from the reward's own `score` where it has one."""
    score = getattr(reward, "score", None)
    if score is not None:
        found = score(samples)
        if isinstance(found, Scores):
            return found
    values = reward(samples)
    if tuple(values.shape) != (len(samples),):
        raise ValueError(f"{type(reward).__name__}: got values of shape {tuple(values.shape)}, need ({len(samples)},)")
    return scores(Scored(value, "" if math.isfinite(value) else "not scored") for value in values.tolist())


def good(scored: Scored) -> bool:
    """Whether the value is a measurement: neither a floor nor missing."""
    return not scored.reason and math.isfinite(scored.value)


def joint_reason(row: Mapping[str, Scored]) -> str:
    """Why cells of a row are empty: one reason if all rewards agree, else each with its reward."""
    failed = {name: scored.reason for name, scored in row.items() if not good(scored)}
    if len(failed) == len(row) and len(set(failed.values())) == 1:
        return next(iter(failed.values()))
    return "; ".join(f"{name}: {reason}" for name, reason in failed.items())


def harmless(text: str) -> str:
    """A text that came from a file, as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def score_command(*, file: str, reward: MoleculeReward, out: str | None, reader: BondReader) -> int:
    """`molrl score`: write the table, print the summary; returns the exit code."""
    name = type(getattr(reward, "scorer", reward)).__name__.lower()
    table = out or f"{file}.{name}.csv"
    summary = score_file(file, {name: reward}, table, reader=reader)
    print(f"{summary}\ntable: {table}")
    return summary.exit_code
