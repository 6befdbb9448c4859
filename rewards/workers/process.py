"""One worker process: it holds a task, performs it under a timer and with limited memory, and may die of it."""

import os
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from molrl.rewards.workers.protocol import Lost

ONE_THREAD: dict[str, str] = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Unloadable(RuntimeError):
    """A worker cannot load its task."""


class Scorers:
    """What a worker process holds: its task, or why there is none."""

    task: Callable[[Any], Any] | None = None
    trouble: str = ""


def load(task: bytes, memory: int) -> None:
    """Prepare a worker process."""
    os.environ.update(ONE_THREAD)  # before the task brings its libraries with it
    try:
        Scorers.task = pickle.loads(task)
    except Exception as error:  # pebble would replace this worker by the next that fails
        Scorers.trouble = f"{type(error).__name__}: {error}"
    limit_memory(memory)


def perform(items: bytes, timeout: float) -> list[Any]:
    """Answer a chunk in a worker process.

    The timer lets the kernel end the process, also in the middle of C++ and when its parent is gone.
    """
    if Scorers.task is None:
        raise Unloadable(f"a reward worker cannot load its scorer: {Scorers.trouble}")
    set_timer = getattr(signal, "setitimer", lambda *_: None)  # Windows has none; 0 is ITIMER_REAL
    answers = []
    try:
        for item in pickle.loads(items):
            set_timer(0, timeout)
            answers.append(answer(Scorers.task, item))
    finally:
        set_timer(0, 0)
    return answers


def answer(task: Callable[[Any], Any], item: Any) -> Any:
    """What the task makes of an item; an exception costs this item alone."""
    try:
        return task(item)
    except Exception as error:
        return Lost(f"error: {type(error).__name__}: {error}".rstrip(": "))


def limit_memory(mebibytes: int) -> None:
    """Let this process allocate so much more and then fail (Linux)."""
    if sys.platform != "linux":
        return
    import resource

    used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = used + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
