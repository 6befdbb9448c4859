"""One worker process: it holds a task and runs it under a timer and with limited memory, either of which may end it."""

import os
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from molrl.rewards.workers.protocol import Lost

ONE_THREAD: dict[str, str] = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class TaskLoadError(RuntimeError):
    """The error of a worker that cannot load its task."""


class WorkerState:
    """The state of a worker process: its task, or the error that kept it from loading one."""

    task: Callable[[Any], Any] | None = None
    load_error: str = ""


def load_task(task: bytes, memory: int) -> None:
    """Prepare a worker process: unpickle its task and limit its memory."""
    os.environ.update(ONE_THREAD)  # before the task brings its libraries with it
    try:
        WorkerState.task = pickle.loads(task)
    except Exception as error:  # pebble would replace this worker by the next that fails
        WorkerState.load_error = f"{type(error).__name__}: {error}"
    limit_memory(memory)


def run_chunk(items: bytes, timeout: float) -> list[Any]:
    """Answer the items of a chunk in a worker process.

    The timer lets the kernel end the process, also in the middle of C++ and when its parent is gone.
    """
    if WorkerState.task is None:
        raise TaskLoadError(f"a worker process cannot load its task: {WorkerState.load_error}")
    set_timer = getattr(signal, "setitimer", lambda *_: None)  # Windows has none; 0 is ITIMER_REAL
    answers = []
    try:
        for item in pickle.loads(items):
            set_timer(0, timeout)
            answers.append(run_item(WorkerState.task, item))
    finally:
        set_timer(0, 0)
    return answers


def run_item(task: Callable[[Any], Any], item: Any) -> Any:
    """Return the task's answer to an item; an exception costs this item alone."""
    try:
        return task(item)
    except Exception as error:
        return Lost(f"error: {type(error).__name__}: {error}".rstrip(": "))


def limit_memory(mebibytes: int) -> None:
    """Limit what this process may allocate beyond its present size; further allocations fail (Linux)."""
    if sys.platform != "linux":
        return
    import resource

    used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = used + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
