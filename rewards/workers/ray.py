"""Workers on a Ray cluster (Moritz et al. 2018, arXiv:1712.05889), as `Workers` does it on one machine.

Each of Ray's processes that gets a chunk keeps `Workers` with one process, and that one does the work: a sample that
hangs, crashes or exhausts memory ends it and never Ray's own, and the reasons are those of local workers. What Ray
itself loses, when a machine goes down for instance, is handed out again.

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
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from molrl.machine.workers.local import CHUNKS_PER_WORKER, Workers
from molrl.machine.workers.pool import START_TIMEOUT
from molrl.machine.workers.protocol import Lost, chunks, collect_answers, prefetch

LOOPBACK = ("127.0.0.1", "::1")
MAX_ATTEMPTS = 4  # at an item that Ray loses each time
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}


class RayAssignment(NamedTuple):
    """A chunk of items on its way through the cluster, and Ray's reference to its answers."""

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
        self._make_workers = partial(
            Workers,
            self.task,
            workers=1,
            timeout=self.timeout,
            chunk=self.chunk,
            memory=self.memory,
            recycle=self.recycle,
        )
        self._make_workers()  # refuses impossible settings
        self._driver_id, self._owns_cluster = "", False
        self._factory_reference: Any = None
        self._pending: dict[Any, Any] = {}

    def stream(self, items: Iterable[Any], chunk: int | None = None) -> Iterator[Any]:
        """Yield answers in the order of the items, `Lost` where there is none; read only a few chunks ahead.

        Raises:
            RuntimeError: no cluster can be reached, it has no CPU to spare, or the task cannot be imported there.
        """
        self.start()
        assignments = map(self.assign, chunks(items, chunk or self.chunk))
        return collect_answers(self, prefetch(assignments, CHUNKS_PER_WORKER * cluster_cpus()))

    def submit(self, items: Sequence[Any]) -> Iterator[Any]:
        """Hand out all items now and return an iterator over their answers, which are those of `stream`."""
        self.start()
        return collect_answers(self, list(map(self.assign, chunks(items, self.chunk))))

    def assign(self, items: list[Any]) -> RayAssignment:
        """Hand out a chunk of items to the cluster."""
        import ray

        reference = ray.remote(num_cpus=1, max_retries=0)(run_chunk_on_ray).remote([self._factory_reference], items)
        self._pending[reference] = None
        return RayAssignment(items, reference)

    def answers(self, assignment: RayAssignment) -> Iterator[Any]:
        """Yield the answers to a chunk; one that Ray lost is handed out again item by item."""
        if isinstance(answers := self._outcome(assignment), list):
            yield from answers
        else:
            yield from map(self._answer, [self.assign([item]) for item in assignment.items])

    def _answer(self, assignment: RayAssignment) -> Any:
        """Return the answer to a single item, handed out again when Ray loses it."""
        outcome = self._outcome(assignment)
        for _ in range(MAX_ATTEMPTS - 1):
            if isinstance(outcome, list):
                break
            outcome = self._outcome(self.assign(assignment.items))
        return outcome[0] if isinstance(outcome, list) else outcome

    def _outcome(self, assignment: RayAssignment) -> list[Any] | Lost:
        """Return the answers or how Ray lost them; a set-up that cannot work is an error."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            return list(ray.get(assignment.reference))
        except RayTaskError as error:
            raise RuntimeError(f"a worker of the Ray cluster cannot work: {error.cause}") from None
        except RayError as error:
            return Lost(f"crash: Ray: {type(error).__name__}")
        finally:
            self._pending.pop(assignment.reference, None)

    def start(self) -> None:
        """Join the cluster and wait until one of its processes has imported the task."""
        import ray

        if not ray.is_initialized():
            self._owns_cluster = connect()
        driver_id = ray.get_runtime_context().get_worker_id()
        if self._driver_id == driver_id:
            return
        self._factory_reference = ray.put(self._make_workers)
        first = self.assign([])
        if not ray.wait([first.reference], timeout=START_TIMEOUT)[0]:
            cpus = cluster_cpus()
            self.close()
            raise RuntimeError(f"none of the {cpus} CPUs of the Ray cluster became free in {START_TIMEOUT:.0f} seconds")
        if isinstance(lost := self._outcome(first), Lost):
            raise RuntimeError(f"the Ray cluster started no worker ({lost.reason})")
        self._driver_id = driver_id

    def close(self) -> None:
        """Cancel pending chunks, and end the cluster if it was started here; the next item starts again."""
        import ray
        from ray.exceptions import RayError

        if ray.is_initialized():
            for reference in self._pending:
                with contextlib.suppress(RayError):
                    ray.cancel(reference, force=True)
            if self._owns_cluster:
                ray.shutdown()
        self._pending.clear()
        self._driver_id, self._owns_cluster = "", False


class ProcessState:
    """The state of one of Ray's processes: its workers, by the reference to the factory that made them."""

    workers: dict[str, Workers] = {}  # noqa: RUF012


def run_chunk_on_ray(factory: list[Any], items: list[Any]) -> list[Any]:
    """Answer the items of a chunk in one of Ray's processes.

    Args:
        factory: a reference to the function that makes `Workers`, in a list so that Ray does not resolve it each time.
    """
    import ray

    (reference,) = factory
    if (name := reference.hex()) not in ProcessState.workers:
        make_workers: Any = ray.get(reference)
        workers: Workers = make_workers()
        workers.start()
        ProcessState.workers[name] = workers
    return list(ProcessState.workers[name].stream(items))


def connect() -> bool:
    """Connect to a cluster and return True if it was started for this process alone.

    Raises:
        RuntimeError: none answers at RAY_ADDRESS, or none could be started.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", "")
    check_address(address)
    try:
        ray.init(address or "auto", **QUIET)
        where, owned = address or "of this machine", address == "local"
    except (ConnectionError, ValueError) as error:
        if address:
            raise RuntimeError(
                f"RAY_ADDRESS={address}: cannot join the Ray cluster there ({error}); one that asks for tokens needs "
                "RAY_AUTH_MODE=token"
            ) from error
        start_local_cluster()
        where, owned = "started on this machine for want of another", True
    print(f"Ray cluster {where}: {cluster_cpus()} CPUs", file=sys.stderr)
    return owned


def start_local_cluster() -> None:
    """Start a cluster on this machine, for this process alone, which no other machine can reach.

    Raises:
        RuntimeError: Ray gave up; it allows its processes half a minute, which a busy machine may need.
    """
    import ray

    try:
        with on_loopback():
            ray.init("local", include_dashboard=False, **QUIET)
    except Exception as error:  # Ray has no type for this
        ray.shutdown()
        raise RuntimeError(f"no Ray cluster could be started on this machine ({error})") from error
    if (address := str(ray.util.get_node_ip_address())) not in LOOPBACK:  # type: ignore[no-untyped-call]
        ray.shutdown()
        raise RuntimeError(f"the Ray cluster would be open to others at {address}; start your own and name RAY_ADDRESS")


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Have the cluster that is started within the block listen on the loopback interface alone.

    Ray does so where it does not expect other machines, which it decides by the system and by this variable; every one
    of its ports runs what it is sent.
    """
    constants: Any = import_module("ray._private.ray_constants")
    name, before = constants.ENABLE_RAY_CLUSTERS_ENV_VAR, constants.ENABLE_RAY_CLUSTER
    environment = os.environ.get(name)
    os.environ[name], constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        if environment is None:
            del os.environ[name]
        else:
            os.environ[name] = environment


def check_address(address: str) -> None:
    """Raise RuntimeError for an address at which nothing listens; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:  # none, "auto" or "local"
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise RuntimeError(f"RAY_ADDRESS={address}: no Ray cluster answers there ({error})") from None


def cluster_cpus() -> int:
    """Return the number of CPUs of the cluster, in use or not, at least 1."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 0)))  # type: ignore[no-untyped-call]
