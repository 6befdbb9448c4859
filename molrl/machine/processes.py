"""The processes that share a run: started by torchrun or `accelerate launch`, one per device, on one or many machines.

Each draws and scores its share of a round's samples and learns from the rows that these left it; what must be the same
everywhere (statistics, gradients, decisions) is gathered or summed here. Only tensors travel, never pickled objects.
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
import torch.distributed.nn.functional  # its defaults keep the group that is connected when it is imported: before any
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

JOINING = timedelta(minutes=10)  # for all processes to start
ROLL_CALL = timedelta(seconds=10)  # to say that one is there, when somebody is missed
MISSED = "-"  # what such a process says
BUCKET = 2**24  # numbers summed at a time
GROUPS = itertools.count()  # of this process, one after the other


class ProcessLost(RuntimeError):
    """A process died, left or does not answer; says which, and why if it told."""


@dataclass(frozen=True, eq=False)
class Processes:
    """One of `size` processes. Alone, everything here gives back what it was given.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        store: where a process that leaves says why.
        lockstep: all must make the same network calls, because they share the weights of one network.
    """

    rank: int = 0
    size: int = 1
    store: Any = None
    lockstep: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def share(self, count: int, group_size: int = 1) -> slice:
        """This process's part of so many samples: whole groups, as even as these allow.

        Raises:
            ValueError: a process would have none, or not as many as the others where that matters.
        """
        groups = count // group_size
        grouped = f" in groups of {group_size}" if group_size > 1 else ""
        if groups < self.size:
            raise ValueError(f"{count} samples{grouped} are too few for {self.size} processes")
        if self.lockstep and groups % self.size:
            raise ValueError(f"{count} samples{grouped}: {self.size} processes that share a network need as many each")
        start, stop = (groups * rank // self.size * group_size for rank in (self.rank, self.rank + 1))
        return slice(start, stop)

    def gather(self, part: Tensor, dim: int = 0) -> Tensor:
        """The parts of all processes one after the other; they may differ in length along `dim`, and be empty."""
        if self.size == 1:
            return part
        flat = part.detach().movedim(dim, 0).cpu().contiguous()
        lengths = self.sum(torch.tensor([len(flat) * (rank == self.rank) for rank in range(self.size)])).tolist()
        padded = flat.new_zeros(max(lengths), *flat.shape[1:], dtype=as_bytes(flat.dtype))
        padded[: len(flat)] = flat
        found = [torch.empty_like(padded) for _ in lengths]
        with self.collective_errors():
            distributed.all_gather(found, padded)
        whole = torch.cat([values[:length] for values, length in zip(found, lengths, strict=True)])
        return whole.movedim(0, dim).to(part)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, the same bits on each; a tensor of one process is overwritten with it."""
        if self.size > 1:
            with self.collective_errors():
                distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is true of any process."""
        return bool(self.sum(torch.tensor(int(flag))))

    def missing_passes(self, count: int) -> int:
        """How many more passes another process makes than this one's `count`, where all must make the same."""
        return int(self.gather(torch.tensor([count])).max()) - count if self.lockstep else 0

    def gather_strings(self, text: str) -> list[str]:
        """What each process says."""
        data = text.encode()
        lengths = self.gather(torch.tensor([len(data)])).tolist()
        whole = self.gather(torch.tensor(list(data), dtype=torch.uint8))
        return [bytes(part.tolist()).decode() for part in whole.split(lengths)]

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's values."""
        if self.size > 1:
            with self.collective_errors(), torch.no_grad():
                for tensor in tensors:
                    distributed.broadcast(tensor, 0)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make every gradient the sum over the processes; what has none on any of them keeps none."""
        if self.size == 1:
            return
        known = list(parameters)
        counts = self.sum(torch.tensor([int(parameter.grad is not None) for parameter in known])).tolist()
        used = [parameter for parameter, count in zip(known, counts, strict=True) if count]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
        for bucket in buckets(gradients):
            total = self.sum(torch.cat([gradient.flatten() for gradient in bucket]))
            for gradient, part in zip(bucket, total.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))
        for parameter, gradient in zip(used, gradients, strict=True):
            parameter.grad = gradient

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The first process goes through this before the others."""
        if not self.is_main:
            self.any(False)
        yield
        if self.is_main:
            self.any(False)

    @contextlib.contextmanager
    def collective_errors(self) -> Iterator[None]:
        """What waits for others in here ends when one of them is gone, or when the time limit of the group is over."""
        try:
            yield
        except RuntimeError as error:
            raise ProcessLost(self.missing()) from error

    def missing(self) -> str:
        """Who did not answer. Everybody left tells the others; that needs the connections to be closed first."""
        for number in (signal.SIGTERM, signal.SIGINT):  # a launcher ends the others when one dies; we are on our way
            with contextlib.suppress(ValueError):
                signal.signal(number, signal.SIG_IGN)
        self.leave("")
        with contextlib.suppress(RuntimeError):
            distributed.destroy_process_group()
        others = [rank for rank in range(self.size) if rank != self.rank]
        with contextlib.suppress(RuntimeError):
            self.store.wait([f"left/{rank}" for rank in others], ROLL_CALL)
        try:
            said = {rank: self.message_of(rank) for rank in others}
        except RuntimeError:
            said = {0: "does not answer (nor does the store that it keeps)"}
        lost = [f"process {rank} of {self.size} {reason}" for rank, reason in said.items() if reason]
        return "; ".join(lost) or f"the connection between the {self.size} processes broke"

    def leave(self, reason: str) -> None:
        """Tell the others that this process leaves, and why; without a reason, because it lost one of them."""
        with contextlib.suppress(RuntimeError):
            self.store.set(f"left/{self.rank}", reason or MISSED)

    def message_of(self, rank: int) -> str:
        """What is wrong with a process; nothing, if it only misses another one."""
        if not self.store.check([f"left/{rank}"]):
            return "does not answer"
        said = self.store.get(f"left/{rank}").decode()
        return "" if said == MISSED else f"left: {said}"


ALONE = Processes()


@contextlib.contextmanager
def launched(wait: float) -> Iterator[Processes]:
    """The processes that a launcher started, by the environment variables of torchrun; or this one alone.

    Args:
        wait: seconds that processes wait for one another.

    Raises:
        ProcessLost: another process died, left or did not answer in time.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        yield ALONE
        return
    if distributed.is_initialized():
        raise ValueError("torch.distributed is in use already: molrl connects the launched processes itself")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    limit = timedelta(seconds=wait)
    shared, rank, size = next(rendezvous("env://", timeout=max(limit, JOINING)))
    store = PrefixStore(f"molrl/{next(GROUPS)}", shared)
    processes = Processes(rank, size, store)
    try:
        with processes.collective_errors():
            distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
        yield processes
    except ProcessLost:
        raise
    except BaseException as error:
        if broken(error):
            raise ProcessLost(processes.missing()) from error
        processes.leave(" ".join(str(error).split()) or type(error).__name__)
        raise
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def broken(error: BaseException) -> bool:
    """Whether an error is of a connection between processes: torch tells so by its words alone."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL"))


def place_of_process(device: torch.device) -> torch.device:
    """Of several processes on a machine each takes the GPU of its own."""
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    if device.index is not None:
        raise ValueError(f"device={device}: each process takes a GPU of its own; use device=cuda")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Some at a time, about `BUCKET` numbers."""
    some, numbers = list[Tensor](), 0
    for tensor in tensors:
        some.append(tensor)
        numbers += tensor.numel()
        if numbers >= BUCKET:
            yield some
            some, numbers = [], 0
    if some:
        yield some


def as_bytes(kind: torch.dtype) -> torch.dtype:
    """What truth values travel as."""
    return torch.uint8 if kind == torch.bool else kind
