"""The processes that share a run: started by torchrun or `accelerate launch`, one per device, on one or many machines.

Each draws and scores its share of a round's samples and learns from the rows of its own share; values that must be the
same everywhere (statistics, gradients, decisions) are gathered or summed here. Only tensors are sent, never pickled
objects.
"""

import contextlib
import itertools
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed.nn.functional  # imported before any group is connected: its default arguments keep the group
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

JOIN_TIMEOUT = timedelta(minutes=10)  # for all processes to start
REPLY_TIMEOUT = timedelta(seconds=10)  # for the others to report, once one does not answer
LOST_PEER = "-"  # report of a process that lost another one
BUCKET_SIZE = 2**24  # numbers summed at a time
GROUP_NUMBERS = itertools.count()  # of the groups that this process joins, one after the other


class ProcessLost(RuntimeError):
    """A process died, left or does not answer; the message says which, and why if that is known."""


@dataclass(frozen=True, eq=False)
class Processes:
    """One of `size` processes that share a run; with a single process every method returns its argument.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        store: keeps the reason of every process that leaves.
        lockstep: all must make the same network calls, because they share the weights of one network.
    """

    rank: int = 0
    size: int = 1
    store: Any = None
    lockstep: bool = False

    @property
    def is_main(self) -> bool:
        """Return whether this process is the one that writes files and prints."""
        return self.rank == 0

    def share(self, count: int, group_size: int = 1) -> slice:
        """Return this process's part of `count` samples: complete groups, as evenly as these allow.

        Raises:
            ValueError: a process would have no samples, or fewer than the others although `lockstep` is set.
        """
        groups = count // group_size
        grouped = f" in groups of {group_size}" if group_size > 1 else ""
        if groups < self.size:
            raise ValueError(f"{count} samples{grouped} are too few for {self.size} processes")
        if self.lockstep and groups % self.size:
            raise ValueError(f"{count} samples{grouped}: {self.size} processes that share a network need equal shares")
        start, stop = (groups * rank // self.size * group_size for rank in (self.rank, self.rank + 1))
        return slice(start, stop)

    def gather(self, part: Tensor, dim: int = 0) -> Tensor:
        """Concatenate the parts of all processes along `dim`; they may differ in length there, and be empty."""
        if self.size == 1:
            return part
        flat = part.detach().movedim(dim, 0).cpu().contiguous()
        lengths = self.sum(torch.tensor([len(flat) * (rank == self.rank) for rank in range(self.size)])).tolist()
        padded = flat.new_zeros(max(lengths), *flat.shape[1:], dtype=transport_dtype(flat.dtype))
        padded[: len(flat)] = flat
        received = [torch.empty_like(padded) for _ in lengths]
        with self.collective_errors():
            distributed.all_gather(received, padded)
        gathered = torch.cat([values[:length] for values, length in zip(received, lengths, strict=True)])
        return gathered.movedim(0, dim).to(part)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes, with the same bits on each; the argument is overwritten with the result."""
        if self.size > 1:
            with self.collective_errors():
                distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether a flag is set on any process."""
        return bool(self.sum(torch.tensor(int(flag))))

    def missing_passes(self, count: int) -> int:
        """Return how many passes this process must add to its `count` where all make as many as the largest."""
        return int(self.gather(torch.tensor([count])).max()) - count if self.lockstep else 0

    def gather_strings(self, text: str) -> list[str]:
        """Gather a text from each process, in the order of their ranks."""
        data = text.encode()
        lengths = self.gather(torch.tensor([len(data)])).tolist()
        joined = self.gather(torch.tensor(list(data), dtype=torch.uint8))
        return [bytes(part.tolist()).decode() for part in joined.split(lengths)]

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors of all processes with those of the first one."""
        if self.size > 1:
            with self.collective_errors(), torch.no_grad():
                for tensor in tensors:
                    distributed.broadcast(tensor, 0)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes; a parameter without one on all of them keeps None."""
        if self.size == 1:
            return
        every = list(parameters)
        counts = self.sum(torch.tensor([int(parameter.grad is not None) for parameter in every])).tolist()
        used = [parameter for parameter, count in zip(every, counts, strict=True) if count]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
        for bucket in buckets(gradients):
            total = self.sum(torch.cat([gradient.flatten() for gradient in bucket]))
            for gradient, part in zip(bucket, total.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))
        for parameter, gradient in zip(used, gradients, strict=True):
            parameter.grad = gradient

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the first process run this block before the others."""
        if not self.is_main:
            self.any(False)
        yield
        if self.is_main:
            self.any(False)

    @contextlib.contextmanager
    def collective_errors(self) -> Iterator[None]:
        """Raise ProcessLost where waiting for others fails: one of them is gone, or the group's time limit is over."""
        try:
            yield
        except RuntimeError as error:
            raise ProcessLost(self.describe_missing()) from error

    def describe_missing(self) -> str:
        """Return which processes are gone and why.

        Every process that remains reports to the others, which needs the connections to be closed first.
        """
        for number in (
            signal.SIGTERM,
            signal.SIGINT,
        ):  # a launcher ends the others when one dies; this one is ending already
            with contextlib.suppress(ValueError):
                signal.signal(number, signal.SIG_IGN)
        self.leave("")
        with contextlib.suppress(RuntimeError):
            distributed.destroy_process_group()
        others = [rank for rank in range(self.size) if rank != self.rank]
        with contextlib.suppress(RuntimeError):
            self.store.wait([f"left/{rank}" for rank in others], REPLY_TIMEOUT)
        try:
            messages = {rank: self.message_of(rank) for rank in others}
        except RuntimeError:
            messages = {0: "does not answer (nor does the store that it keeps)"}
        lost = [f"process {rank} of {self.size} {reason}" for rank, reason in messages.items() if reason]
        return "; ".join(lost) or f"the connection between the {self.size} processes broke"

    def leave(self, reason: str) -> None:
        """Tell the others that this process leaves, and why; without a reason, because it lost one of them."""
        with contextlib.suppress(RuntimeError):
            self.store.set(f"left/{self.rank}", reason or LOST_PEER)

    def message_of(self, rank: int) -> str:
        """Return the reason why a process is gone; empty if it only lost another one."""
        if not self.store.check([f"left/{rank}"]):
            return "does not answer"
        message = self.store.get(f"left/{rank}").decode()
        return "" if message == LOST_PEER else f"left: {message}"


SINGLE_PROCESS = Processes()


@contextlib.contextmanager
def connect_processes(wait: float) -> Iterator[Processes]:
    """Connect the processes that a launcher started, by the environment variables of torchrun; or yield one alone.

    Args:
        wait: time limit for processes that wait for one another, in seconds.

    Raises:
        ProcessLost: another process died, left or did not answer in time.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        yield SINGLE_PROCESS
        return
    if distributed.is_initialized():
        raise ValueError("torch.distributed is in use already: molrl connects the launched processes itself")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    limit = timedelta(seconds=wait)
    shared, rank, size = next(rendezvous("env://", timeout=max(limit, JOIN_TIMEOUT)))
    store = PrefixStore(f"molrl/{next(GROUP_NUMBERS)}", shared)
    processes = Processes(rank, size, store)
    try:
        with processes.collective_errors():
            distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
        yield processes
    except ProcessLost:
        raise
    except BaseException as error:
        if is_connection_error(error):
            raise ProcessLost(processes.describe_missing()) from error
        processes.leave(" ".join(str(error).split()) or type(error).__name__)
        raise
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def is_connection_error(error: BaseException) -> bool:
    """Return whether an error is of a connection between processes; torch marks these by their message alone."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL"))


def place_of_process(device: torch.device) -> torch.device:
    """Return the device of this process: of several on a machine each takes a GPU of its own."""
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    if device.index is not None:
        raise ValueError(f"device={device}: each process takes a GPU of its own; use device=cuda")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the tensors in lists of about `BUCKET_SIZE` numbers."""
    bucket, numbers = list[Tensor](), 0
    for tensor in tensors:
        bucket.append(tensor)
        numbers += tensor.numel()
        if numbers >= BUCKET_SIZE:
            yield bucket
            bucket, numbers = [], 0
    if bucket:
        yield bucket


def transport_dtype(kind: torch.dtype) -> torch.dtype:
    """Return the dtype that values are sent as: bytes in place of booleans."""
    return torch.uint8 if kind == torch.bool else kind
