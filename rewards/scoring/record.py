"""The path of one record of a file through any process: it is read, scored by every reward, and becomes a result.

Worker processes import this module, so it must not import torch.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from molrl.rewards.scores import Explained, Scored, Scorer, category, score_safely
from molrl.rewards.scoring.table import Table

LOST = ("unreadable", "timeout", "crash", "error", "non-finite", "not scored")
"""Categories of reasons for a value that could not be had; all others are the sample's own fault."""


class Record(Protocol):
    """One record of a file, before it is parsed, which could hang or crash."""

    @property
    def line(self) -> int:
        """Return the line at which it begins in the file, from 1; 0 where a file has no lines."""
        ...

    @property
    def name(self) -> str:
        """Return its name, as far as it is known before parsing."""
        ...


class RecordRequest(NamedTuple):
    """A record and the names of the rewards that are to score it."""

    record: Any
    rewards: tuple[str, ...]


class RecordResult(NamedTuple):
    """The scores of a record and what a table shows beside them.

    Attributes:
        name: of the sample, "" for none.
        label: identifies the sample, for instance by its class; "" where there is none.
        scored: by reward.
        parts: finite numbers that explain good values, by column.
        text: the record itself, for tables that need it, if it holds a sample.
        sample: for the rewards of another process, if there are any.
    """

    name: str
    label: str
    scored: Mapping[str, Scored]
    parts: Mapping[str, float]
    text: str = ""
    sample: Any = None


RecordScorer: TypeAlias = Callable[[RecordRequest], RecordResult]
"""Reads a record and scores it; it can be sent to a worker process."""


class Source(Protocol):
    """A reader of files of one kind of samples, with what a table needs to know of these.

    Attributes:
        kind: of the samples, as rewards state it.
        column: the name of the column of labels.
        tables: that can be written, by the suffix of the file.
    """

    kind: ClassVar[str]
    column: ClassVar[str]
    tables: ClassVar[Mapping[str, type[Table]]]

    def records(self, path: str | Path) -> Iterator[Record]:
        """Yield the records of a file in order; raise ValueError, at once, for a file without any."""
        ...

    def record_scorer(
        self, scorers: Mapping[str, Scorer[Any]], others: tuple[str, ...], *, texts: bool
    ) -> RecordScorer:
        """Return a function that reads and scores records.

        Args:
            scorers: by reward.
            others: rewards that are computed elsewhere and need the samples in the results.
            texts: results need the text of their record.
        """
        ...

    def identity(self, path: str | Path) -> Mapping[str, Any]:
        """Return JSON that tells a file from another one, or from itself after a change."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """Return the settings of the reader as JSON."""
        ...


def unreadable(record: Record, reason: str, label: str, rewards: tuple[str, ...]) -> RecordResult:
    """Return the result of a record that could not be read as a sample."""
    lost = Scored(math.nan, f"unreadable: {reason}")
    return RecordResult(record.name, label, dict.fromkeys(rewards, lost), {})


def score_sample(
    scorers: Mapping[str, Scorer[Any]], rewards: tuple[str, ...], sample: Any
) -> tuple[dict[str, Scored], dict[str, float]]:
    """Return the scores of a sample by reward, and the parts of their values by column."""
    scored = {name: score_safely(scorers[name], sample) for name in rewards}
    parts = part_values(scorers, sample, scored)
    return {name: mark_lost(one) for name, one in scored.items()}, parts


def mark_lost(scored: Scored) -> Scored:
    """Return a score whose category, if its value is NaN, is one of `LOST`: "not scored" in front of any other."""
    marked = math.isfinite(scored.value) or category(scored.reason) in LOST
    return Scored(scored.value, scored.reason if marked else f"not scored: {scored.reason}".rstrip(": "))


def is_good(scored: Scored) -> bool:
    """Return True if the value is a measurement, neither a floor nor missing."""
    return not scored.reason and math.isfinite(scored.value)


def part_columns(name: str, scorer: object) -> tuple[str, ...]:
    """Return the columns for the parts of a reward; none for a reward without parts."""
    return tuple(f"{name}.{part}" for part in getattr(scorer, "parts", ()))


def part_limits(name: str, scorer: object) -> dict[str, tuple[float, str]]:
    """Return the limits of the parts of a reward beyond which its value needs caution, with the reason, by column."""
    return {f"{name}.{part}": limit for part, limit in getattr(scorer, "limits", {}).items()}


def part_values(scorers: Mapping[str, Any], sample: Any, scored: Mapping[str, Scored]) -> dict[str, float]:
    """Return the finite parts of values by column."""
    values: dict[str, float] = {}
    for name, one in scored.items():
        columns = part_columns(name, scorers[name])
        if columns:
            parts = {f"{name}.{part}": float(value) for part, value in explain(scorers[name], sample, one).items()}
            values |= {column: parts[column] for column in columns if math.isfinite(parts.get(column, math.nan))}
    return values


def explain(scorer: Any, sample: Any, scored: Scored) -> Mapping[str, float]:
    """Return the parts that came with a value, or that the scorer gives for a good one."""
    if isinstance(scored, Explained):
        return scored.parts
    try:
        return dict(scorer.explain(sample)) if is_good(scored) else {}
    except Exception:  # the value itself is there
        return {}
