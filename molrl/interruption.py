"""Ctrl-C and SIGTERM, which batch systems send: both end a command in order, each with the shell's exit code for it."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Never

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Whatever handles Ctrl-C handles this."""


def exit_code(error: KeyboardInterrupt) -> int:
    """130 after Ctrl-C, 143 after SIGTERM."""
    return int(TERMINATED if isinstance(error, Terminated) else INTERRUPTED)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` in here when SIGTERM comes; once, so that a second one does not disturb the end.

    Worker processes are not concerned: a handler, unlike an ignored signal, is not passed on to them.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers there alone
        yield
        return

    def stop(*_: object) -> Never:
        signal.signal(signal.SIGTERM, lambda *_: None)
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
