"""One worker process: it holds a task and runs it under a timer and with limited memory, either of which may end it.

On Linux it is the child of a supervisor, which does nothing but wait for it. Whatever the task has started, in sessions
of its own or not, becomes the supervisor's when its parent ends (PR_SET_CHILD_SUBREAPER of prctl(2)), and is killed
with the worker. The supervisor ends with the process that started it, and takes the worker along.
"""

import contextlib
import ctypes
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Never

from molrl.machine.workers.protocol import Lost

ONE_THREAD: dict[str, str] = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # options of prctl(2)
READY, BEGUN = b"ready", b"begun"  # messages: the task is loaded; a chunk is being worked on
MAX_REASON_LENGTH = 1000
KILL_SECONDS = 10.0  # that killing what is left may take


def serve(connection: Connection, task: bytes, memory: int, parent: int) -> None:
    """Be a worker process that answers chunks of items until the connection is closed.

    Args:
        connection: to the process that started this one; see `work` for what is sent.
        task: pickled.
        memory: MiB that it may allocate beyond what it has with the task loaded.
        parent: the process that started this one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    if sys.platform == "linux":
        supervise(parent)
    elif hasattr(os, "setsid"):
        os.setsid()
    work(connection, task, memory)


def supervise(parent: int) -> None:
    """Fork the worker, and return in it; the supervisor itself never returns."""
    awaited = {signal.SIGTERM, signal.SIGCHLD}
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignores it has its children do so
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)
    supervisor, worker = os.getpid(), os.fork()
    if worker:
        end_like(wait_for_end(worker, awaited))
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited)
    os.setsid()
    if os.getppid() != supervisor:
        os._exit(1)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process."""
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def wait_for_end(worker: int, awaited: set[signal.Signals]) -> int:
    """Return the worker's status when it has ended, after killing everything that it left; SIGTERM ends it."""
    while True:
        if signal.sigwait(awaited) == signal.SIGTERM:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        for process, status in ended_children():
            if process == worker:
                kill_children()
                return status


def ended_children() -> Iterator[tuple[int, int]]:
    """Yield the number and the status of each child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def kill_children() -> None:
    """Kill all children, and theirs, which become this process's own as their parents end."""
    deadline = time.monotonic() + KILL_SECONDS
    while (left := children()) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
        list(ended_children())


def children() -> list[int]:
    """Return the numbers of this process's children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(folder.name))
    return found


def end_like(status: int) -> Never:
    """End this process as another one with this status has ended."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.Signals(-code)})
        os.kill(os.getpid(), -code)
        time.sleep(KILL_SECONDS)
    os._exit(code)


def work(connection: Connection, task: bytes, memory: int) -> None:
    """Load the task and answer chunks.

    Sends READY, or the reason why the task cannot be loaded. Then receives the time limit of an item and a pickled list
    of items, and sends BEGUN and the pickled list of answers, for each chunk.
    """
    os.environ.update(ONE_THREAD)  # before the task brings its libraries with it
    try:
        held = pickle.loads(task)
    except Exception as error:
        connection.send_bytes(f"{type(error).__name__}: {error}".encode(errors="replace"))
        return
    limit_memory(memory)
    connection.send_bytes(READY)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            timeout, items = pickle.loads(connection.recv_bytes())
            connection.send_bytes(BEGUN)
            connection.send_bytes(packed(run_chunk(held, items, timeout)))


def run_chunk(task: Callable[[Any], Any], items: bytes, timeout: float) -> list[Any]:
    """Answer the items of a chunk.

    The timer lets the kernel end the process, also in the middle of C++.
    """
    set_timer = getattr(signal, "setitimer", lambda *_: None)  # Windows has none; 0 is ITIMER_REAL
    answers = []
    try:
        for item in pickle.loads(items):
            set_timer(0, timeout)
            try:
                answers.append(run_item(task, item))
            except BaseException as error:  # SystemExit, KeyboardInterrupt: of the task, not of this process
                answers.append(lost_by(error))
    finally:
        set_timer(0, 0)
    return answers


def run_item(task: Callable[[Any], Any], item: Any) -> Any:
    """Return the task's answer to an item; an exception costs this item alone."""
    try:
        return task(item)
    except Exception as error:
        return lost_by(error)


def lost_by(error: BaseException) -> Lost:
    """Return the place holder for an answer that an error prevented."""
    try:
        text = f"{type(error).__name__}: {error!s:.{MAX_REASON_LENGTH}}"
    except Exception:  # from the error's own __str__
        text = type(error).__name__
    return Lost(f"error: {text}".rstrip(": "))


def packed(answers: list[Any]) -> bytes:
    """Return answers as bytes; one that cannot be sent costs itself alone."""
    try:
        return pickle.dumps(answers)
    except Exception:
        return pickle.dumps([sendable(answer) for answer in answers])


def sendable(answer: Any) -> Any:
    """Return an answer that can be sent, or the place holder for it."""
    try:
        pickle.loads(pickle.dumps(answer))
    except Exception as error:
        return lost_by(error)
    return answer


def limit_memory(mebibytes: int) -> None:
    """Limit what this process may allocate beyond its present size; further allocations fail (Linux)."""
    if sys.platform != "linux":
        return
    import resource

    used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = used + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
