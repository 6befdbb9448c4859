"""Memory that runs out: one clear error that says which settings to lower."""

import contextlib
from collections.abc import Iterator

import torch

CPU_MESSAGE = "can't allocate memory"  # torch's RuntimeError for a full main memory has no type of its own


class OutOfMemory(RuntimeError):
    """There is not enough memory; the message says which settings to lower."""


@contextlib.contextmanager
def enough_memory(lower: str) -> Iterator[None]:
    """Turn the errors that Python and torch raise for a full memory into one line.

    Args:
        lower: the settings that reduce the memory needed.

    Raises:
        OutOfMemory: memory was not enough.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or CPU_MESSAGE in str(error):
            first = (str(error) or "main memory").splitlines()[0]
            raise OutOfMemory(f"out of memory ({first:.120}): lower {lower}; the last checkpoint is intact") from error
        raise
