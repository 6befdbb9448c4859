"""Ctrl-C and SIGTERM, which batch systems send: both end a command in order, each with the shell's exit code for it."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
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


@dataclass
class Request:
    """A wish that the command end, noted until there is a good moment for it."""

    error: KeyboardInterrupt | None = None

    def is_set(self) -> bool:
        """Whether there is one."""
        return self.error is not None

    def raise_if_requested(self) -> None:
        """Raise it, if there is one."""
        if self.error is not None:
            raise self.error


@contextlib.contextmanager
def patient(work: str) -> Iterator[Request]:
    """In here the first Ctrl-C or SIGTERM is noted and answered; a second one does at once what it did before.

    Args:
        work: what is finished first, for the answer.
    """
    request = Request()
    kinds = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def note(number: int, frame: FrameType | None) -> None:
        if request.is_set():
            usual = before[signal.Signals(number)]
            if callable(usual):
                usual(number, frame)
            raise kinds[signal.Signals(number)]
        request.error = kinds[signal.Signals(number)]()
        os.write(2, f"\nmolrl: stopping after {work} is done and saved; once more stops at once\n".encode())

    replaced = [kind for kind in kinds if before[kind] not in (signal.SIG_IGN, None)]  # ignored ones stay ignored
    try:
        for kind in replaced:
            signal.signal(kind, note)
        yield request
    finally:
        for kind in replaced:
            signal.signal(kind, before[kind])


def never() -> bool:
    """Nobody asks for the end."""
    return False
