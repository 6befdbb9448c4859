"""Files and folders of shapes as something to score: their records, and the class of each.

Worker processes import this module, so it must not import torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from molrl.data.files import Skipped, suffix
from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.files import SHAPE_SUFFIXES
from molrl.data.shapes.records import ShapeReader, ShapeRecord, identity_of
from molrl.rewards.scores import Scorer
from molrl.rewards.scoring.journal import description
from molrl.rewards.scoring.record import RecordRequest, RecordResult, asked, unread


@dataclass(frozen=True)
class ShapeFiles:
    """Files and folders of shapes."""

    reader: ShapeReader
    domain: ClassVar[str] = "shapes"
    column: ClassVar[str] = "class"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".csv.gz", ".parquet")

    def records(self, path: str | Path) -> Iterator[ShapeRecord]:
        """Those of a file or folder in order; ValueError, at once, for what has none."""
        if not Path(path).is_dir() and suffix(path) not in SHAPE_SUFFIXES:
            allowed = f"{', '.join(SHAPE_SUFFIXES)} and folders"
            raise ValueError(f"{path}: the reward scores shapes, got {suffix(path)!r}, allowed are {allowed}")
        return self.reader.records(path)

    def record_scorer(
        self, scorers: Mapping[str, Scorer[Any]], others: tuple[str, ...], *, texts: bool
    ) -> "ShapeRecordScorer":
        """Who reads them and asks the scorers; there are no texts."""
        del texts
        return ShapeRecordScorer(scorers=scorers, reader=self.reader, others=others)

    def identity(self, path: str | Path) -> Mapping[str, Any]:
        """What tells a file or folder from another one."""
        return identity_of(path)

    def settings(self) -> Mapping[str, Any]:
        """How it reads."""
        return {"shapes": description(self.reader)}


@dataclass(frozen=True, kw_only=True)
class ShapeRecordScorer:
    """Reads records and scores them.

    Attributes:
        scorers: by reward.
        others: rewards that are not asked here, but need the record to be readable and the shape handed back.
    """

    scorers: Mapping[str, Scorer[PointCloud]]
    reader: ShapeReader
    others: tuple[str, ...]

    def __call__(self, request: RecordRequest) -> RecordResult:
        record: ShapeRecord = request.record
        entry = self.reader.point_cloud(record)
        if isinstance(entry, Skipped):
            return unread(record, entry.reason, record.label, (*request.rewards, *self.others))
        scored, parts = asked(self.scorers, request.rewards, entry)
        return RecordResult(record.name, record.label, scored, parts, "", entry if self.others else None)
