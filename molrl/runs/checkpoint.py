"""Files that survive a crash: tensors as safetensors, the rest as JSON, each with its SHA-256 in a manifest.

A model or a checkpoint is a folder. It is written under a temporary name, flushed to the disk and renamed, so that a
reader finds a complete one or none; the manifest is written last and checked first. `molrl.runs.checkpoints` keeps a
series.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from molrl.machine import files
from molrl.machine.files import naming
from molrl.runs.errors import CheckpointError
from molrl.runs.headers import Header, check_header, first_names, read_header

FORMAT = 1
MANIFEST = "manifest.json"
MAX_BYTES = 2**34  # of a file of tensors
MAX_JSON_BYTES = 2**22  # of any other; a value of it takes up to 30 times as much memory
MAX_MANIFEST_BYTES = 2**20
MAX_FILES = 64


def save(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]) -> None:
    """Write `tensors[name]` to name.safetensors and `values[name]` to name.json; the folder replaces any old one."""
    replace_folder(folder, contents(tensors, values))


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder with these files in place of any old one; a reader finds the old one, the new one or none.

    Only one process at a time may write a folder. Folders that a killed process left beside it are removed.
    """
    staging = folder.with_name(f".{folder.name}.staging-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    write(staging, files)
    if folder.exists():
        folder.rename(folder.with_name(f".{folder.name}.retired-{os.getpid()}"))
    staging.rename(folder)
    sync_folder(folder.parent)
    for leftover in (
        path for kind in ("staging", "retired") for path in folder.parent.glob(f".{folder.name}.{kind}-*")
    ):
        shutil.rmtree(leftover, ignore_errors=True)


def contents(tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the bytes of every file by its name, the manifest last."""
    files = {f"{name}.safetensors": save_tensors(detach_tensors(group)) for name, group in tensors.items()}
    files |= {f"{name}.json": (json.dumps(value, indent=1) + "\n").encode() for name, value in values.items()}
    manifest = {"format": FORMAT, "files": {name: sha256(data) for name, data in files.items()}}
    return {**files, MANIFEST: (json.dumps(manifest, indent=1) + "\n").encode()}


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make a new folder with these files and wait until all of it is on the disk."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        write_synced(folder / name, data)
    sync_folder(folder)


def inspect(folder: Path) -> tuple[dict[str, Header], dict[str, Any]]:
    """Read the values that `save` wrote, and the headers of its tensors but no tensor: enough to refuse a wrong model.

    Raises:
        CheckpointError: the message names the folder, the file and its defect.
    """
    headers: dict[str, Header] = {}
    values: dict[str, Any] = {}
    for name, expected in read_manifest(folder).items():
        stem, _, kind = name.rpartition(".")
        if kind == "safetensors":
            with open_file(folder, name) as file:
                headers[stem] = read_header(file, folder / name)
            continue
        data = read_verified(folder, name, expected, MAX_JSON_BYTES)
        try:
            values[stem] = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{folder / name}: not a {kind} file ({error})") from error
    return headers, values


def load(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read tensors and values that `save` wrote, after checking every file against the manifest.

    Raises:
        CheckpointError: the message names the folder, the file and its defect.
    """
    headers, values = inspect(folder)
    return {name: load_group(folder, name) for name in headers}, values


def load_group(folder: Path, name: str) -> dict[str, Tensor]:
    """Read the tensors of one file, `name`.safetensors, after checking it against the manifest."""
    file = f"{name}.safetensors"
    if (expected := read_manifest(folder).get(file)) is None:
        raise CheckpointError(f"{folder / MANIFEST}: names no {file}")
    data = read_verified(folder, file, expected, MAX_BYTES)
    try:
        with naming(folder / file):
            tensors: dict[str, Tensor] = load_tensors(data)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / file}: not a safetensors file ({error})") from error
    return tensors


def read_verified(folder: Path, name: str, expected: str, max_bytes: int) -> bytes:
    """Return the bytes of a file whose SHA-256 is the expected one."""
    data = read_bounded(folder, name, max_bytes)
    if sha256(data) != expected:
        raise CheckpointError(
            f"{folder / name}: SHA-256 differs from the manifest's: the file was altered or cut short"
        )
    return data


def read_manifest(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that the manifest names."""
    try:
        manifest = json.loads(read_bounded(folder, MANIFEST, MAX_MANIFEST_BYTES))
        files = dict[str, str](manifest["files"])
        version = manifest["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder / MANIFEST}: not a manifest ({error!r})") from error
    if version != FORMAT:
        raise CheckpointError(f"{folder}: format {version!r}, this version reads format {FORMAT}")
    if len(files) > MAX_FILES:
        raise CheckpointError(f"{folder / MANIFEST}: names {len(files)} files, more than the {MAX_FILES} allowed")
    for name in files:
        if Path(name).name != name or not name.endswith((".safetensors", ".json")):
            raise CheckpointError(f"{folder / MANIFEST}: refuses to read {name!r}")
    return files


def read_bounded(folder: Path, name: str, max_bytes: int) -> bytes:
    """Return the bytes of one file of a checkpoint; raises CheckpointError where it is missing or too large."""
    with as_checkpoint_files(folder, name):
        return files.read_bounded(folder / name, max_bytes)


def open_file(folder: Path, name: str) -> IO[bytes]:
    """Open one file of a checkpoint; raises CheckpointError where it is missing or no regular file."""
    with as_checkpoint_files(folder, name):
        return files.open_regular(folder / name)


@contextlib.contextmanager
def as_checkpoint_files(folder: Path, name: str) -> Iterator[None]:
    """Raise CheckpointError within the block for a file that is missing, too large or no regular file."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{folder}: no checkpoint here, {name} is missing") from None
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def load_weights(module: nn.Module, state: Mapping[str, Tensor], owner: str) -> None:
    """Put weights into a module; raises CheckpointError where they do not fit or are not finite in its dtypes."""
    check_fits(module.state_dict(), state, owner)
    module.load_state_dict(state)


def check_fits(expected: Mapping[str, Tensor], got: Mapping[str, Tensor], owner: str) -> None:
    """Raise one CheckpointError that names every missing, unexpected, misshaped and wrongly typed tensor.

    Numbers must be finite after the cast to the expected dtype: 1e300 is infinite in float32.
    """
    check_header(expected, got, owner)
    broken = [
        name
        for name, tensor in expected.items()
        if tensor.is_floating_point() and not got[name].to(tensor.dtype).isfinite().all()
    ]
    if broken:
        raise CheckpointError(f"weights for {owner} hold NaN or infinity: {first_names(broken)}")


def detach_tensors(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous copies on the CPU that share no memory."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in group.items()}


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file, in place of any old one, and wait until it is on the disk."""
    with naming(path):
        path.unlink(missing_ok=True)
    with naming(path), path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the renames within a folder are on the disk; Windows opens no folders and has no such call."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """Return the moments of an optimizer by parameter name instead of by position."""
    return {
        f"{names[parameter]}/{key}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], saved: Mapping[str, Tensor]) -> None:
    """Put the tensors of `optimizer_tensors` back into an optimizer; raises CheckpointError for an unknown name."""
    by_name = {name: parameter for parameter, name in names.items()}
    for entry, value in saved.items():
        name, _, key = entry.rpartition("/")
        if name not in by_name:
            raise CheckpointError(f"optimizer state of {name!r}: no such parameter")
        if value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(f"optimizer state of {name!r}: {key} holds NaN or infinity")
        parameter = by_name[name]
        optimizer.state[parameter][key] = value.clone() if key == "step" else value.to(parameter).clone()
