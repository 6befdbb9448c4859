"""Files of points: two numbers in each line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from molrl.rewards.scores import Scorer
from molrl.rewards.scoring.journal import identity
from molrl.rewards.scoring.record import RecordRequest, RecordResult, RecordScorer, score_sample, unreadable
from molrl.rewards.scoring.table import TABLES, Table

SUFFIX = ".circle"


class Line(NamedTuple):
    """One line of a file."""

    line: int
    name: str
    text: str


def read_lines(path: str | Path) -> list[Line]:
    """Return the lines of a file with anything on them."""
    lines = Path(path).read_text().splitlines()
    return [Line(number, f"point {number}", text) for number, text in enumerate(lines, 1) if text.strip()]


def point_of(line: Line) -> NDArray[np.float64]:
    """Return the point of a line; raise ValueError where it has none."""
    values = np.array([float(word) for word in line.text.split()])
    if values.shape != (2,) or not np.isfinite(values).all():
        raise ValueError(f"need two numbers, got {line.text!r}")
    return values


def write_points(samples: Sequence[NDArray[np.float64]], path: Path) -> int:
    """Write a file of points and return how many there are."""
    path.write_text("".join(f"{x:.8g} {y:.8g}\n" for x, y in samples))
    return len(samples)


@dataclass(frozen=True)
class PointScorer:
    """Reads a line and scores its point."""

    scorers: Mapping[str, Scorer[Any]]
    others: tuple[str, ...]

    def __call__(self, request: RecordRequest, /) -> RecordResult:
        record = request.record
        try:
            point = point_of(record)
        except ValueError as error:
            return unreadable(record, str(error), "", (*request.rewards, *self.others))
        scored, parts = score_sample(self.scorers, request.rewards, point)
        return RecordResult(record.name, "", scored, parts, "", point if self.others else None)


class PointFiles:
    """The source of records in files of points."""

    kind: ClassVar[str] = "circle"
    column: ClassVar[str] = "label"
    tables: ClassVar[Mapping[str, type[Table]]] = TABLES

    def records(self, path: str | Path) -> Iterator[Line]:
        return iter(read_lines(path))

    def record_scorer(
        self, scorers: Mapping[str, Scorer[Any]], others: tuple[str, ...], *, texts: bool
    ) -> RecordScorer:
        return PointScorer(scorers, others)

    def identity(self, path: str | Path) -> Mapping[str, Any]:
        return identity(path)

    def settings(self) -> Mapping[str, Any]:
        return {}
