"""What becomes of one record of a file, in whatever process: it is read, scored by every reward, and written down.

Worker processes import this module, so it must not import torch.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from molrl.rewards.scores import Explained, Scored, Scorer, category, score_safely

LOST = ("unreadable", "timeout", "crash", "error", "non-finite", "not scored")
"""Categories of reasons for a value that could not be had; all others are the sample's own fault."""


class Record(Protocol):
    """One record of a file, before anything is made of it that could hang or crash."""

    @property
    def line(self) -> int:
        """Where it begins in the file, from 1; 0 where a file has no lines."""
        ...

    @property
    def name(self) -> str:
        """As far as it is known without reading on."""
        ...


class RecordRequest(NamedTuple):
    """A record and the rewards that are asked about it."""

    record: Any
    rewards: tuple[str, ...]


class RecordResult(NamedTuple):
    """What was found out about a record.

    Attributes:
        name: of the sample, "" for none.
        label: what it is: the SMILES of a molecule, the class of a shape; "" where there is none.
        scored: by reward.
        parts: finite numbers that explain good values, by column.
        text: a record of an SDF file without its end mark, if one is wanted and there is a molecule.
        sample: for rewards of another process, if there are any.
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
    """How files of one kind of samples are read, and what a table says of a sample.

    Attributes:
        domain: what it reads: "molecules", "shapes".
        column: of what a sample is.
        suffixes: of the tables that can be written.
    """

    domain: ClassVar[str]
    column: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def records(self, path: str | Path) -> Iterator[Record]:
        """Those of a file in order; ValueError, at once, for what has none."""
        ...

    def record_scorer(
        self, scorers: Mapping[str, Scorer[Any]], others: tuple[str, ...], *, texts: bool
    ) -> RecordScorer:
        """Who reads them and asks the scorers; `others` are rewards that need the samples handed back."""
        ...

    def identity(self, path: str | Path) -> Mapping[str, Any]:
        """What tells a file from another one, or from itself after a change, as JSON."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """How it reads, as JSON."""
        ...


def unread(record: Record, reason: str, label: str, rewards: tuple[str, ...]) -> RecordResult:
    """About a record that is no sample."""
    bad = Scored(math.nan, f"unreadable: {reason}")
    return RecordResult(record.name, label, dict.fromkeys(rewards, bad), {})


def asked(
    scorers: Mapping[str, Scorer[Any]], rewards: tuple[str, ...], sample: Any
) -> tuple[dict[str, Scored], dict[str, float]]:
    """What the scorers say of a sample, and what their values are made of, by column."""
    found = {name: score_safely(scorers[name], sample) for name in rewards}
    parts = explained(scorers, sample, found)
    return {name: settled(one) for name, one in found.items()}, parts


def settled(scored: Scored) -> Scored:
    """A score whose reason tells, by its category, whether the value was lost or is the sample's fault."""
    known = math.isfinite(scored.value) or category(scored.reason) in LOST
    return Scored(scored.value, scored.reason if known else f"not scored: {scored.reason}".rstrip(": "))


def good(scored: Scored) -> bool:
    """Whether the value is a measurement: neither a floor nor missing."""
    return not scored.reason and math.isfinite(scored.value)


def part_columns(name: str, scorer: object) -> tuple[str, ...]:
    """The columns of a reward that says what it is made of."""
    return tuple(f"{name}.{part}" for part in getattr(scorer, "parts", ()))


def explained(scorers: Mapping[str, Any], sample: Any, scored: Mapping[str, Scored]) -> dict[str, float]:
    """What values are made of, by column, as far as it is known and finite."""
    found: dict[str, float] = {}
    for name, one in scored.items():
        columns = part_columns(name, scorers[name])
        if columns:
            parts = {f"{name}.{part}": float(value) for part, value in explanation(scorers[name], sample, one).items()}
            found |= {column: parts[column] for column in columns if math.isfinite(parts.get(column, math.nan))}
    return found


def explanation(scorer: Any, sample: Any, scored: Scored) -> Mapping[str, float]:
    """The parts that came with a value, or that the scorer gives for a good one."""
    if isinstance(scored, Explained):
        return scored.parts
    try:
        return dict(scorer.explain(sample)) if good(scored) else {}
    except Exception:  # the value itself is there
        return {}
