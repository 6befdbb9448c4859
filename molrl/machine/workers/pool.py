"""Threads that each own one worker process, and replace it when it dies, hangs or has done its share."""

import atexit
import contextlib
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import Any

from molrl.machine.workers.process import READY, serve
from molrl.machine.workers.protocol import Lost

GRACE_PERIOD = 5.0  # seconds beyond a chunk's own timers before its worker is killed
START_TIMEOUT = 120.0  # seconds a worker may take to import its task, on a loaded machine
STOP_SECONDS = 15.0  # that a worker may take to end once it is told to
POLL_SECONDS = 0.5  # between two looks at whether a worker is alive
MAX_STARTS = 3  # of workers that end before they have begun with a chunk
PROCESS_NAME = "molrl-worker"
NO_START = (
    "the worker processes did not start; a script that uses worker processes needs the guard "
    '`if __name__ == "__main__":` around its statements'
)


class TaskLoadError(RuntimeError):
    """The error of a worker that cannot load its task."""


class WorkerDied(Exception):
    """A worker ended; the message is the reason for the loss of the item that it was at."""


@dataclass(frozen=True, eq=False)
class Job:
    """A chunk of items, pickled, their number, and what will hold their answers or how they were lost."""

    items: bytes
    count: int
    answers: "Future[list[Any] | Lost]"


class Worker:
    """A worker process, as the process that started it sees it.

    Args:
        task: pickled.
        memory: MiB it may allocate beyond its size at the start.
        stopping: set when it is to be given up, whatever it is doing.
    """

    def __init__(self, task: bytes, memory: int, stopping: threading.Event) -> None:
        self.stopping = stopping
        context = get_context("spawn")  # a fork would copy the threads' locks and torch with them
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, task, memory, os.getpid()), name=PROCESS_NAME)
        self.chunks = 0
        try:
            self.process.start()
        except BaseException:
            self.connection.close()
            raise
        finally:
            theirs.close()

    def wait_until_ready(self) -> None:
        """Wait until the task is loaded.

        Raises:
            TaskLoadError: it cannot be.
            WorkerDied: the process ended, or takes too long.
        """
        if (message := self.receive(START_TIMEOUT)) != READY:
            text = message.decode(errors="replace")
            raise TaskLoadError(f"a worker process cannot load its task: {text}")

    def answer(self, job: Job, timeout: float) -> list[Any] | None:
        """Return the answers to a chunk, or None if the process had ended before it began.

        Raises:
            WorkerDied: it ended while it was at the chunk, or did not answer in time.
        """
        self.chunks += 1
        try:
            self.connection.send_bytes(pickle.dumps((timeout, job.items)))
            self.receive(START_TIMEOUT)
        except (OSError, WorkerDied):
            return None
        return list(pickle.loads(self.receive(timeout * max(1, job.count) + GRACE_PERIOD)))

    def receive(self, seconds: float) -> bytes:
        """Return the next message; WorkerDied where the process ends, or sends none in time and is killed."""
        deadline = time.monotonic() + seconds
        while not self.connection.poll():
            if self.has_ended():
                self.process.join(STOP_SECONDS)  # its status comes a moment after its end
                raise WorkerDied(loss_reason(self.process.exitcode))
            if self.stopping.is_set():
                raise WorkerDied("crash: the pool was closed")
            if (left := deadline - time.monotonic()) <= 0:
                self.end()
                raise WorkerDied("timeout")
            wait([self.connection, self.process.sentinel], min(left, POLL_SECONDS))
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError):
            self.process.join(STOP_SECONDS)
            raise WorkerDied(loss_reason(self.process.exitcode)) from None

    def has_ended(self) -> bool:
        """Return whether the process has ended; where SIGCHLD is ignored its status is not to be had."""
        return self.process.exitcode is not None or bool(wait([self.process.sentinel], 0))

    def end(self) -> None:
        """End the process and whatever it has started."""
        self.process.terminate()  # its supervisor kills the rest; elsewhere it leads a group
        self.process.join(STOP_SECONDS)
        if not self.has_ended():
            with contextlib.suppress(OSError):
                if self.process.pid and hasattr(os, "killpg"):
                    os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.join()
        self.connection.close()


def loss_reason(exitcode: int | None) -> str:
    """Return the reason for the loss of an item that was alone with its worker."""
    if exitcode is None or exitcode >= 0:
        return f"crash: exit code {'unknown' if exitcode is None else exitcode}"
    known = -exitcode in set(signal.Signals)
    name = signal.Signals(-exitcode).name if known else f"signal {-exitcode}"
    return "timeout" if name == "SIGALRM" else f"crash: {name}"


class Pool:
    """Threads with a worker process each, which take chunks of items from one queue.

    Args:
        workers: number of processes.
        task: pickled.
        timeout: seconds one item may take.
        memory: MiB a worker may allocate on top of what it has at its start.
        max_chunks: after which a worker is replaced.
    """

    def __init__(self, workers: int, task: bytes, *, timeout: float, memory: int, max_chunks: int) -> None:
        self.task, self.timeout, self.memory, self.max_chunks = task, timeout, memory, max_chunks
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.stopping, self.started = threading.Event(), threading.Event()
        self.threads = [threading.Thread(target=self.serve, daemon=True) for _ in range(workers)]
        for thread in self.threads:
            thread.start()
        atexit.register(self.stop)  # before multiprocessing waits for its processes

    def submit(self, items: Sequence[Any]) -> "Future[list[Any] | Lost]":
        """Hand out a chunk; its future has the list of answers, or how the chunk was lost."""
        job = Job(pickle.dumps(list(items)), len(items), Future())
        self.jobs.put(job)
        return job.answers

    def stop(self) -> None:
        """End all workers, also those that are at work, and give up what has not been answered."""
        self.stopping.set()
        for _ in self.threads:
            self.jobs.put(None)
        for thread in self.threads:
            if thread is not threading.current_thread():  # the garbage collector may call this anywhere
                thread.join()
        with contextlib.suppress(queue.Empty):
            while True:
                if (job := self.jobs.get_nowait()) is not None:
                    job.answers.cancel()
        atexit.unregister(self.stop)

    def serve(self) -> None:
        """Answer one chunk after the other with a worker of this thread's own."""
        worker: Worker | None = None
        with contextlib.suppress(Exception):  # the first chunk raises it again
            worker = self.replaced(None)
        try:
            while (job := self.jobs.get()) is not None and not self.stopping.is_set():
                try:
                    worker = self.answer(job, worker)
                except Exception as error:
                    job.answers.set_exception(error)
                    worker = None
            if job is not None:
                job.answers.cancel()
        finally:
            if worker is not None:
                worker.end()

    def answer(self, job: Job, worker: Worker | None) -> Worker | None:
        """Answer a chunk, and return the worker for the next one, if it still lives."""
        for _ in range(MAX_STARTS):
            if self.stopping.is_set():
                break
            if worker is None or worker.has_ended() or worker.chunks >= self.max_chunks:
                worker = self.replaced(worker)
            try:
                answers = worker.answer(job, self.timeout)
            except WorkerDied as loss:
                worker.end()
                job.answers.set_result(Lost(str(loss)))
                return None
            if answers is not None:
                job.answers.set_result(answers)
                return worker
        job.answers.set_result(Lost("crash: all workers were lost"))
        return worker

    def replaced(self, worker: Worker | None) -> Worker:
        """Return a new worker, with its task loaded, in place of an old one.

        Raises:
            RuntimeError: none can be started.
        """
        if worker is not None:
            worker.end()
        for attempt in range(MAX_STARTS):
            fresh = Worker(self.task, self.memory, self.stopping)
            try:
                fresh.wait_until_ready()
            except WorkerDied as death:
                fresh.end()
                if self.stopping.is_set() or not self.started.is_set() or attempt == MAX_STARTS - 1:
                    raise RuntimeError(f"{NO_START} ({death})") from None
            except TaskLoadError:
                fresh.end()
                raise
            else:
                self.started.set()
                return fresh
        raise AssertionError
