"""A device that is not there: tensors with numbers that claim to be on an accelerator, and a mode that computes.

torch's fake tensors (`torch._subclasses.FakeTensorMode`) have a device and no numbers, and where torch has no CUDA they
have no gradient either. These have both, so a whole round of training runs on them: what is on the device is computed
on the CPU, as long as every operand is there. As on a GPU, an operation on tensors of two places raises, unless one is
a single number or an index; as on Apple's GPUs, there is no float64 on the device.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

NAME = "rehearsal"
CPU = torch.device("cpu")
LIBRARY = torch.library.Library("_", "IMPL")
ATEN = torch.ops.aten
MOVES = (ATEN.copy_, ATEN._foreach_copy_)  # take numbers from one place to another
INDEXING = (ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_)  # take indices from the CPU


class MisplacedError(RuntimeError):
    """The error of an operation on tensors of two places, or with a dtype that the device does not have."""


@cache
def register() -> torch.device:
    """Make the device known to torch, once in a process, and return it."""
    setup = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
    if setup is None:
        pytest.skip("this version of torch has no backends in Python")
    module: Any = SimpleNamespace(
        _is_in_bad_fork=lambda: False,
        manual_seed_all=lambda _: None,
        get_amp_supported_dtype=lambda: [torch.bfloat16, torch.float16],
        is_available=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
    )
    setup(NAME, module)
    LIBRARY.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")  # casts nothing
    return torch.device(NAME, 0)


class Placed(Tensor):
    """A tensor on the device, around the tensor on the CPU that has its numbers."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> "Placed":
        layout: dict[str, Any] = {"strides": numbers.stride(), "storage_offset": numbers.storage_offset()}
        made: Placed = Tensor._make_wrapper_subclass(
            cls, numbers.size(), dtype=numbers.dtype, device=register(), **layout
        )
        made.numbers = numbers
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Placed({self.numbers})"

    def tolist(self) -> Any:
        return self.numbers.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return compute(func, args, kwargs or {})


class Rehearsal(TorchDispatchMode):
    """A mode in which tensors can be made on the device and moved there."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # nothing here is compiled, and the wrapper against it costs as much again
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


@contextmanager
def rehearsal() -> Iterator[torch.device]:
    """Rehearse a block on the device, which is returned."""
    device, lifted = register(), torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # numbers become tensors on the CPU, and then go to the device
    try:
        with Rehearsal():  # type: ignore[no-untyped-call]
            yield device
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)


def compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what an operation gives, on the device where its operands are or where it is told to."""
    place = place_of(func, args, kwargs)
    values, named = unwrapped(args), {name: unwrapped(value) for name, value in kwargs.items()}
    if "device" in named:
        named["device"] = CPU
    out = func(*values, **named)
    if place == CPU:
        return out
    if any(leaf.dtype == torch.float64 for leaf in tensors_in(out)):
        raise MisplacedError(f"{func}: float64 on {NAME}, which some accelerators do not have")
    return return_and_correct_aliasing(func, args, kwargs, wrapped(out))


def tensors_in(tree: Any) -> list[Tensor]:
    """Return the tensors among nested arguments."""
    if isinstance(tree, Tensor):
        return [tree]
    return [leaf for branch in tree for leaf in tensors_in(branch)] if isinstance(tree, list | tuple) else []


def unwrapped(tree: Any) -> Any:
    """Return nested arguments with the numbers in place of the tensors on the device."""
    if isinstance(tree, Placed):
        return tree.numbers
    return type(tree)(map(unwrapped, tree)) if type(tree) in (list, tuple) else tree


def wrapped(tree: Any) -> Any:
    """Return nested results with their tensors on the device."""
    if isinstance(tree, Tensor):
        return Placed(tree)
    return type(tree)(map(wrapped, tree)) if type(tree) in (list, tuple) else tree


def place_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.device:
    """Return where the result of an operation is.

    Raises:
        MisplacedError: its operands are in two places.
    """
    if kwargs.get("device") is not None:
        return torch.device(NAME, 0) if torch.device(kwargs["device"]).type == NAME else CPU
    everything = [*tensors_in(args), *tensors_in(tuple(kwargs.values()))]
    if not any(isinstance(tensor, Placed) for tensor in everything):
        return CPU
    if func.overloadpacket in MOVES:
        return everything[0].device
    operands = tensors_in(args[0]) if func.overloadpacket in INDEXING else everything
    for tensor in operands:
        if tensor.dim() and not isinstance(tensor, Placed):
            raise MisplacedError(f"{func}: tensors on {NAME} and on the CPU, there one of shape {tuple(tensor.shape)}")
    if not any(isinstance(tensor, Placed) for tensor in operands):
        raise MisplacedError(f"{func}: an index on {NAME} into a tensor on the CPU")
    return torch.device(NAME, 0)
