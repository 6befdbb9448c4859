"""Lines of progress of a long computation, for people at a terminal."""

import sys
import time
from datetime import timedelta

INTERVAL = 10.0  # seconds between lines


class ProgressLines:
    """Lines on stderr, one in ten seconds: how many items are done, how fast, and how long the rest will take.

    Nothing is printed where stderr is no terminal.
    """

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total = label, total
        self.done = self.last_done = 0
        self.last = time.monotonic()

    def __call__(self, count: int) -> None:
        """Note that `count` more items are done."""
        self.done += count
        seconds = time.monotonic() - self.last
        if seconds < INTERVAL or not sys.stderr.isatty():
            return
        rate = (self.done - self.last_done) / seconds
        self.last, self.last_done = self.last + seconds, self.done
        left = timedelta(seconds=round((self.total - self.done) / rate)) if rate else "unknown time"
        print(f"{self.label}: {self.done:,} of {self.total:,}, {rate:.1f} per second, {left} left", file=sys.stderr)
