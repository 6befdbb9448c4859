"""Worker pools: processes, on this machine or others, that hold one task and apply it to a stream of items in order."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Lost(NamedTuple):
    """The place holder for the answer to an item that its worker did not give."""

    reason: str


class WorkerPool(Protocol):
    """Processes that hold one task and answer items with it, on this machine (`Workers`) or others (`RayWorkers`)."""

    def stream(self, items: Iterable[Any], chunk: int | None = None) -> Iterator[Any]:
        """Yield answers in the order of the items, `Lost` where there is none; read only a few chunks ahead."""
        ...

    def submit(self, items: Sequence[Any]) -> Iterator[Any]:
        """Hand out all items now and return an iterator over their answers, which are those of `stream`."""
        ...

    def answers(self, assignment: Any) -> Iterator[Any]:
        """Yield the answers to a chunk that was handed out."""
        ...

    def start(self) -> None:
        """Start the workers and wait for the first, so that a broken set-up fails early."""
        ...

    def close(self) -> None:
        """End the workers; the next item starts new ones."""
        ...


def chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield the items in lists of at most `size`."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


def prefetch(source: Iterator[T], count: int) -> Iterator[T]:
    """Yield the items of a source, of which `count` are drawn before the first is yielded."""
    buffer = deque(islice(source, count))
    while buffer:
        yield buffer.popleft()
        buffer.extend(islice(source, 1))


def collect_answers(pool: WorkerPool, assignments: Iterable[Any]) -> Iterator[Any]:
    """Yield the answers to chunks that were handed out; when the consumer stops early, the pool is closed.

    This includes Ctrl-C: a pool that kept the remaining chunks would be half a batch behind.
    """
    try:
        for assignment in assignments:
            yield from pool.answers(assignment)
    except BaseException:
        pool.close()
        raise
