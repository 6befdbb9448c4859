"""Processes that answer questions in order, here or elsewhere: what they have in common."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Lost(NamedTuple):
    """What there is instead of an answer."""

    reason: str


class WorkerPool(Protocol):
    """Processes that hold one task and answer items with it, on this machine (`Workers`) or others (`RayWorkers`)."""

    def stream(self, items: Iterable[Any], chunk: int | None = None) -> Iterator[Any]:
        """Answers in the order of the items, `Lost` where none came; reads a few chunks ahead and no more."""
        ...

    def submit(self, items: Sequence[Any]) -> Iterator[Any]:
        """Hand out all items now; their answers, as `stream` gives them, for later."""
        ...

    def answers(self, given: Any) -> Iterator[Any]:
        """The answers to a chunk that was handed out."""
        ...

    def start(self) -> None:
        """Start the workers and wait for the first: a broken set-up fails here, early."""
        ...

    def close(self) -> None:
        """End the workers; the next item starts new ones."""
        ...


def chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The items, some at a time."""
    source = iter(items)
    while some := list(islice(source, size)):
        yield some


def ahead(made: Iterator[T], most: int) -> Iterator[T]:
    """The same things, so many of which are made before the first is used up."""
    waiting = deque(islice(made, most))
    while waiting:
        yield waiting.popleft()
        waiting.extend(islice(made, 1))


def gathered(pool: WorkerPool, given: Iterable[Any]) -> Iterator[Any]:
    """The answers to chunks that a pool was given; if they are given up, the pool ends, Ctrl-C included.

    It would be half a batch behind.
    """
    try:
        for chunk in given:
            yield from pool.answers(chunk)
    except BaseException:
        pool.close()
        raise
