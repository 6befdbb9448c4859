"""Rewards on a Ray cluster (Moritz et al. 2018, arXiv:1712.05889): what `Workers` does, on many machines.

Each of Ray's processes that gets a chunk keeps `Workers` with one process, and that one does the work: a sample that
hangs, crashes or eats memory ends it and never Ray's own, and the reasons are those of local workers. What Ray itself
loses, when a machine goes down for instance, is handed out again.

The cluster is the one at RAY_ADDRESS, or that of `ray start --head` on this machine, or else one that is started here
for the time being. All its machines need the same molrl, and whatever the task imports. Ray serialises with
cloudpickle and runs what it is sent: that is for one's own cluster, whose ports nobody else may reach.
"""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

from molrl.rewards.workers.local import AHEAD, ATTEMPTS, START_LIMIT, Workers
from molrl.rewards.workers.protocol import Lost, ahead, chunks, gathered

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}


class Errand(NamedTuple):
    """A chunk of items on its way through the cluster, and what Ray calls it."""

    items: list[Any]
    reference: Any


@dataclass(eq=False)
class RayWorkers:
    """Processes all over a cluster that hold one task and answer items with it; see `Workers` for the settings.

    A chunk takes one of the cluster's CPUs; those that other jobs hold are waited for. The processes stay until
    `close`, where the cluster was started here, and else until this process leaves it.
    """

    task: Callable[[Any], Any]
    _: KW_ONLY
    timeout: float = 10.0
    chunk: int = 8
    memory: int = 4096
    recycle: int = 20_000

    def __post_init__(self) -> None:
        if find_spec("ray") is None:
            raise ValueError("workers=ray needs Ray: pip install 'molrl[ray]'")
        self._hire = partial(
            Workers,
            self.task,
            workers=1,
            timeout=self.timeout,
            chunk=self.chunk,
            memory=self.memory,
            recycle=self.recycle,
        )
        self._hire()  # refuses impossible settings
        self._cluster, self._ours = "", False
        self._contract: Any = None
        self._out: dict[Any, Any] = {}

    def stream(self, items: Iterable[Any], chunk: int | None = None) -> Iterator[Any]:
        """Answers in the order of the items, `Lost` where none came; reads a few chunks ahead and no more.

        Raises:
            RuntimeError: no cluster can be reached, it has no CPU to spare, or the task cannot be imported there.
        """
        self.start()
        return gathered(self, ahead(map(self.assign, chunks(items, chunk or self.chunk)), AHEAD * cpus()))

    def submit(self, items: Sequence[Any]) -> Iterator[Any]:
        """Hand out all items now; their answers, as `stream` gives them, for later."""
        self.start()
        return gathered(self, list(map(self.assign, chunks(items, self.chunk))))

    def assign(self, items: list[Any]) -> Errand:
        """Hand out a chunk."""
        import ray

        reference = ray.remote(num_cpus=1, max_retries=0)(perform_here).remote([self._contract], items)
        self._out[reference] = None
        return Errand(items, reference)

    def answers(self, given: Errand) -> Iterator[Any]:
        """The answers to a chunk; one that Ray lost is handed out again item by item."""
        if isinstance(found := self._outcome(given), list):
            yield from found
        else:
            yield from map(self._answer, [self.assign([item]) for item in given.items])

    def _answer(self, given: Errand) -> Any:
        """The answer to a single item, handed out again when Ray loses it."""
        found = self._outcome(given)
        for _ in range(ATTEMPTS - 1):
            if isinstance(found, list):
                break
            found = self._outcome(self.assign(given.items))
        return found[0] if isinstance(found, list) else found

    def _outcome(self, given: Errand) -> list[Any] | Lost:
        """The answers, or how Ray lost them; a set-up that cannot work is an error."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            return list(ray.get(given.reference))
        except RayTaskError as error:
            raise RuntimeError(f"a worker of the Ray cluster cannot work: {error.cause}") from None
        except RayError as error:
            return Lost(f"crash: Ray: {type(error).__name__}")
        finally:
            self._out.pop(given.reference, None)

    def start(self) -> None:
        """Join the cluster and wait until one of its processes has imported the task."""
        import ray

        if not ray.is_initialized():
            self._ours = join()
        if self._cluster == (here := ray.get_runtime_context().get_worker_id()):
            return
        self._contract = ray.put(self._hire)
        first = self.assign([])
        if not ray.wait([first.reference], timeout=START_LIMIT)[0]:
            self.close()
            raise RuntimeError(f"none of the {cpus()} CPUs of the Ray cluster became free in {START_LIMIT:.0f} seconds")
        if isinstance(lost := self._outcome(first), Lost):
            raise RuntimeError(f"the Ray cluster started no worker ({lost.reason})")
        self._cluster = here

    def close(self) -> None:
        """Give up what is still out, and end the cluster if it was started here; the next item starts again."""
        import ray
        from ray.exceptions import RayError

        if ray.is_initialized():
            for reference in self._out:
                with contextlib.suppress(RayError):
                    ray.cancel(reference, force=True)
            if self._ours:
                ray.shutdown()
        self._out.clear()
        self._cluster, self._ours = "", False


class Site:
    """What one of Ray's processes keeps: workers by the name of their contract."""

    crews: dict[str, Workers] = {}  # noqa: RUF012


def perform_here(contract: list[Any], items: list[Any]) -> list[Any]:
    """Answer a chunk in one of Ray's processes; the contract is in a list so that Ray does not send it every time."""
    import ray

    (reference,) = contract
    if (name := reference.hex()) not in Site.crews:
        hire: Any = ray.get(reference)
        pool: Workers = hire()
        pool.start()
        Site.crews[name] = pool
    return list(Site.crews[name].stream(items))


def join() -> bool:
    """Connect to a cluster; whether it was started for that.

    Raises:
        RuntimeError: none answers at RAY_ADDRESS, or none could be started.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", "")
    refuse_silence(address)
    try:
        ray.init(address or "auto", **QUIET)
        where, ours = address or "of this machine", address == "local"
    except (ConnectionError, ValueError) as error:
        if address:
            raise RuntimeError(
                f"RAY_ADDRESS={address}: cannot join the Ray cluster there ({error}); one that asks for tokens needs "
                "RAY_AUTH_MODE=token"
            ) from error
        start_here()
        where, ours = "started on this machine for want of another", True
    print(f"Ray cluster {where}: {cpus()} CPUs", file=sys.stderr)
    return ours


def start_here() -> None:
    """A cluster on this machine, for this process alone.

    Raises:
        RuntimeError: Ray gave up; it allows its processes half a minute, which a busy machine may need.
    """
    import ray

    try:
        ray.init("local", include_dashboard=False, **QUIET)
    except Exception as error:  # Ray has no type for this
        ray.shutdown()
        raise RuntimeError(f"no Ray cluster could be started on this machine ({error})") from error


def refuse_silence(address: str) -> None:
    """An address at which nothing listens: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:  # none, "auto" or "local"
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise RuntimeError(f"RAY_ADDRESS={address}: no Ray cluster answers there ({error})") from None


def cpus() -> int:
    """CPUs of the cluster, whoever uses them."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 0)))  # type: ignore[no-untyped-call]
