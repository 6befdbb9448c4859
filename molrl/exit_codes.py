"""The exit codes of all commands: one for each kind of error."""

import signal
from enum import IntEnum

from molrl.config import ConfigError
from molrl.runs.errors import SaveError


class ExitCode(IntEnum):
    """The exit code of a command; docs/reference/reliability.md has the same table.

    Attributes:
        DONE: the command did what it was asked.
        INTERNAL: an error that molrl does not expect, with a traceback: please report it.
        USAGE: a wrong command, option or setting, an output that is there already, or an extra that is not installed.
        NOTHING_SCORED: not one sample could be read or scored.
        SOME_FAILED: some records of a file could not be read or scored.
        BAD_INPUT: a file, a model or a checkpoint is missing, damaged or of a wrong kind.
        FAILED: the work could not be finished: training diverged, memory or disk is full, a process or a server left.
        INTERRUPTED: Ctrl-C.
        TERMINATED: SIGTERM.
    """

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    NOTHING_SCORED = 3
    SOME_FAILED = 4
    BAD_INPUT = 5
    FAILED = 6
    INTERRUPTED = 128 + signal.SIGINT
    TERMINATED = 128 + signal.SIGTERM


KINDS: tuple[tuple[tuple[type[BaseException], ...], ExitCode], ...] = (
    ((ConfigError, ImportError), ExitCode.USAGE),
    ((SaveError,), ExitCode.FAILED),
    ((ValueError, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError), ExitCode.BAD_INPUT),
    ((NotImplementedError, RecursionError), ExitCode.INTERNAL),
    ((OSError, RuntimeError, MemoryError), ExitCode.FAILED),
)
"""Types of errors with their exit codes; the first that fits counts."""


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an error that ends a command."""
    return next((code for types, code in KINDS if isinstance(error, types)), ExitCode.INTERNAL)
