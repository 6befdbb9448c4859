"""Rewards in worker processes: a sample that hangs, crashes or eats memory costs its own value and nothing else.

Chemistry toolkits hang and end the interpreter on odd molecules, neither of which Python can catch, so each worker is
a process that may be killed. It answers sample by sample: when it dies, the culprit is the one it had not answered.
"""

import contextlib
import math
import os
import signal
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from molrl.rewards.scores import Judge, Scored, Scores, Values, careful, scores

ONE_THREAD: dict[str, str] = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
START_LIMIT = 120.0  # seconds a worker may take to import its scorer, on a loaded machine
ORPHAN_GRACE = 5.0  # seconds beyond the time limit after which a worker without a parent ends itself
MEBIBYTE = 2**20


class Pooled:
    """A reward computed by worker processes; values do not depend on how many there are.

    Attributes:
        scorer: scores one sample (`judge`), for instance `QED(reader=rdkit_bonds)`. Sent to the workers once, so it
            must be importable there, and with it only what it needs.
        workers: number of processes; 0 scores in this process, without protection.
        timeout: seconds one sample may take before its worker is killed and its value is NaN ("timeout").
        chunk: samples handed to a worker at a time; it only amortises communication.
        memory: MiB a worker may allocate on top of what it has at its start (Linux); beyond it allocation fails,
            which is an "error" or a "crash" of that sample.
        recycle: samples after which a worker is replaced, against slow leaks.

    Workers start at the first batch, or at `start`, and end with `close`, with this object or with the interpreter.
    A script that uses workers needs the `if __name__ == "__main__":` guard, as all of multiprocessing does.
    """

    def __init__(
        self,
        scorer: Judge[Any],
        *,
        workers: int,
        timeout: float = 10.0,
        chunk: int = 8,
        memory: int = 4096,
        recycle: int = 20_000,
    ) -> None:
        if workers < 0:
            raise ValueError(f"workers: got {workers}, need 0 (score in this process) or more")
        for name, number in {"timeout": timeout, "chunk": chunk, "memory": memory, "recycle": recycle}.items():
            if not number > 0:
                raise ValueError(f"{name}: got {number}, need a positive number")
        self.scorer = scorer
        self.workers = workers
        self.timeout = timeout
        self.chunk = chunk
        self.memory = memory
        self.recycle = recycle
        self._crew: list[Worker] = []
        self._lock = threading.Lock()
        weakref.finalize(self, dismiss, self._crew)

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
        with self._lock, self._all_or_closed():
            answers: dict[int, Scored] = {}
            waiting = deque(range(len(samples)))
            while len(answers) < len(samples):
                self._hand_out(waiting, samples)
                self._listen(waiting, answers)
        return scores(answers[position] for position in range(len(samples)))

    def start(self) -> None:
        """Start the workers and wait until each has imported the scorer: a broken set-up fails here, early."""
        with self._lock, self._all_or_closed():
            self._staff()
            while not all(worker.ready for worker in self._crew):
                self._listen(deque(), {})

    def close(self) -> None:
        """End the workers; the next batch starts new ones."""
        dismiss(self._crew)

    def __enter__(self) -> "Pooled":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _all_or_closed(self) -> Iterator[None]:
        """Leave no worker with half a batch behind, Ctrl-C included."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _staff(self) -> None:
        """Replace workers that are worn out and hire those that are missing."""
        for worker in [worker for worker in self._crew if worker.idle and worker.answered >= self.recycle]:
            self._crew.remove(worker)
            worker.stop()
        if not self._crew:
            warn_of_spinning_threads(self.workers)
        while len(self._crew) < self.workers:
            self._crew.append(Worker(self.scorer, self.timeout, self.memory))

    def _hand_out(self, waiting: deque[int], samples: Sequence[Any]) -> None:
        """Give every idle worker its next chunk."""
        self._staff()
        for worker in [worker for worker in self._crew if worker.idle]:
            positions = [waiting.popleft() for _ in range(min(self.chunk, len(waiting)))]
            if positions and not worker.give(positions, samples):
                waiting.extendleft(reversed(positions))  # it died idle: nobody's fault
                self._crew.remove(worker)
                worker.stop()

    def _listen(self, waiting: deque[int], answers: dict[int, Scored]) -> None:
        """Wait for the next answer, death or time limit, and act on it."""
        busy = [worker for worker in self._crew if not worker.idle]
        if not busy:
            return
        patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
        heard = wait([worker.pipe for worker in busy], patience)
        for worker in busy:
            try:
                if worker.pipe in heard:
                    worker.hear(answers)
                elif time.monotonic() > worker.deadline:
                    raise Lost("timeout")
            except Lost as loss:
                answers.update(worker.give_up(loss))
                waiting.extendleft(reversed(worker.positions))
                self._crew.remove(worker)


class Lost(Exception):
    """A worker that died or ran out of time; the message is the reason."""


class Worker:
    """This side's view of one worker process.

    Attributes:
        ready: whether it has imported the scorer.
        positions: what it has been given and has not answered, in order.
        deadline: when it must have said something (monotonic clock).
        answered: number of samples it has answered.
    """

    def __init__(self, scorer: Judge[Any], timeout: float, memory: int) -> None:
        context = get_context("spawn")  # a fork would copy the threads' locks and torch with them
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, timeout, memory), name="molrl-reward", daemon=True)
        self.process.start()
        theirs.close()  # so that its death ends the pipe
        self.timeout = timeout
        self.ready = False
        self.positions: deque[int] = deque()
        self.answered = 0
        self.deadline = time.monotonic() + START_LIMIT
        try:
            self.pipe.send(scorer)
        except OSError:
            pass  # it is dead already, which `hear` explains
        except Exception as error:
            self.stop()
            raise ValueError(
                f"{type(scorer).__name__} cannot be sent to a worker process ({error}); "
                "it must be made of things that can be imported there, not of lambdas or open files"
            ) from error

    @property
    def idle(self) -> bool:
        return self.ready and not self.positions

    def give(self, positions: list[int], samples: Sequence[Any]) -> bool:
        """Hand it the samples at some positions; whether it was there to take them."""
        try:
            self.pipe.send([samples[position] for position in positions])
        except OSError:
            return False
        self.positions.extend(positions)
        self.deadline = time.monotonic() + self.timeout
        return True

    def hear(self, answers: dict[int, Scored]) -> None:
        """Take its next message: that it is ready, or the answer to its next sample."""
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            raise Lost(f"crash: {self.ending()}") from None
        if isinstance(message, Scored):
            answers[self.positions.popleft()] = message
            self.answered += 1
        elif message:
            self.stop()
            raise RuntimeError(f"a reward worker cannot load its scorer: {message}")
        self.ready = True
        self.deadline = time.monotonic() + self.timeout

    def give_up(self, loss: Lost) -> dict[int, Scored]:
        """End it and answer for the sample it was at."""
        self.stop()
        if not self.ready:
            raise RuntimeError(
                f"a reward worker did not start ({loss}); a script that uses worker processes needs the guard "
                '`if __name__ == "__main__":` around what it does'
            )
        return {self.positions.popleft(): Scored(math.nan, str(loss))}

    def ending(self) -> str:
        """How the process ended."""
        self.process.join(1.0)
        code = self.process.exitcode
        if code is not None and code < 0:
            return signal.Signals(-code).name
        return f"exit code {code}"

    def stop(self) -> None:
        """End the process at once; there is nothing in it to save."""
        self.pipe.close()
        self.process.kill()
        self.process.join()


def dismiss(crew: list[Worker]) -> None:
    """End all workers of a crew."""
    while crew:
        crew.pop().stop()


def serve(pipe: Connection, timeout: float, memory: int) -> None:
    """The life of a worker: receive a scorer, then answer chunks of samples until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent decides
    os.environ.update(ONE_THREAD)  # before the scorer brings its libraries with it
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        try:
            scorer: Judge[Any] = pipe.recv()
        except (ImportError, AttributeError) as error:
            pipe.send(f"{type(error).__name__}: {error}")
            return
        limit_memory(memory)
        pipe.send("")
        while True:
            for sample in pipe.recv():
                with ended_after(timeout + ORPHAN_GRACE):
                    answer = careful(scorer, sample)
                pipe.send(answer)


@contextlib.contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Let the kernel end this process after some time, also in the middle of C++ (not on Windows).

    The parent kills a hanging worker earlier; this is for a worker that has lost its parent.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory(mebibytes: int) -> None:
    """Let this process allocate so much more and then fail (Linux)."""
    if sys.platform != "linux":
        return
    import resource

    used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = used + mebibytes * MEBIBYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def usable_cores() -> int:
    """Processors this process may use, by affinity and by the container's quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        cores = min(cores, math.ceil(int(quota) / int(period)))  # "max" is no number: no quota
    return max(1, cores)


def warn_of_spinning_threads(workers: int) -> None:
    """Say so when idle OpenMP threads will spin on cores that the workers need, which slows torch 10 to 25 times.

    GNU's OpenMP lets threads spin while they wait, unless told otherwise before torch is imported.
    """
    torch = sys.modules.get("torch")
    if torch is None or os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":
        return
    threads = torch.get_num_threads()
    if threads > 1 and threads + workers > usable_cores():
        warnings.warn(
            f"{workers} reward workers beside {threads} torch threads on {usable_cores()} cores: set "
            "OMP_WAIT_POLICY=passive before torch is imported, or call torch.set_num_threads with fewer threads",
            RuntimeWarning,
            stacklevel=2,
        )
