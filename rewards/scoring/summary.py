"""The summary of scoring a file: statistics that are gathered row by row in bounded memory."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np

from molrl.exit_codes import ExitCode
from molrl.rewards.scores import category
from molrl.rewards.scoring.record import LOST
from molrl.rewards.scoring.table import Row, split_reasons

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MAX_LINES = 5  # line numbers that are kept for each reason
MAX_CATEGORIES = 30  # of reasons that are told apart by their detail

Limits: TypeAlias = Mapping[str, tuple[float, str]]
"""The number by column beyond which a value needs caution, and a sentence that says why."""


@dataclass(frozen=True)
class Figures:
    """The statistics of one reward over a file.

    Attributes:
        scored: good samples.
        mean: of their values.
        quantiles: of their values in four significant digits, at `QUANTILES`.
        missing: how many samples have no value, by category of reason.
        lines: where the first of those begin.
        cautions: how many values need one, by its sentence.
    """

    scored: int
    mean: float | None
    quantiles: Sequence[float]
    missing: Mapping[str, int]
    lines: Mapping[str, Sequence[int]]
    cautions: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.mean is None:
            return "nothing scored"
        points = " ".join(f"{value:.4g}" for value in self.quantiles)
        percent = "/".join(f"{100 * point:g}" for point in QUANTILES)
        return f"mean {self.mean:.4f}, {percent} % quantiles {points}"


@dataclass(frozen=True)
class Summary:
    """The result of scoring a file.

    Attributes:
        records: in the file, readable or not.
        failed: those that could not be read, or not be scored with every reward, through no fault of the sample.
        figures: by reward.
        existed: the output was there already, and complete.
    """

    source: str
    records: int
    failed: int
    figures: Mapping[str, Figures]
    existed: bool = False

    def exit_code(self, *, allow_failures: bool = False) -> ExitCode:
        """Return the exit code; records that failed count unless that is allowed, and nothing scored always does."""
        if self.existed:
            return ExitCode.DONE
        if not any(figures.scored for figures in self.figures.values()):
            return ExitCode.NOTHING_SCORED
        return ExitCode.SOME_FAILED if self.failed and not allow_failures else ExitCode.DONE

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as a dictionary for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Summary":
        """Return the summary of an output that was there already, from JSON."""
        figures = {name: Figures(**figures) for name, figures in values["figures"].items()}
        return cls(values["source"], values["records"], values["failed"], figures, existed=True)

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.records} records"]
        for name, figures in self.figures.items():
            lines.append(f"  {name}: {figures.scored} scored, {figures}")
            for reason, count in figures.missing.items():
                places = [str(line) for line in figures.lines.get(reason, ())]
                more = ", ..." if count > len(places) > 0 else ""
                where = f" (line{'s' * (count > 1)} {', '.join(places)}{more})" if places else ""
                lines.append(f"    {count} {reason}{where}")
            lines += [f"    {count} {sentence}" for sentence, count in figures.cautions.items()]
        return "\n".join(lines)


class Tally:
    """A running count of one reward's statistics; values are counted in four significant digits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.cautions: Counter[str] = Counter()
        self.scored = 0
        self.total = 0.0
        self.values: Counter[float] = Counter()
        self.missing: Counter[str] = Counter()
        self.lines: dict[str, list[int]] = {}

    def add(self, cell: str, reason: str, line: int) -> None:
        """Count the value of a cell, or the reason why it is empty."""
        if cell:
            value = float(cell)
            self.scored += 1
            self.total += value
            self.values[float(f"{value:.4g}")] += 1
            return
        group = self.group(reason, detailed=not line)
        self.missing[group] += 1
        lines = self.lines.setdefault(group, [])
        if line and len(lines) < MAX_LINES:
            lines.append(line)

    def caution(self, cells: Mapping[str, str]) -> None:
        """Count the parts of a value that are beyond their limits."""
        for column, (limit, sentence) in self.limits.items():
            if cells.get(column) and float(cells[column]) > limit:
                self.cautions[sentence] += 1

    def group(self, reason: str, *, detailed: bool) -> str:
        """Return the category of a reason, with its detail where the category is vague and there are few of these.

        Args:
            detailed: add the detail to "unreadable" as well, for records without a line number.
        """
        general, _, rest = reason.partition(": ")
        special = f"{general}: {category(rest)}" if rest else general
        vague = general == "not scored" or (detailed and general == "unreadable")
        if vague and (special in self.missing or len(self.missing) < MAX_CATEGORIES):
            return special
        return category(reason)

    def figures(self) -> Figures:
        """Return the statistics of what was counted."""
        mean = self.total / self.scored if self.scored else None
        missing = dict(self.missing.most_common())
        return Figures(self.scored, mean, self.quantiles(), missing, self.lines, dict(self.cautions))

    def quantiles(self) -> list[float]:
        """Return the values at `QUANTILES`, interpolated between neighbours as numpy does it."""
        if not self.scored:
            return []
        values = np.array(sorted(self.values))
        ranks = np.cumsum([self.values[value] for value in values.tolist()])  # up to and with each value
        positions = np.array(QUANTILES) * (self.scored - 1)
        below, above = (
            values[np.searchsorted(ranks, edge, side="right")] for edge in (np.floor(positions), np.ceil(positions))
        )
        return [float(value) for value in below + (positions - np.floor(positions)) * (above - below)]


class Tallies:
    """A running count of the statistics of all rewards over a file."""

    def __init__(self, rewards: Mapping[str, Limits]) -> None:
        """Begin to count.

        Args:
            rewards: the limits of each, by its name.
        """
        self.rewards = tuple(rewards)
        self.records = 0
        self.failed = 0
        self.by_reward = {name: Tally(limits) for name, limits in rewards.items()}

    def add(self, row: Row) -> None:
        """Count a row of the table."""
        self.records += 1
        reasons = split_reasons(row.reason, self.rewards)
        self.failed += any(category(reason) in LOST for reason in reasons.values())
        for name, tally in self.by_reward.items():
            tally.add(row.cells[name], reasons.get(name, ""), row.line)
            tally.caution(row.cells)

    def summary(self, source: str) -> Summary:
        """Return the summary of the rows that were counted."""
        figures = {name: tally.figures() for name, tally in self.by_reward.items()}
        return Summary(source, self.records, self.failed, figures)
