"""A run's checkpoints: a series of folders step_00000012, each whole or not there; the newest and the best are kept.

A save goes: staging folder inside the series, every file and the folder flushed to the disk, renamed, and last of all
the marker COMPLETE with the manifest's SHA-256. Only then older ones are removed. So a process that is killed anywhere
leaves the old state or the new one. The series belongs to one process at a time (`molrl.runs.folder.lock`).
"""

import contextlib
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
from molrl.runs.errors import CheckpointError

CHECKPOINTS = "checkpoint"  # in the folder of a run
COMPLETE = "COMPLETE"
STEP = "step_"
STAGING = ".staging-"
DAMAGED = "damaged_"
ATTEMPTS, PAUSE = 3, 2.0  # a full disk may be a matter of seconds


@dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
    """Which checkpoints of a run stay.

    Attributes:
        newest: so many of the last.
        best: name of a metric of the run's rows; the checkpoint that did best by it stays as well.
        highest: whether more of the metric is better.
    """

    newest: int
    best: str
    highest: bool

    def __post_init__(self) -> None:
        if self.newest < 1:
            raise ValueError(f"newest: got {self.newest}, need at least 1")

    def better(self, new: float, old: float) -> bool:
        """Whether `new` beats `old`; a number beats what is none."""
        if math.isnan(new) or math.isnan(old):
            return math.isnan(old) and not math.isnan(new)
        return new > old if self.highest else new < old


@contextlib.contextmanager
def as_checkpoint_error(folder: Path) -> Iterator[None]:
    """What a whole checkpoint holds and cannot be used here is one clear error."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder}: holds no checkpoint of this run ({error!r})") from error


class Saved(NamedTuple):
    """What was read of a checkpoint: its step, tensors by file and name, values by file."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any]


@dataclass(frozen=True)
class Series:
    """The checkpoints in a folder.

    Attributes:
        folder: of the series; a run's `checkpoint/`.
        newest: how many of the last stay.
    """

    folder: Path
    newest: int = 3

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.folder / f"{STEP}{step:08d}"

    def steps(self) -> list[int]:
        """Those that are marked as complete, in order."""
        return sorted(
            int(path.name.removeprefix(STEP))
            for path in self.folder.glob(f"{STEP}*")
            if path.name.removeprefix(STEP).isdecimal() and (path / COMPLETE).is_file()
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
            CheckpointError: it could not be written; names the folder, the reason and the free space. Those before
                it are as they were.
        """
        files = checkpoint.contents(tensors, values)
        staging = self.folder / f"{STAGING}{step}-{os.getpid()}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.clean()
                self.refuse_too_little_space(sum(map(len, files.values())))
                checkpoint.write(staging, files)
                break
            except OSError as error:
                shutil.rmtree(staging, ignore_errors=True)
                if attempt == ATTEMPTS:
                    raise self.unwritable(step, error) from error
                time.sleep(PAUSE)
        try:
            self.admit(staging, step, sha256(files[MANIFEST]))
        except OSError as error:
            raise self.unwritable(step, error) from error
        self.prune(kept)

    def admit(self, staging: Path, step: int, digest: str) -> None:
        """Give a checkpoint its name, and when that is safe its marker."""
        shutil.rmtree(self.path(step), ignore_errors=True)  # one without a marker: see `latest`
        staging.rename(self.path(step))
        sync_folder(self.folder)
        unmarked = self.path(step) / f".{COMPLETE}"
        checkpoint.write_synced(unmarked, digest.encode())
        unmarked.rename(self.path(step) / COMPLETE)
        sync_folder(self.path(step))

    def prune(self, kept: Collection[int]) -> None:
        """Remove what is old; a marker goes first, so that nothing half removed looks complete."""
        for step in self.steps()[: -self.newest]:
            if step not in kept:
                (self.path(step) / COMPLETE).unlink()
                shutil.rmtree(self.path(step), ignore_errors=True)

    def unfinished(self) -> list[Path]:
        """What a process that was killed has left."""
        unmarked = [path for path in self.folder.glob(f"{STEP}*") if not (path / COMPLETE).is_file()]
        return [*self.folder.glob(f"{STAGING}*"), *unmarked]

    def clean(self) -> None:
        """Remove that."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.unfinished():
            shutil.rmtree(path, ignore_errors=True)

    def refuse_too_little_space(self, needed: int) -> None:
        """The disk must have room for the new one before an old one goes."""
        if shutil.disk_usage(self.folder).free < needed:
            raise OSError(f"{needed} bytes are needed")

    def unwritable(self, step: int, error: OSError) -> CheckpointError:
        """One clear error."""
        free = shutil.disk_usage(self.folder).free if self.folder.exists() else 0
        kept = self.steps()
        left = f"the checkpoint of step {kept[-1]} is whole" if kept else "there is no checkpoint yet"
        return CheckpointError(
            f"{self.path(step)}: cannot be written ({error.strerror or error}); {free} bytes are free; {left}"
        )

    def latest(self) -> Saved | None:
        """The newest whole checkpoint; None where there never was one.

        One that is damaged is set aside under another name, with a line on stderr, and the one before it is taken. A
        first one that was not finished is removed, with a line as well.

        Raises:
            CheckpointError: there are some, and none is whole; nothing is touched then.
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
            raise CheckpointError(f"no whole checkpoint is left: {'; '.join(map(str, damaged.values()))}")
        if unfinished := self.unfinished():
            names = ", ".join(sorted(path.name for path in unfinished))
            print(f"molrl: no checkpoint in {self.folder} was finished ({names}): beginning anew", file=sys.stderr)
            self.clean()
        return None

    def read(self, step: int) -> Saved:
        """One checkpoint, after checking its marker and every file.

        Raises:
            CheckpointError: names what is wrong with it.
        """
        folder = self.path(step)
        marker = checkpoint.read_bounded(folder, COMPLETE, 100).decode(errors="replace")
        if marker != sha256(checkpoint.read_bounded(folder, MANIFEST, checkpoint.MAX_MANIFEST)):
            raise CheckpointError(f"{folder / MANIFEST}: SHA-256 differs from that in {COMPLETE}")
        return Saved(step, *checkpoint.load(folder))

    def set_aside(self, step: int, error: CheckpointError) -> None:
        """Out of the way, and there to be looked at."""
        place = self.folder / f"{DAMAGED}{self.path(step).name}"
        shutil.rmtree(place, ignore_errors=True)
        self.path(step).rename(place)
        print(f"molrl: DAMAGED CHECKPOINT, going back to an earlier one: {error}", file=sys.stderr)
