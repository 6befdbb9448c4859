"""Preferences: which of two samples is the better one, from scores of the records of a file or from pairs of records.

The table is a CSV file that names records by their number, from 1, as the one that `molrl score` writes: either a
column `record` and a column of scores, or the columns `winner` and `loser`. Or scores are a field of the records.
"""

import csv
import io
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from molrl.gaussian import Context
from molrl.machine.files import read_text

Sample = TypeVar("Sample")

MAX_BYTES = 1 << 28
MAX_RECORD = 1 << 31
PAIR_COLUMNS = ("winner", "loser")
PLACES = ("record", "line")  # columns of numbers that are no scores


@dataclass(frozen=True)
class RecordStates:
    """The clean states of the records of a file that a model can express.

    Attributes:
        x0: [n, ...].
        context: of each state.
        numbers: of their records in the file, from 1, in ascending order.
    """

    x0: Float[Tensor, "n ..."]
    context: Context
    numbers: Sequence[int]


def keep_known(path: str, entries: Iterable[tuple[Sample, str]]) -> tuple[list[int], list[Sample]]:
    """Return the samples that a model knows and the numbers of their records, with a warning about the others.

    Args:
        path: of the file, for messages.
        entries: each record in order, with the reason why the model has no state for it, "" where it has one.

    Raises:
        ValueError: it has none for any.
    """
    listed = list(entries)
    problems = [problem for _, problem in listed if problem]
    if len(problems) == len(listed):
        raise ValueError(f"task.records={path}: the model knows none of {len(listed)} records: {problems[:1]}")
    if problems:
        text = f"task.records={path}: {len(problems)} of {len(listed)} records left out, the first: {problems[0]}"
        warnings.warn(text, stacklevel=2)
    known = [(number, sample) for number, (sample, problem) in enumerate(listed, 1) if not problem]
    return [number for number, _ in known], [sample for _, sample in known]


@dataclass(frozen=True)
class PreferenceTable:
    """The preferences of a file: scores by record, or pairs of records; the other one is empty."""

    scores: Mapping[int, float]
    pairs: Sequence[tuple[int, int]]


def read_preferences(path: str, column: str | None = None) -> PreferenceTable:
    """Read a table of preferences; empty scores are left out.

    Args:
        path: a CSV file.
        column: of the scores; None: the only column of numbers beside `record` and `line`.

    Raises:
        ValueError: the file is missing, too large or no such table; a cell is no number or names a record twice.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, MAX_BYTES, errors="replace")), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"{path}: no CSV file: {error}") from None
    fields = list(reader.fieldnames or ())
    if set(PAIR_COLUMNS) <= set(fields):
        pairs = [(whole(row["winner"], path), whole(row["loser"], path)) for row in rows]
        if not pairs:
            raise ValueError(f"{path}: no pair in it")
        return PreferenceTable({}, pairs)
    if "record" not in fields:
        raise ValueError(f"{path}: got the columns {', '.join(fields)}; need record and a score, or winner and loser")
    name = score_column(rows, fields, path) if column is None else column
    if name not in fields:
        raise ValueError(f"{path}: no column {name!r}; it has {', '.join(fields)}")
    scores = dict[int, float]()
    for row in rows:
        if text := (row[name] or "").strip():
            number = whole(row["record"], path)
            if number in scores:
                raise ValueError(f"{path}: record {number} twice")
            scores[number] = finite(text, name, path)
    if not scores:
        raise ValueError(f"{path}: no score in column {name!r}")
    return PreferenceTable(scores, ())


def field_scores(field: Mapping[int, str], name: str, path: str) -> PreferenceTable:
    """Return the scores that are a field of the records, by their number; ValueError if one is no number."""
    scores = {number: finite(text, name, f"{path}: record {number}") for number, text in field.items()}
    return PreferenceTable(scores, ())


def score_column(rows: Sequence[Mapping[str, str | None]], fields: Sequence[str], path: str) -> str:
    """Return the only column of numbers beside `record` and `line`."""
    filled = {name: [text for row in rows if (text := (row[name] or "").strip())] for name in fields}
    found = [name for name, texts in filled.items() if name not in PLACES and texts and all(map(is_number, texts))]
    if len(found) != 1:
        got = ", ".join(found) or "none"
        raise ValueError(f"{path}: columns of numbers: got {got}; name the one of the scores, algo.column=NAME")
    return found[0]


def is_number(text: str) -> bool:
    """Tell whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def finite(text: str, name: str, path: str) -> float:
    """Return a cell as a finite number; ValueError if it is none."""
    if not is_number(text):
        raise ValueError(f"{path}: {name}: got {text[:40]!r}, need a finite number")
    return float(text)


def whole(text: str | None, path: str) -> int:
    """Return a cell as the number of a record; ValueError if it is none."""
    if not (text or "").strip().isdecimal() or not 1 <= (number := int(str(text)[:20])) < MAX_RECORD:
        raise ValueError(f"{path}: got the record {str(text)[:40]!r}, need a number from 1")
    return number


@dataclass(frozen=True)
class PairSource:
    """Pairs of rows of some states, each with the better row first, to draw from.

    Attributes:
        better: rows that are better than others of their group; a row that wins several pairs of a table is there as
            often, so that all pairs are equally likely.
        worse: the rows that each of these is better than.
    """

    better: NDArray[np.int64]
    worse: Sequence[NDArray[np.int64]]

    def draw(self, generator: np.random.Generator) -> tuple[int, int]:
        """Draw a better row, and one that it is better than."""
        row = int(generator.integers(len(self.better)))
        return int(self.better[row]), int(generator.choice(self.worse[row]))


def pair_source(table: PreferenceTable, numbers: Sequence[int], groups: Sequence[int], margin: float) -> PairSource:
    """Return the pairs that a table gives of states with the same condition.

    The states of a pair must have the same condition, or its normalisation would not cancel.

    Args:
        table: of records.
        numbers: the record of each state.
        groups: of each state, equal where conditions are.
        margin: least difference of the scores, in standard deviations of those of all states; pairs of equal scores are
            never made.

    Raises:
        ValueError: there is no pair.
    """
    rows = {number: row for row, number in enumerate(numbers)}
    drawn = list[tuple[int, NDArray[np.int64]]]()
    if table.pairs:
        for winner, loser in table.pairs:
            if winner in rows and loser in rows and groups[rows[winner]] == groups[rows[loser]]:
                drawn.append((rows[winner], np.array([rows[loser]])))
    else:
        scores = np.array([table.scores.get(number, math.nan) for number in numbers])
        least = margin * float(np.nanstd(scores)) if np.isfinite(scores).any() else 0.0
        for row, own in enumerate(groups):
            lower = (np.asarray(groups) == own) & (scores < scores[row]) & (scores <= scores[row] - least)
            if lower.any():
                drawn.append((row, np.flatnonzero(lower)))
    if not drawn:
        raise ValueError(
            f"preferences: got no pair among {len(numbers)} samples that the model knows; the two of a pair need the "
            "same condition (size, class) and scores that differ by the margin"
        )
    return PairSource(np.array([row for row, _ in drawn]), [worse for _, worse in drawn])


def extremes(
    rewards: Float[Tensor, " b"], group_size: int, margin: float, spread: float
) -> tuple[Int[Tensor, "p 2"], Bool[Tensor, " p"]]:
    """Return the best and the worst sample of each group of neighbours, and whether the group has a preference.

    It has none where rewards are equal. NaN is neither best nor worst; a group of nothing else is left out.

    Args:
        rewards: of whole groups.
        margin: least difference of best and worst, in units of `spread`.
        spread: standard deviation of the rewards of the round.
    """
    by_group = rewards.detach().cpu().double().view(-1, group_size)
    best, winner = by_group.nan_to_num(-math.inf).max(1)
    worst, loser = torch.where(by_group.isnan(), math.inf, by_group).min(1)
    kept = (~by_group.isnan().all(1)).nonzero().squeeze(1)
    rows = kept[:, None] * group_size + torch.stack([winner, loser], 1)[kept]
    return rows, ((best > worst) & (best - worst >= margin * spread))[kept]
