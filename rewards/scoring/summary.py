"""What scoring a file came to: figures that are gathered row by row in bounded memory."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from molrl.rewards.scores import category
from molrl.rewards.scoring.record import LOST
from molrl.rewards.scoring.table import Row, single_reasons

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DONE, NOTHING_SCORED, SOME_FAILED = 0, 3, 4
NAMED = 5  # lines that are named for each reason
MOST_KINDS = 30  # of reasons


@dataclass(frozen=True)
class Figures:
    """What one reward said of a file.

    Attributes:
        scored: good samples.
        mean: of their values.
        quantiles: of their values in four significant digits, at `QUANTILES`.
        missing: how many samples have no value, by category of reason.
        lines: where the first of those begin.
    """

    scored: int
    mean: float | None
    quantiles: Sequence[float]
    missing: Mapping[str, int]
    lines: Mapping[str, Sequence[int]]

    def __str__(self) -> str:
        if self.mean is None:
            return "nothing scored"
        points = " ".join(f"{value:.4g}" for value in self.quantiles)
        percent = "/".join(f"{100 * point:g}" for point in QUANTILES)
        return f"mean {self.mean:.4f}, {percent} % quantiles {points}"


@dataclass(frozen=True)
class Summary:
    """What scoring a file came to.

    Attributes:
        records: in the file, readable or not.
        failed: those that could not be read, or not be scored with every reward, through no fault of the sample.
        figures: by reward.
        found: the output was there already, and complete.
    """

    source: str
    records: int
    failed: int
    figures: Mapping[str, Figures]
    found: bool = False

    def exit_code(self, *, allow_failures: bool = False) -> int:
        """0; 3 when no reward could score anything; 4 when some records failed, unless that is allowed."""
        if self.found:
            return DONE
        if not any(figures.scored for figures in self.figures.values()):
            return NOTHING_SCORED
        return SOME_FAILED if self.failed and not allow_failures else DONE

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Summary":
        """Back from JSON, as of an output that was there already."""
        figures = {name: Figures(**figures) for name, figures in values["figures"].items()}
        return cls(values["source"], values["records"], values["failed"], figures, found=True)

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.records} records"]
        for name, figures in self.figures.items():
            lines.append(f"  {name}: {figures.scored} scored, {figures}")
            for reason, count in figures.missing.items():
                places = [str(line) for line in figures.lines.get(reason, ())]
                more = ", ..." if count > len(places) > 0 else ""
                where = f" (line{'s' * (count > 1)} {', '.join(places)}{more})" if places else ""
                lines.append(f"    {count} {reason}{where}")
        return "\n".join(lines)


class Tally:
    """The figures of one reward while they are gathered; values are counted in four significant digits."""

    def __init__(self) -> None:
        self.scored = 0
        self.total = 0.0
        self.values: Counter[float] = Counter()
        self.missing: Counter[str] = Counter()
        self.lines: dict[str, list[int]] = {}

    def add(self, cell: str, reason: str, line: int) -> None:
        """Count a cell, or why it is empty."""
        if cell:
            value = float(cell)
            self.scored += 1
            self.total += value
            self.values[float(f"{value:.4g}")] += 1
            return
        kind = self.kind(reason, detailed=not line)
        self.missing[kind] += 1
        lines = self.lines.setdefault(kind, [])
        if line and len(lines) < NAMED:
            lines.append(line)

    def kind(self, reason: str, *, detailed: bool) -> str:
        """The category of a reason; where that says little, with what follows, as long as there are few of these.

        Args:
            detailed: no line can be named, so what was unreadable should be told.
        """
        general, _, rest = reason.partition(": ")
        special = f"{general}: {category(rest)}" if rest else general
        vague = general == "not scored" or (detailed and general == "unreadable")
        if vague and (special in self.missing or len(self.missing) < MOST_KINDS):
            return special
        return category(reason)

    def figures(self) -> Figures:
        mean = self.total / self.scored if self.scored else None
        return Figures(self.scored, mean, self.quantiles(), dict(self.missing.most_common()), self.lines)

    def quantiles(self) -> list[float]:
        """Interpolated between neighbours, as numpy does it."""
        if not self.scored:
            return []
        values = np.array(sorted(self.values))
        ranks = np.cumsum([self.values[value] for value in values.tolist()])  # up to and with each value
        places = np.array(QUANTILES) * (self.scored - 1)
        below, above = (
            values[np.searchsorted(ranks, edge, side="right")] for edge in (np.floor(places), np.ceil(places))
        )
        return [float(value) for value in below + (places - np.floor(places)) * (above - below)]


class Tallies:
    """The summary of a file while it is gathered."""

    def __init__(self, rewards: Sequence[str]) -> None:
        self.rewards = tuple(rewards)
        self.records = 0
        self.failed = 0
        self.by_reward = {name: Tally() for name in rewards}

    def add(self, row: Row) -> None:
        """Count a row of the table."""
        self.records += 1
        reasons = single_reasons(row.reason, self.rewards)
        self.failed += any(category(reason) in LOST for reason in reasons.values())
        for name, tally in self.by_reward.items():
            tally.add(row.cells[name], reasons.get(name, ""), row.line)

    def summary(self, source: str) -> Summary:
        """What it came to."""
        figures = {name: tally.figures() for name, tally in self.by_reward.items()}
        return Summary(source, self.records, self.failed, figures)
