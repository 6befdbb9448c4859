"""Files and folders of images for `molrl score`: their records, and the caption of each.

Worker processes import this module, so it must not import torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from molrl.data.files import Skipped, identity_of_files
from molrl.data.images.image import CaptionedImage
from molrl.data.images.records import ImageRecord, image_files, image_records, read_image
from molrl.rewards.scores import Scorer
from molrl.rewards.scoring.record import RecordRequest, RecordResult, score_sample, unreadable
from molrl.rewards.scoring.table import TABLES, Table


@dataclass(frozen=True)
class ImageFiles:
    """The source of records in image files, and in folders and zip archives of images."""

    kind: ClassVar[str] = "images"
    column: ClassVar[str] = "prompt"
    tables: ClassVar[Mapping[str, type[Table]]] = TABLES

    def records(self, path: str | Path) -> Iterator[ImageRecord]:
        """Yield the records of a file or folder in order; raise ValueError, at once, if there are none."""
        return image_records(Path(path))

    def record_scorer(
        self, scorers: Mapping[str, Scorer[Any]], others: tuple[str, ...], *, texts: bool
    ) -> "ImageRecordScorer":
        """Return a function that reads and scores records; no table of images needs texts."""
        del texts
        return ImageRecordScorer(scorers=scorers, others=others)

    def identity(self, path: str | Path) -> Mapping[str, Any]:
        """Return JSON that tells a file or folder from another one."""
        return identity_of_files(image_files(Path(path)))

    def settings(self) -> Mapping[str, Any]:
        """Return no settings: the reader has none."""
        return {}


@dataclass(frozen=True, kw_only=True)
class ImageRecordScorer:
    """A function that reads an image and scores it.

    Attributes:
        scorers: by reward.
        others: rewards that are computed elsewhere and need the image in the result.
    """

    scorers: Mapping[str, Scorer[CaptionedImage]]
    others: tuple[str, ...]

    def __call__(self, request: RecordRequest) -> RecordResult:
        record: ImageRecord = request.record
        image = read_image(record)
        if isinstance(image, Skipped):
            return unreadable(record, image.reason, record.caption, (*request.rewards, *self.others))
        scored, parts = score_sample(self.scorers, request.rewards, image)
        return RecordResult(record.name, record.caption, scored, parts, "", image if self.others else None)
