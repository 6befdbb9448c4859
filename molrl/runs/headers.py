"""Headers of safetensors files: what a file says that it holds, checked before a network is built or a tensor is read.

A header is the length of a JSON text as eight bytes and that text, which gives dtype, shape and place of each tensor.
"""

import contextlib
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from molrl.runs.errors import CheckpointError

MAX_HEADER_BYTES = 2**24
MAX_TENSORS = 100_000  # of a file
SLACK = 2  # a module may register a parameter and replace it
MAX_NAMES = 6  # tensors of each kind that an error lists
DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    "BOOL": torch.bool,
}


class TensorLike(Protocol):
    """Anything with the shape and the dtype of a tensor."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...


class Description(NamedTuple):
    """The shape and the dtype of a tensor in a file."""

    shape: tuple[int, ...]
    dtype: torch.dtype


Header: TypeAlias = Mapping[str, Description]
"""The tensors of a file by name."""


def read_header(file: IO[bytes], path: Path) -> Header:
    """Return what a safetensors file says that it holds.

    Raises:
        CheckpointError: it is no such file, of another size than its tensors need, or holds too many of them.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 0 < length <= min(MAX_HEADER_BYTES, size - 8):
        raise CheckpointError(f"{path}: not a safetensors file (a header of {length} bytes, {size} bytes in all)")
    try:
        table = dict(json.loads(file.read(length)))
        table.pop("__metadata__", None)
        if len(table) > MAX_TENSORS:
            raise ValueError(f"{len(table)} tensors, more than the {MAX_TENSORS} allowed")
        header = {name: described(entry) for name, entry in table.items()}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error!s:.200})") from None
    needed = sum(math.prod(entry.shape) * entry.dtype.itemsize for entry in header.values())
    if needed != size - 8 - length:
        raise CheckpointError(f"{path}: damaged, its tensors take {needed} bytes and it has {size - 8 - length}")
    return header


def described(entry: Mapping[str, Any]) -> Description:
    """Return an entry of a header; raises ValueError for a dtype or a shape that molrl never writes."""
    kind, shape = entry["dtype"], entry["shape"]
    if kind not in DTYPES:
        raise ValueError(f"dtype {kind!r:.40}, allowed are {', '.join(DTYPES)}")
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 2**40 for side in shape):
        raise ValueError(f"shape {shape!r:.80}")
    return Description(tuple(shape), DTYPES[kind])


def check_header(expected: Mapping[str, Tensor], got: Mapping[str, TensorLike], owner: str) -> None:
    """Raise one CheckpointError that names the missing, unexpected, misshaped and wrongly typed tensors.

    A floating-point tensor may have any floating-point dtype, because it is cast; any other has its own.
    """
    missing, unexpected = sorted(expected.keys() - got.keys()), sorted(got.keys() - expected.keys())
    shared = sorted(expected.keys() & got.keys())
    misshaped = [
        f"{name} is {tuple(got[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in shared
        if tuple(got[name].shape) != tuple(expected[name].shape)
    ]
    mistyped = [
        f"{name} is {got[name].dtype} instead of {expected[name].dtype}"
        for name in shared
        if got[name].dtype != expected[name].dtype
        and not (got[name].dtype.is_floating_point and expected[name].dtype.is_floating_point)
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "misshaped": misshaped}
    if mistyped:
        kinds["of another dtype"] = mistyped
    if any(kinds.values()):
        text = ", ".join(f"{kind} {first_names(names)}" for kind, names in kinds.items())
        raise CheckpointError(f"weights do not fit {owner}: {text}")


def first_names(names: list[str]) -> str:
    """Return a list of names as text, shortened to the first few."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{names[:MAX_NAMES]}{more}"


@contextlib.contextmanager
def no_larger_than(header: Mapping[str, TensorLike], owner: str) -> Iterator[None]:
    """Stop the building of a network within the block as soon as it has more tensors or numbers than a file holds.

    A description of a few bytes can ask for a network of any size; its weights cannot lie.

    Args:
        header: what the file of its weights holds.
        owner: the model, for the message.

    Raises:
        CheckpointError: the network that is being built is larger.
    """
    numbers = sum(math.prod(entry.shape) for entry in header.values())
    built = [0, 0]

    def count(_module: nn.Module, name: str, tensor: Tensor | None) -> None:
        if tensor is None:
            return
        built[0] += 1
        built[1] += tensor.numel()
        if built[0] > SLACK * len(header) or built[1] > SLACK * numbers:
            raise CheckpointError(
                f"{owner}: its description asks for a network of more than the {len(header)} tensors and {numbers} "
                f"numbers of its weights ({name} is {tuple(tensor.shape)})"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
