"""Out of memory: a clean end that says what to lower."""

import contextlib
from collections.abc import Iterator

import torch

CPU = "can't allocate memory"  # torch's RuntimeError for a full main memory has no type of its own


class OutOfMemory(RuntimeError):
    """There is not enough memory; says what to lower."""


@contextlib.contextmanager
def enough_memory(lower: str) -> Iterator[None]:
    """Turn what Python and torch say of a full memory into one line.

    Args:
        lower: the settings that take less.

    Raises:
        OutOfMemory: memory was not enough.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or CPU in str(error):
            first = (str(error) or "main memory").splitlines()[0]
            raise OutOfMemory(f"out of memory ({first:.120}): lower {lower}; the last checkpoint is whole") from error
        raise
