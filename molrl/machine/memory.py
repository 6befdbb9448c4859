"""Memory: freed memory is kept for the next tensors, and memory that runs out is one clear error."""

import contextlib
import ctypes
from collections.abc import Iterator

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # parameters of glibc's mallopt(3)
KEPT_BYTES = 2**31 - 1  # free memory at the end of the heap beyond which some is given back: the largest int
GROWTH_BYTES = 2**26  # by which the heap grows at least
MESSAGES = ("can't allocate memory", "MPS backend out of memory")  # of RuntimeErrors that have no type of their own


class OutOfMemory(RuntimeError):
    """There is not enough memory; the message says which settings to lower."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors; return whether the C library can.

    By default glibc gives a large freed block back at once, and the kernel clears the pages of the next one: a quarter
    of the time in which a CPU samples molecules of drug size.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: KEPT_BYTES, M_TOP_PAD: GROWTH_BYTES}
    return all(mallopt(parameter, value) == 1 for parameter, value in settings.items())


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
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            message in str(error) for message in MESSAGES
        ):
            first = (str(error) or "main memory").splitlines()[0]
            raise OutOfMemory(f"out of memory ({first:.120}): lower {lower}; the last checkpoint is intact") from error
        raise
