"""The threads that torch computes with: how many there are, and that they sleep while they wait.

GNU's OpenMP lets waiting threads spin by default, which takes the cores from the reward workers and slows torch 10 to
25 times beside them. It reads its variable once, when torch is imported, so `import molrl` sets it before that.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator

from molrl.config import ConfigError

MAX_THREADS, MAX_DEFAULT_THREADS = 1024, 16
WAIT_POLICY = "OMP_WAIT_POLICY"


def let_waiting_threads_sleep() -> None:
    """Set the variable that lets waiting threads sleep, unless torch is there already or the user has set it."""
    if "torch" not in sys.modules:
        os.environ.setdefault(WAIT_POLICY, "passive")


def use_default_threads() -> None:
    """Set the number of torch's threads: as OMP_NUM_THREADS says, or one for each usable core."""
    import torch

    from molrl.machine.device import usable_cores

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(usable_cores(), MAX_DEFAULT_THREADS))


@contextlib.contextmanager
def torch_threads(threads: object) -> Iterator[None]:
    """Let torch compute with this number of threads within the block, and with the earlier number after it.

    Args:
        threads: 1 to `MAX_THREADS`; None: the number that torch has.

    Raises:
        ConfigError: something else.
    """
    if threads is None:
        yield
        return
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= MAX_THREADS:
        raise ConfigError(f"threads={threads!r}: expected 1 to {MAX_THREADS}, or null for the usable cores")
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def warn_of_spinning_threads(workers: int) -> None:
    """Warn where torch was imported before molrl, and its waiting threads will spin on cores that the workers need."""
    torch = sys.modules.get("torch")
    if torch is None or os.environ.get(WAIT_POLICY, "").lower() == "passive":
        return
    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads > 1 and threads + workers > cores:
        warnings.warn(
            f"{workers} worker processes beside {threads} torch threads on {cores} cores will be slow: import molrl "
            f"before torch, which sets {WAIT_POLICY}=passive, or compute with threads=1",
            RuntimeWarning,
            stacklevel=2,
        )
