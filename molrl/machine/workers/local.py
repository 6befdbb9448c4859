"""Worker processes on this machine: an item that hangs, crashes or exhausts memory costs its own answer only.

Chemistry toolkits hang and end the interpreter on odd molecules, neither of which Python can catch, so each worker is
a process that may die. This module finds the item that killed one.
"""

import math
import pickle
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

from molrl.machine.threads import warn_of_spinning_threads
from molrl.machine.workers.pool import POLL_SECONDS, Pool
from molrl.machine.workers.process import run_item
from molrl.machine.workers.protocol import Lost, chunks, collect_answers, prefetch

CHUNKS_PER_WORKER = 4  # handed out in advance


class Assignment(NamedTuple):
    """A chunk of items on its way through a pool."""

    items: list[Any]
    answers: "Future[list[Any] | Lost]"


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
        self._pool: Pool | None = None
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
        """End the workers and all that they have started; the next item starts new ones."""
        self._pool = None
        self._stop()

    def __enter__(self) -> "Workers":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def assign(self, items: list[Any]) -> Assignment:
        """Hand out a chunk of items to the pool."""
        return Assignment(items, self._ensure_pool().submit(items))

    def answers(self, assignment: Assignment) -> Iterator[Any]:
        """Yield the answers to a chunk; a lost one is handed out again item by item, to find the item at fault."""
        outcome = self._outcome(assignment)
        if isinstance(outcome, list):
            yield from outcome
        elif len(assignment.items) == 1:
            yield outcome
        else:
            for single in [self.assign([item]) for item in assignment.items]:
                yield from self.answers(single)

    def _outcome(self, assignment: Assignment) -> list[Any] | Lost:
        """Return the answers or how they were lost.

        The wait is one of many short ones: Python may overlook a Ctrl-C that comes just before a long one.
        """
        while not assignment.answers.done():
            wait([assignment.answers], POLL_SECONDS)
        try:
            return assignment.answers.result()
        except CancelledError:
            return Lost("crash: the pool was closed")

    def _ensure_pool(self) -> Pool:
        """Return the pool, a new one if there is none, with at least one worker that has its task."""
        if self._pool is not None:
            return self._pool
        warn_of_spinning_threads(self.workers)
        try:
            task = pickle.dumps(self.task)
        except Exception as error:
            raise ValueError(
                f"{type(self.task).__name__} cannot be sent to a worker process ({error}); "
                "it must be made of things that can be imported there, not of lambdas or open files"
            ) from error
        pool = Pool(
            self.workers,
            task,
            timeout=self.timeout,
            memory=self.memory,
            max_chunks=math.ceil(self.recycle / self.chunk),
        )
        self._stop = weakref.finalize(self, pool.stop)
        try:
            pool.submit([]).result()
        except BaseException:
            self.close()
            raise
        self._pool = pool
        return pool
