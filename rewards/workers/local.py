"""Worker processes on this machine: an item that hangs, crashes or exhausts memory costs its own answer only.

Chemistry toolkits hang and end the interpreter on odd molecules, neither of which Python can catch, so each worker is
a process that may die. Pebble manages the processes; this module finds the item that killed one.
"""

import math
import os
import pickle
import signal
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import KW_ONLY, dataclass
from multiprocessing import get_context
from typing import Any, NamedTuple

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from molrl.rewards.workers.process import TaskLoadError, load_task, run_chunk, run_item
from molrl.rewards.workers.protocol import Lost, chunks, collect_answers, prefetch

GRACE_PERIOD = 5.0  # seconds beyond a chunk's own timers before pebble ends its worker
START_TIMEOUT = 120.0  # seconds a worker may take to import its task, on a loaded machine
MAX_ATTEMPTS = 4  # at an item whose pool breaks each time
CHUNKS_PER_WORKER = 4  # handed out in advance


class Assignment(NamedTuple):
    """A chunk of items on its way through a pool."""

    items: list[Any]
    pool: ProcessPool
    task: "ProcessFuture[list[Any]]"


@dataclass(eq=False)
class Workers:
    """Processes that hold one task and answer items with it; answers do not depend on how many there are.

    Attributes:
        task: called with one item at a time. Sent to the workers once, so it must be importable there, and with it
            only what it needs.
        workers: number of processes; 0 does the work in this process, without protection.
        timeout: seconds one item may take before its worker is killed and it is lost ("timeout").
        chunk: items handed to a worker at a time, because handing out costs as much as a quick answer. The items of a
            chunk that does not come back are handed out again one by one, so some of them are worked on twice: a task
            that counts its calls or pays for them wants 1.
        memory: MiB a worker may allocate on top of what it has at its start (Linux); beyond it allocation fails,
            which is an "error" or a "crash" of that item.
        recycle: items, counted in chunks, after which a worker is replaced, against slow leaks.

    Workers start at the first item, or at `start`, and end with `close`, with this object or with the interpreter.
    A script that uses workers needs the `if __name__ == "__main__":` guard, as all of multiprocessing does.
    """

    task: Callable[[Any], Any]
    _: KW_ONLY
    workers: int
    timeout: float = 10.0
    chunk: int = 8
    memory: int = 4096
    recycle: int = 20_000

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers: got {self.workers}, need 0 (score in this process) or more")
        for name in ("timeout", "chunk", "memory", "recycle"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, need a positive number")
        self._pool: ProcessPool | None = None
        self._stop: Callable[[], object] = lambda: None

    def stream(self, items: Iterable[Any], chunk: int | None = None) -> Iterator[Any]:
        """Yield answers in the order of the items, `Lost` where there is none; read only a few chunks ahead.

        Args:
            chunk: items handed out at a time, instead of `self.chunk`.

        Raises:
            RuntimeError: a worker could not start, for instance because the task cannot be imported there.
        """
        if self.workers == 0:
            return (run_item(self.task, item) for item in items)
        assignments = map(self.assign, chunks(items, chunk or self.chunk))
        return collect_answers(self, prefetch(assignments, CHUNKS_PER_WORKER * self.workers))

    def submit(self, items: Sequence[Any]) -> Iterator[Any]:
        """Hand out all items now and return an iterator over their answers, which are those of `stream`."""
        if self.workers == 0:
            return self.stream(items)
        return collect_answers(self, list(map(self.assign, chunks(items, self.chunk))))

    def start(self) -> None:
        """Start the workers and wait until one has imported the task, so that a broken set-up fails early."""
        if self.workers:
            self._ensure_pool()

    def close(self) -> None:
        """End the workers; the next item starts new ones."""
        self._stop()

    def __enter__(self) -> "Workers":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def assign(self, items: list[Any]) -> Assignment:
        """Hand out a chunk of items to the pool."""
        pool = self._ensure_pool()
        return Assignment(items, pool, schedule(pool, items, self.timeout))

    def answers(self, assignment: Assignment) -> Iterator[Any]:
        """Yield the answers to a chunk; a lost one is handed out again item by item, to find the item at fault."""
        if len(assignment.items) == 1:
            yield self._answer(assignment)
        elif isinstance(answers := self._outcome(assignment), list):
            yield from answers
        else:
            yield from map(self._answer, [self.assign([item]) for item in assignment.items])

    def _answer(self, assignment: Assignment) -> Any:
        """Return the answer to a single item; if its pool breaks it is tried again, then alone in a new pool."""
        for _ in range(MAX_ATTEMPTS):
            outcome = self._outcome(assignment)
            if outcome is not None:
                return outcome[0] if isinstance(outcome, list) else outcome
            assignment = self.assign(assignment.items)
        return Lost("crash: all workers were lost")

    def _outcome(self, assignment: Assignment) -> list[Any] | Lost | None:
        """Return the answers or how they were lost; None if the pool broke, perhaps through another chunk.

        Pebble gives up all tasks when a worker dies before its first message arrives.
        """
        timeout = START_TIMEOUT + CHUNKS_PER_WORKER * self.chunk * self.timeout
        if not wait_for(assignment.task, assignment.pool, timeout):
            if assignment.pool is self._pool:
                self.close()
            return None
        error = assignment.task.exception()
        if isinstance(error, TaskLoadError):
            raise error
        return assignment.task.result() if error is None else Lost(loss_reason(error))

    def _ensure_pool(self) -> ProcessPool:
        """Return the pool, a new one if there is none or it broke, with at least one worker that has its task."""
        if self._pool is not None and self._pool.active:
            return self._pool
        self.close()
        warn_of_spinning_threads(self.workers)
        try:
            task = pickle.dumps(self.task)
        except Exception as error:
            raise ValueError(
                f"{type(self.task).__name__} cannot be sent to a worker process ({error}); "
                "it must be made of things that can be imported there, not of lambdas or open files"
            ) from error
        self._pool = pool = ProcessPool(
            self.workers,
            max_tasks=math.ceil(self.recycle / self.chunk),
            initializer=load_task,
            initargs=(task, self.memory),
            context=get_context("spawn"),  # a fork would copy the threads' locks and torch with them
        )
        self._stop = weakref.finalize(self, stop_pool, pool)
        first = schedule(pool, [], self.timeout)
        if not wait_for(first, pool, START_TIMEOUT):
            raise RuntimeError(
                "the worker processes did not start; a script that uses worker processes needs the guard "
                '`if __name__ == "__main__":` around its statements'
            )
        first.result()
        return pool


def schedule(pool: ProcessPool, items: list[Any], timeout: float) -> "ProcessFuture[list[Any]]":
    """Hand out a chunk, or return a failed task if the pool has broken.

    Pebble's own limit is for systems without timers; items go as bytes because pebble would wait for ever for a task
    that a worker cannot unpickle.
    """
    content = pickle.dumps(items)
    try:
        return pool.schedule(run_chunk, (content, timeout), timeout=timeout * max(1, len(items)) + GRACE_PERIOD)
    except RuntimeError as error:
        broken: ProcessFuture[list[Any]] = ProcessFuture()
        broken.set_exception(BrokenProcessPool(str(error)))
        return broken


def wait_for(task: "ProcessFuture[Any]", pool: ProcessPool, timeout: float) -> bool:
    """Wait for a task and return True if it ended before its pool broke or `timeout` seconds had passed."""
    deadline = time.monotonic() + timeout
    while pool.active and time.monotonic() < deadline and not wait([task], 1.0).done:
        pass
    return task.done() and not task.cancelled() and not isinstance(task.exception(), BrokenProcessPool)


def loss_reason(error: BaseException) -> str:
    """Return the reason for the loss of an item that was alone with its worker."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if not isinstance(error, ProcessExpired):
        return f"error: {type(error).__name__}: {error}"
    if error.exitcode >= 0:
        return f"crash: exit code {error.exitcode}"
    name = signal.Signals(-error.exitcode).name
    return "timeout" if name == "SIGALRM" else f"crash: {name}"


def stop_pool(pool: ProcessPool) -> None:
    """End all processes of a pool, also those that are at work."""
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def warn_of_spinning_threads(workers: int) -> None:
    """Warn when idle OpenMP threads will spin on cores that the workers need, which slows torch 10 to 25 times.

    GNU's OpenMP lets threads spin while they wait, unless told otherwise before torch is imported.
    """
    torch = sys.modules.get("torch")
    if torch is None or os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":
        return
    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads > 1 and threads + workers > cores:
        warnings.warn(
            f"{workers} worker processes beside {threads} torch threads on {cores} cores: set "
            "OMP_WAIT_POLICY=passive before torch is imported, or call torch.set_num_threads with fewer threads",
            RuntimeWarning,
            stacklevel=2,
        )
