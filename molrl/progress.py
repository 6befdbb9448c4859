"""Progress of long work: a plain line on stderr whenever a command has said nothing for `SILENCE` seconds.

After some minutes of one piece of work the lines become rarer, up to one a minute: a log of days stays readable.

A command speaks within `speaking()`; used from Python, molrl's functions print no such lines.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

SILENCE = 5.0  # seconds
RARER = 20.0  # the silence is at least the age of the work divided by this,
RAREST = 12.0  # up to so many times SILENCE


@dataclass
class Stage:
    """A piece of work that may take long.

    Attributes:
        label: what is being done.
        total: number of items; None: not known, or nothing is counted.
        done: number of items that are done.
    """

    label: str
    total: int | None
    done: int
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.first = self.done

    def advance(self, count: int) -> None:
        """Note that `count` more items are done."""
        self.done += count

    def __str__(self) -> str:
        seconds, new = time.monotonic() - self.began, self.done - self.first
        count = f", {self.done:,}" if self.done or self.total else ""
        of = f" of {self.total:,}" if self.total else ""
        left = f", about {format_clock(seconds / new * (self.total - self.done))} left" if new and self.total else ""
        return f"{self.label}{count}{of}, {format_clock(seconds)}{left}"


class Speaker:
    """A thread that tells of the innermost stage whenever nothing was said for a while."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.last = 0.0
        self.paused = False
        self.thread: threading.Thread | None = None
        self.stopped = threading.Event()

    def watch(self) -> None:
        """Speak from time to time until `stopped` is set."""
        while not self.stopped.wait(max(0.0, self.last + self.silence() - time.monotonic())):
            if time.monotonic() >= self.last + self.silence():
                self.speak()

    def silence(self) -> float:
        """Return the seconds of silence to break, by the age of the innermost stage at its last line."""
        age = max((self.last - innermost.began for innermost in self.stages[-1:]), default=0.0)
        return min(max(SILENCE, age / RARER), RAREST * SILENCE)

    def speak(self) -> None:
        """Print one line about the innermost stage."""
        self.last = time.monotonic()
        for innermost in self.stages[-1:]:  # which the other thread may end at any moment
            if not self.paused:
                sys.stderr.write(f"molrl: {innermost}\n")
                sys.stderr.flush()


SPEAKER = Speaker()


@contextlib.contextmanager
def speaking() -> Iterator[None]:
    """Print lines of progress within the block; a block in another one changes nothing."""
    if SPEAKER.thread is not None:
        yield
        return
    SPEAKER.stopped.clear()
    note_output()
    SPEAKER.thread = threading.Thread(target=SPEAKER.watch, name="progress", daemon=True)
    SPEAKER.thread.start()
    try:
        yield
    finally:
        SPEAKER.stopped.set()
        SPEAKER.thread.join()
        SPEAKER.thread = None


@contextlib.contextmanager
def stage(label: str, total: int | None = None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Name the work of the block, and yield a function that is told how many more items are done.

    Args:
        label: what is being done, and what is counted.
        total: number of items; None: not known, or nothing is counted.
        done: number of items that are done already.
    """
    own = Stage(label, total, done)
    SPEAKER.stages.append(own)
    try:
        yield own.advance
    finally:
        SPEAKER.stages.remove(own)


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Print nothing within the block, which shows its progress in another way."""
    before, SPEAKER.paused = SPEAKER.paused, True
    try:
        yield
    finally:
        SPEAKER.paused = before


def note_output() -> None:
    """Note that something was printed: silence begins anew."""
    SPEAKER.last = time.monotonic()


def format_clock(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
