"""Rewards in worker processes: a sample that hangs, crashes or eats memory costs its own value and nothing else.

Chemistry toolkits hang and end the interpreter on odd molecules, neither of which Python can catch, so each worker is
a process that may die. Pebble keeps the processes; this file decides whose fault a death was.
"""

import math
import os
import pickle
import signal
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import KW_ONLY, dataclass
from multiprocessing import get_context
from typing import Any, Literal, NamedTuple

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from molrl.rewards.scores import Scored, Scorer, Scores, Values, isolated, score_safely, scores
from molrl.rewards.workers.process import Unloadable, answer, load, perform
from molrl.rewards.workers.protocol import Lost, WorkerPool, ahead, chunks, gathered

GRACE = 5.0  # seconds beyond a chunk's own timers before pebble ends its worker
START_LIMIT = 120.0  # seconds a worker may take to import its task, on a loaded machine
ATTEMPTS = 4  # fruitless ones, after which an item is given up
AHEAD = 4  # chunks handed out for each worker


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
        self._end: Callable[[], object] = lambda: None

    def stream(self, items: Iterable[Any], chunk: int | None = None) -> Iterator[Any]:
        """Answers in the order of the items, `Lost` where none came; reads a few chunks ahead and no more.

        Args:
            chunk: another size of these than usual.

        Raises:
            RuntimeError: a worker could not start, for instance because the task cannot be imported there.
        """
        if self.workers == 0:
            return (answer(self.task, item) for item in items)
        return gathered(self, ahead(map(self.assign, chunks(items, chunk or self.chunk)), AHEAD * self.workers))

    def submit(self, items: Sequence[Any]) -> Iterator[Any]:
        """Hand out all items now; their answers, as `stream` gives them, for later."""
        if self.workers == 0:
            return self.stream(items)
        return gathered(self, list(map(self.assign, chunks(items, self.chunk))))

    def start(self) -> None:
        """Start the workers and wait until one has imported the task: a broken set-up fails here, early."""
        if self.workers:
            self._staffed()

    def close(self) -> None:
        """End the workers; the next item starts new ones."""
        self._end()

    def __enter__(self) -> "Workers":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def assign(self, items: list[Any]) -> Assignment:
        """Hand out a chunk."""
        pool = self._staffed()
        return Assignment(items, pool, schedule(pool, items, self.timeout))

    def answers(self, given: Assignment) -> Iterator[Any]:
        """The answers to a chunk; one that is lost is handed out again item by item, to find the culprit."""
        if len(given.items) == 1:
            yield self._answer(given)
        elif isinstance(found := self._outcome(given), list):
            yield from found
        else:
            yield from map(self._answer, [self.assign([item]) for item in given.items])

    def _answer(self, given: Assignment) -> Any:
        """The answer to a single item. What is lost with a whole pool is tried again, by then alone in a new one."""
        for _ in range(ATTEMPTS):
            found = self._outcome(given)
            if found is not None:
                return found[0] if isinstance(found, list) else found
            given = self.assign(given.items)
        return Lost("crash: all workers were lost")

    def _outcome(self, given: Assignment) -> list[Any] | Lost | None:
        """The answers, or how they were lost; None if the pool broke, which may be the fault of others.

        Pebble gives up all tasks when a worker dies before its first words arrived.
        """
        if not settled(given.task, given.pool, START_LIMIT + AHEAD * self.chunk * self.timeout):
            if given.pool is self._pool:
                self.close()
            return None
        error = given.task.exception()
        if isinstance(error, Unloadable):
            raise error
        return given.task.result() if error is None else Lost(cause(error))

    def _staffed(self) -> ProcessPool:
        """The pool, new if there is none or it broke, with at least one worker that has its task."""
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
            initializer=load,
            initargs=(task, self.memory),
            context=get_context("spawn"),  # a fork would copy the threads' locks and torch with them
        )
        self._end = weakref.finalize(self, end, pool)
        first = schedule(pool, [], self.timeout)
        if not settled(first, pool, START_LIMIT):
            raise RuntimeError(
                "the reward workers did not start; a script that uses worker processes needs the guard "
                '`if __name__ == "__main__":` around what it does'
            )
        first.result()
        return pool


@dataclass(frozen=True)
class Judging:
    """The task of scoring one sample."""

    scorer: Scorer[Any]

    def __call__(self, sample: Any) -> Scored:
        return score_safely(self.scorer, sample)


@dataclass(eq=False)
class Pooled:
    """A reward computed by worker processes; see `Workers` for the settings.

    Attributes:
        scorer: scores one sample (`score_one`), for instance `QED(reader=rdkit_bonds)`.
        workers: a number, or "ray" for those of a Ray cluster (`molrl.rewards.workers.ray`).
    """

    scorer: Scorer[Any]
    _: KW_ONLY
    workers: int | Literal["ray"]
    timeout: float = 10.0
    chunk: int = 8
    memory: int = 4096
    recycle: int = 20_000

    def __post_init__(self) -> None:
        self._crew = make_pool(
            Judging(self.scorer),
            workers=self.workers,
            timeout=self.timeout,
            chunk=self.chunk,
            memory=self.memory,
            recycle=self.recycle,
        )
        self._lock = threading.Lock()
        if self.workers == 0 and (dangerous := isolated(self.scorer)):
            raise ValueError(f"workers: got 0, {dangerous} may end the process that it is in and needs at least 1")

    def __call__(self, samples: Sequence[Any]) -> Values:
        """One float32 for each sample; NaN where a sample could not be scored."""
        return self.score(samples).tensor()

    def score(self, samples: Sequence[Any]) -> Scores:
        """Values and reasons, in the order of the samples.

        Raises:
            RuntimeError: a worker could not start, for instance because the scorer cannot be imported there.
        """
        with self._lock:
            return gauged(self._crew.stream(samples))

    def submit(self, samples: Sequence[Any]) -> Callable[[], Values]:
        """Let the workers begin with a batch; what this returns waits for the values.

        Several batches may be under way. Without workers the batch is scored when it is waited for.
        """
        with self._lock:
            answers = self._crew.submit(samples)

        def values() -> Values:
            with self._lock:
                return gauged(answers).tensor()

        return values

    def start(self) -> None:
        """Start the workers and wait until one has imported the scorer: a broken set-up fails here, early."""
        with self._lock:
            self._crew.start()

    def close(self) -> None:
        """End the workers; the next batch starts new ones."""
        self._crew.close()

    def __enter__(self) -> "Pooled":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_pool(task: Callable[[Any], Any], *, workers: int | Literal["ray"], **settings: Any) -> WorkerPool:
    """Processes for a task, here or on a Ray cluster; see `Workers` for the settings."""
    if workers == "ray":
        from molrl.rewards.workers.ray import RayWorkers

        return RayWorkers(task, **settings)
    return Workers(task, workers=workers, **settings)


def gauged(answers: Iterable[Any]) -> Scores:
    """The answers of `Judging` as scores."""
    return scores(Scored(math.nan, found.reason) if isinstance(found, Lost) else found for found in answers)


def schedule(pool: ProcessPool, items: list[Any], timeout: float) -> "ProcessFuture[list[Any]]":
    """Hand out a chunk, or a failed task if the pool has broken.

    Pebble's own limit is for systems without timers; items go as bytes because pebble would wait for ever for a task
    that a worker cannot unpickle.
    """
    content = pickle.dumps(items)
    try:
        return pool.schedule(perform, (content, timeout), timeout=timeout * max(1, len(items)) + GRACE)
    except RuntimeError as error:
        broken: ProcessFuture[list[Any]] = ProcessFuture()
        broken.set_exception(BrokenProcessPool(str(error)))
        return broken


def settled(task: "ProcessFuture[Any]", pool: ProcessPool, patience: float) -> bool:
    """Wait for a task; whether it ended before its pool broke or the seconds ran out."""
    deadline = time.monotonic() + patience
    while pool.active and time.monotonic() < deadline and not wait([task], 1.0).done:
        pass
    return task.done() and not task.cancelled() and not isinstance(task.exception(), BrokenProcessPool)


def cause(error: BaseException) -> str:
    """The reason for the loss of an item that was alone with its worker."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if not isinstance(error, ProcessExpired):
        return f"error: {type(error).__name__}: {error}"
    if error.exitcode >= 0:
        return f"crash: exit code {error.exitcode}"
    name = signal.Signals(-error.exitcode).name
    return "timeout" if name == "SIGALRM" else f"crash: {name}"


def end(pool: ProcessPool) -> None:
    """End all processes of a pool, whatever they are at."""
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def warn_of_spinning_threads(workers: int) -> None:
    """Say so when idle OpenMP threads will spin on cores that the workers need, which slows torch 10 to 25 times.

    GNU's OpenMP lets threads spin while they wait, unless told otherwise before torch is imported.
    """
    torch = sys.modules.get("torch")
    if torch is None or os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":
        return
    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads > 1 and threads + workers > cores:
        warnings.warn(
            f"{workers} reward workers beside {threads} torch threads on {cores} cores: set "
            "OMP_WAIT_POLICY=passive before torch is imported, or call torch.set_num_threads with fewer threads",
            RuntimeWarning,
            stacklevel=2,
        )
