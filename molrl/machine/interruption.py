"""Orderly ends after Ctrl-C and SIGTERM, which batch systems send, each with the shell's exit code for it."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Never

from molrl.exit_codes import ExitCode


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM; code that handles Ctrl-C handles this as well."""


def exit_code(error: KeyboardInterrupt) -> ExitCode:
    """Return the exit code for an interruption: 130 after Ctrl-C, 143 after SIGTERM."""
    return ExitCode.TERMINATED if isinstance(error, Terminated) else ExitCode.INTERRUPTED


@contextlib.contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Raise `Terminated` within the block at the first SIGTERM; later ones are ignored, so that cleaning up can finish.

    Worker processes are not affected: unlike an ignored signal, a handler is not inherited by new programs.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers in the main thread alone
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
    """A request to end the command, held until the work at hand is finished."""

    error: KeyboardInterrupt | None = None

    def is_set(self) -> bool:
        """Return whether an interruption was requested."""
        return self.error is not None

    def raise_if_requested(self) -> None:
        """Raise the interruption if one was requested."""
        if self.error is not None:
            raise self.error


@contextlib.contextmanager
def defer_interruption(work: str) -> Iterator[Request]:
    """Hold the first Ctrl-C or SIGTERM within the block as a request; a second one acts at once, as it did before.

    Args:
        work: the work that is finished first, for the message to the user.
    """
    request = Request()
    kinds = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def hold(number: int, frame: FrameType | None) -> None:
        if request.is_set():
            previous = before[signal.Signals(number)]
            if callable(previous):
                previous(number, frame)
            raise kinds[signal.Signals(number)]
        request.error = kinds[signal.Signals(number)]()
        os.write(2, f"\nmolrl: stopping after {work} is done and saved; once more stops at once\n".encode())

    replaced = [kind for kind in kinds if before[kind] not in (signal.SIG_IGN, None)]  # ignored ones stay ignored
    try:
        for kind in replaced:
            signal.signal(kind, hold)
        yield request
    finally:
        for kind in replaced:
            signal.signal(kind, before[kind])


def never() -> bool:
    """Return False: nobody asks for an early end."""
    return False
