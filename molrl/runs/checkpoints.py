"""A run's checkpoints: a series of folders step_00000012, each complete or absent; the newest and the best are kept.

A checkpoint is saved in this order: a staging folder inside the series is written, every file and the folder are
flushed to the disk, the folder is renamed, and the marker COMPLETE with the manifest's SHA-256 is added. Older ones are
removed after that. So a process that is killed at any point leaves the old state or the new one. The series belongs to
one process at a time (`molrl.runs.folder.lock`).
"""

import contextlib
import errno
import math
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from molrl.runs import checkpoint
from molrl.runs.checkpoint import MANIFEST, sha256, sync_folder
from molrl.runs.errors import CheckpointError, SaveError

CHECKPOINTS = "checkpoint"  # folder of the series, inside the folder of a run
COMPLETE = "COMPLETE"
STEP_PREFIX = "step_"
STAGING_PREFIX = ".staging-"
DAMAGED_PREFIX = "damaged_"
MAX_ATTEMPTS, RETRY_SECONDS = 3, 2.0  # a disk may be full for a few seconds only


@dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
    """A rule for the checkpoints of a run that are kept.

    Attributes:
        newest: number of the latest checkpoints that are kept.
        best: name of a metric of the run's rows; the checkpoint with its best value is kept as well.
        highest: whether higher values of the metric are better.
    """

    newest: int
    best: str
    highest: bool

    def __post_init__(self) -> None:
        if self.newest < 1:
            raise ValueError(f"newest: got {self.newest}, need at least 1")

    def improves(self, new: float, old: float) -> bool:
        """Return whether `new` is better than `old`; any number is better than NaN."""
        if math.isnan(new) or math.isnan(old):
            return math.isnan(old) and not math.isnan(new)
        return new > old if self.highest else new < old


@contextlib.contextmanager
def as_checkpoint_error(folder: Path) -> Iterator[None]:
    """Raise CheckpointError within the block where a checkpoint that is intact does not fit this run."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder}: holds no checkpoint of this run ({error!r})") from error


class SavedCheckpoint(NamedTuple):
    """A checkpoint that was read: its step, tensors by file and name, values by file."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any]


@dataclass(frozen=True)
class Series:
    """A series of checkpoints in one folder.

    Attributes:
        folder: holds the series; `checkpoint/` of a run.
        newest: number of the latest checkpoints that are kept.
    """

    folder: Path
    newest: int = 3

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return self.folder / f"{STEP_PREFIX}{step:08d}"

    def steps(self) -> list[int]:
        """Return the steps of all complete checkpoints, in order."""
        return sorted(
            int(path.name.removeprefix(STEP_PREFIX))
            for path in self.folder.glob(f"{STEP_PREFIX}*")
            if path.name.removeprefix(STEP_PREFIX).isdecimal() and (path / COMPLETE).is_file()
        )

    def save(
        self,
        step: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        values: Mapping[str, Any],
        kept: Collection[int] = (),
    ) -> None:
        """Add a checkpoint, then remove those that are neither among the newest nor `kept`.

        Raises:
            SaveError: it could not be written; the message names the folder, the reason and the free space.
                Earlier checkpoints are unchanged.
        """
        files = checkpoint.contents(tensors, values)
        staging = self.folder / f"{STAGING_PREFIX}{step}-{os.getpid()}"
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                self.clean()
                self.check_free_space(sum(map(len, files.values())))
                checkpoint.write(staging, files)
                break
            except OSError as error:
                shutil.rmtree(staging, ignore_errors=True)
                if attempt == MAX_ATTEMPTS:
                    raise self.write_error(step, error) from error
                time.sleep(RETRY_SECONDS)
        try:
            self.publish(staging, step, sha256(files[MANIFEST]))
        except OSError as error:
            raise self.write_error(step, error) from error
        self.prune(kept)

    def publish(self, staging: Path, step: int, digest: str) -> None:
        """Rename a staged checkpoint, and add its marker once the rename is on the disk."""
        shutil.rmtree(self.path(step), ignore_errors=True)  # an incomplete one: see `latest`
        staging.rename(self.path(step))
        sync_folder(self.folder)
        unmarked = self.path(step) / f".{COMPLETE}"
        checkpoint.write_synced(unmarked, digest.encode())
        unmarked.rename(self.path(step) / COMPLETE)
        sync_folder(self.path(step))

    def prune(self, kept: Collection[int]) -> None:
        """Remove old checkpoints, the marker of each first, so that no partly removed one looks complete."""
        for step in self.steps()[: -self.newest]:
            if step not in kept:
                (self.path(step) / COMPLETE).unlink()
                shutil.rmtree(self.path(step), ignore_errors=True)

    def unfinished_folders(self) -> list[Path]:
        """Return the folders of incomplete checkpoints, which a killed process has left."""
        unmarked = [path for path in self.folder.glob(f"{STEP_PREFIX}*") if not (path / COMPLETE).is_file()]
        return [*self.folder.glob(f"{STAGING_PREFIX}*"), *unmarked]

    def clean(self) -> None:
        """Remove the folders of incomplete checkpoints."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.unfinished_folders():
            shutil.rmtree(path, ignore_errors=True)

    def check_free_space(self, needed: int) -> None:
        """Raise OSError where the disk has no room for `needed` bytes beside the old checkpoints."""
        if shutil.disk_usage(self.folder).free < needed:
            raise OSError(errno.ENOSPC, f"{needed} bytes are needed", str(self.folder))

    def write_error(self, step: int, error: OSError) -> SaveError:
        """Return the error for a checkpoint that could not be written."""
        free = shutil.disk_usage(self.folder).free if self.folder.exists() else 0
        kept = self.steps()
        left = f"the checkpoint of step {kept[-1]} is intact" if kept else "there is no checkpoint yet"
        return SaveError(
            f"{self.path(step)}: cannot be written ({error.strerror or error}); {free} bytes are free; {left}"
        )

    def latest(self) -> SavedCheckpoint | None:
        """Read the newest intact checkpoint; None where there never was one.

        A damaged one is renamed, with a line on stderr, and the one before it is read. A first checkpoint that was not
        finished is removed, with a line on stderr as well.

        Raises:
            CheckpointError: there are checkpoints, and none is intact; nothing is changed then.
        """
        if (self.folder / MANIFEST).exists():
            raise CheckpointError(
                f"{self.folder}: a checkpoint of an earlier version of molrl; name another run folder"
            )
        damaged: dict[int, CheckpointError] = {}
        for step in reversed(self.steps()):
            try:
                saved = self.read(step)
            except CheckpointError as error:
                damaged[step] = error
                continue
            for broken, reason in damaged.items():
                self.set_aside(broken, reason)
            return saved
        if damaged:
            raise CheckpointError(f"no intact checkpoint is left: {'; '.join(map(str, damaged.values()))}")
        if unfinished := self.unfinished_folders():
            names = ", ".join(sorted(path.name for path in unfinished))
            print(
                f"molrl: no checkpoint in {self.folder} was finished ({names}): starting from the beginning",
                file=sys.stderr,
            )
            self.clean()
        return None

    def read(self, step: int) -> SavedCheckpoint:
        """Read one checkpoint, after checking its marker and every file.

        Raises:
            CheckpointError: the message names the file and its defect.
        """
        folder = self.path(step)
        marker = checkpoint.read_bounded(folder, COMPLETE, 100).decode(errors="replace")
        if marker != sha256(checkpoint.read_bounded(folder, MANIFEST, checkpoint.MAX_MANIFEST_BYTES)):
            raise CheckpointError(f"{folder / MANIFEST}: SHA-256 differs from that in {COMPLETE}")
        return SavedCheckpoint(step, *checkpoint.load(folder))

    def set_aside(self, step: int, error: CheckpointError) -> None:
        """Rename a damaged checkpoint, so that it is skipped and can still be inspected."""
        place = self.folder / f"{DAMAGED_PREFIX}{self.path(step).name}"
        shutil.rmtree(place, ignore_errors=True)
        self.path(step).rename(place)
        print(f"molrl: DAMAGED CHECKPOINT, going back to an earlier one: {error}", file=sys.stderr)
