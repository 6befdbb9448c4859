"""Files and folders of shapes for `molrl score`: their records, and the class of each.

Worker processes import this module, so it must not import torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from molrl.data.files import Skipped, suffix
from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.folders import SHAPE_SUFFIXES
from molrl.data.shapes.records import ShapeReader, ShapeRecord, identity_of
from molrl.rewards.scores import Scorer
from molrl.rewards.scoring.journal import description
from molrl.rewards.scoring.record import RecordRequest, RecordResult, score_sample, unreadable
from molrl.rewards.scoring.table import TABLES, Table


@dataclass(frozen=True)
class ShapeFiles:
    """The source of records in files and folders of shapes."""

    reader: ShapeReader
    kind: ClassVar[str] = "shapes"
    column: ClassVar[str] = "class"
    tables: ClassVar[Mapping[str, type[Table]]] = TABLES

    def records(self, path: str | Path) -> Iterator[ShapeRecord]:
        """Yield the records of a file or folder in order; raise ValueError, at once, if there are none."""
        if not Path(path).is_dir() and suffix(path) not in SHAPE_SUFFIXES:
            allowed = f"{', '.join(SHAPE_SUFFIXES)} and folders"
            raise ValueError(f"{path}: the reward scores shapes, got {suffix(path)!r}, allowed are {allowed}")
        return self.reader.records(path)

    def record_scorer(
        self, scorers: Mapping[str, Scorer[Any]], others: tuple[str, ...], *, texts: bool
    ) -> "ShapeRecordScorer":
        """Return a function that reads and scores records; no table of shapes needs texts."""
        del texts
        return ShapeRecordScorer(scorers=scorers, reader=self.reader, others=others)

    def identity(self, path: str | Path) -> Mapping[str, Any]:
        """Return JSON that tells a file or folder from another one."""
        return identity_of(path)

    def settings(self) -> Mapping[str, Any]:
        """Return the settings of the reader."""
        return {"shapes": description(self.reader)}


@dataclass(frozen=True, kw_only=True)
class ShapeRecordScorer:
    """A function that reads a record of a shape file and scores the shape.

    Attributes:
        scorers: by reward.
        others: rewards that are computed elsewhere and need the shape in the result.
    """

    scorers: Mapping[str, Scorer[PointCloud]]
    reader: ShapeReader
    others: tuple[str, ...]

    def __call__(self, request: RecordRequest) -> RecordResult:
        record: ShapeRecord = request.record
        entry = self.reader.point_cloud(record)
        if isinstance(entry, Skipped):
            return unreadable(record, entry.reason, record.label, (*request.rewards, *self.others))
        scored, parts = score_sample(self.scorers, request.rewards, entry)
        return RecordResult(record.name, record.label, scored, parts, "", entry if self.others else None)
