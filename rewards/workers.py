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
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import KW_ONLY, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from molrl.rewards.scores import Judge, Scored, Scores, Values, careful, scores

ONE_THREAD: dict[str, str] = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
GRACE = 5.0  # seconds beyond a chunk's own timers before pebble ends its worker
START_LIMIT = 120.0  # seconds a worker may take to import its scorer, on a loaded machine
ATTEMPTS = 4  # fruitless ones, after which a sample is given up


@dataclass(eq=False)
class Pooled:
    """A reward computed by worker processes; values do not depend on how many there are.

    Attributes:
        scorer: scores one sample (`judge`), for instance `QED(reader=rdkit_bonds)`. Sent to the workers once, so it
            must be importable there, and with it only what it needs.
        workers: number of processes; 0 scores in this process, without protection.
        timeout: seconds one sample may take before its worker is killed and its value is NaN ("timeout").
        chunk: samples handed to a worker at a time, because handing out costs as much as a quick reward. The samples
            of a chunk that does not come back are handed out again one by one, so some of them are scored twice: a
            scorer that counts its calls or pays for them wants 1.
        memory: MiB a worker may allocate on top of what it has at its start (Linux); beyond it allocation fails,
            which is an "error" or a "crash" of that sample.
        recycle: samples, counted in chunks, after which a worker is replaced, against slow leaks.

    Workers start at the first batch, or at `start`, and end with `close`, with this object or with the interpreter.
    A script that uses workers needs the `if __name__ == "__main__":` guard, as all of multiprocessing does.
    """

    scorer: Judge[Any]
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
        self._lock = threading.Lock()

    def __call__(self, samples: Sequence[Any]) -> Values:
        """One float32 for each sample; NaN where a sample could not be scored."""
        return self.score(samples).tensor()

    def score(self, samples: Sequence[Any]) -> Scores:
        """Values and reasons, in the order of the samples.

        Raises:
            RuntimeError: a worker could not start, for instance because the scorer cannot be imported there.
        """
        if self.workers == 0:
            return scores(careful(self.scorer, sample) for sample in samples)
        found: dict[int, Scored] = {}
        size, fruitless = self.chunk, 0
        while missing := [position for position in range(len(samples)) if position not in found]:
            known = len(found)
            self._hand_out([missing[start : start + size] for start in range(0, len(missing), size)], samples, found)
            fruitless = fruitless + 1 if size == 1 and len(found) == known else 0
            if fruitless == ATTEMPTS:
                found[missing[0]] = Scored(math.nan, "crash: all workers were lost")
            size = 1
        return scores(found[position] for position in range(len(samples)))

    def start(self) -> None:
        """Start the workers and wait until one has imported the scorer: a broken set-up fails here, early."""
        if self.workers:
            self._hand_out([], [], {})

    def close(self) -> None:
        """End the workers; the next batch starts new ones."""
        self._end()

    def __enter__(self) -> "Pooled":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hand_out(self, chunks: list[list[int]], samples: Sequence[Any], found: dict[int, Scored]) -> None:
        """Score chunks of positions, each as one task.

        Nothing is found for a chunk that fails, unless it is one sample: then that is the culprit. Nor is it if the
        pool breaks: pebble gives up all tasks when a worker dies before its first words arrived.
        """
        try:
            with self._lock:
                pool = self._staffed()
                tasks = [schedule(pool, [samples[position] for position in chunk], self.timeout) for chunk in chunks]
                for chunk, task in zip(chunks, tasks, strict=True):
                    if not settled(task, pool, START_LIMIT + 2 * self.chunk * self.timeout):
                        self.close()
                        continue
                    error = task.exception()
                    if isinstance(error, Unloadable):
                        raise error
                    if error is None:
                        found.update(zip(chunk, task.result(), strict=True))
                    elif len(chunk) == 1:
                        found[chunk[0]] = Scored(math.nan, cause(error))
        except BaseException:  # leave no worker with half a batch behind, Ctrl-C included
            self.close()
            raise

    def _staffed(self) -> ProcessPool:
        """The pool, new if there is none or it broke, with at least one worker that has its scorer."""
        if self._pool is not None and self._pool.active:
            return self._pool
        self.close()
        warn_of_spinning_threads(self.workers)
        try:
            scorer = pickle.dumps(self.scorer)
        except Exception as error:
            raise ValueError(
                f"{type(self.scorer).__name__} cannot be sent to a worker process ({error}); "
                "it must be made of things that can be imported there, not of lambdas or open files"
            ) from error
        self._pool = pool = ProcessPool(
            self.workers,
            max_tasks=math.ceil(self.recycle / self.chunk),
            initializer=load,
            initargs=(scorer, self.memory),
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


class Unloadable(RuntimeError):
    """A worker cannot load its scorer."""


def schedule(pool: ProcessPool, samples: list[Any], timeout: float) -> "ProcessFuture[list[Scored]]":
    """Hand out a chunk, or a failed task if the pool has broken.

    Pebble's own limit is for systems without timers; samples go as bytes because pebble would wait for ever for a task
    that a worker cannot unpickle.
    """
    content = pickle.dumps(samples)
    try:
        return pool.schedule(judged, (content, timeout), timeout=timeout * max(1, len(samples)) + GRACE)
    except RuntimeError as error:
        broken: ProcessFuture[list[Scored]] = ProcessFuture()
        broken.set_exception(BrokenProcessPool(str(error)))
        return broken


def settled(task: "ProcessFuture[Any]", pool: ProcessPool, patience: float) -> bool:
    """Wait for a task; whether it ended before its pool broke or the seconds ran out."""
    deadline = time.monotonic() + patience
    while pool.active and time.monotonic() < deadline and not wait([task], 1.0).done:
        pass
    return task.done() and not isinstance(task.exception(), BrokenProcessPool)


def cause(error: BaseException) -> str:
    """The reason for the loss of a sample that was alone with its worker."""
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


class Bench:
    """What a worker process holds: its scorer, or why there is none."""

    scorer: Judge[Any] | None = None
    trouble: str = ""


def load(scorer: bytes, memory: int) -> None:
    """Prepare a worker process."""
    os.environ.update(ONE_THREAD)  # before the scorer brings its libraries with it
    try:
        Bench.scorer = pickle.loads(scorer)
    except Exception as error:  # pebble would replace this worker by the next that fails
        Bench.trouble = f"{type(error).__name__}: {error}"
    limit_memory(memory)


def judged(samples: bytes, timeout: float) -> list[Scored]:
    """Score a chunk in a worker process.

    The timer lets the kernel end the process, also in the middle of C++ and when its parent is gone.
    """
    if Bench.scorer is None:
        raise Unloadable(f"a reward worker cannot load its scorer: {Bench.trouble}")
    set_timer = getattr(signal, "setitimer", lambda *_: None)  # Windows has none; 0 is ITIMER_REAL
    answers = []
    try:
        for sample in pickle.loads(samples):
            set_timer(0, timeout)
            answers.append(careful(Bench.scorer, sample))
    finally:
        set_timer(0, 0)
    return answers


def limit_memory(mebibytes: int) -> None:
    """Let this process allocate so much more and then fail (Linux)."""
    if sys.platform != "linux":
        return
    import resource

    used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = used + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


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
