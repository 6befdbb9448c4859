"""Folders in the format of diffusers or transformers: what such a folder may ask for, checked before they read it.

Those libraries do as a configuration says: it may name kernels and quantisation that are fetched from the Hub, code
that comes with the model, or sizes that no memory holds. Pipelines and networks of CLIP need none of it.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from molrl.machine.files import check_regular, open_regular, read_bounded
from molrl.runs.errors import CheckpointError
from molrl.runs.headers import Header, no_larger_than, read_header

MAX_ENTRIES = 1000  # files and folders
MAX_CONFIG_BYTES, MAX_TEXT_BYTES, MAX_WEIGHT_BYTES = 2**20, 2**26, 2**36
MAX_NUMBER = 2**20  # of a configuration; vocabularies have 49,408 entries
MAX_NUMBERS = {
    **{"num_train_timesteps": 100_000, "sample_size": 2**10, "image_size": 2**12, "rope_theta": 1e10},
    "lambda_min_clipped": math.inf,  # minus infinity is how diffusers writes that nothing is clipped
    "model_max_length": math.inf,  # 1e30 is how transformers writes that there is no limit; `check_parts` has one
}
CODE_WORDS = ("auto_map", "kernel", "quant", "custom", "attn_implementation", "experts_implementation", "remote_code")
HARMLESS = {  # sizes of convolutions, and a note that the library itself has chosen an implementation
    *("conv_in_kernel", "conv_out_kernel", "kernel_size", "use_quant_conv", "use_post_quant_conv"),
    "_attn_implementation_autoset",
}
REFUSED_FILES = {"adapter_config.json": "an adapter of PEFT, which names another model"}
SAFETENSORS = ".safetensors"


@contextlib.contextmanager
def checked_folder(folder: Path, weights: Header | None = None) -> Iterator[None]:
    """Check a folder, and let the libraries read it within the block: offline, and nothing larger than its weights.

    Args:
        folder: a model or a pipeline.
        weights: what a file beside the folder holds of its weights; None: there is none.

    Raises:
        CheckpointError: the folder holds or asks for what a model does not need; the message names the file.
    """
    header = {f"{path}:{name}": entry for path in files_of(folder) for name, entry in check_file(path, folder).items()}
    with offline(), no_larger_than({**header, **(weights or {})}, str(folder)):
        yield


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Have the Hub's library refuse every request within the block."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder and its folders.

    A link must lead to a file within the folder, or among the blobs of the Hub's cache that a snapshot belongs to.

    Raises:
        CheckpointError: there is something else, or more than a model needs.
    """
    parts = folder.resolve().parts
    cached = len(parts) > 2 and parts[-2] == "snapshots"  # of the Hub's cache: models--OWNER--NAME/snapshots/REVISION
    root = folder.resolve().parents[1] / "blobs" if cached else folder.resolve()
    found, waiting = list[Path](), [folder]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            path = Path(entry.path)
            if len(found) + len(waiting) > MAX_ENTRIES:
                raise CheckpointError(f"{folder}: more than {MAX_ENTRIES} files")
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
                continue
            if entry.is_symlink() and not path.resolve().is_relative_to(root):
                raise CheckpointError(f"{path}: a link that leaves the folder of the model")
            try:
                check_regular(path, path.stat())
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{path}: {error}") from None
            found.append(path)
    return sorted(found)


def check_file(path: Path, folder: Path) -> Header:
    """Check one file, and return the header of its tensors, if it has any.

    Raises:
        CheckpointError: it is too large, damaged, or asks for what a model does not need.
    """
    if path.name in REFUSED_FILES:
        raise CheckpointError(f"{path}: {REFUSED_FILES[path.name]}")
    if path.suffix == SAFETENSORS:
        if path.stat().st_size > MAX_WEIGHT_BYTES:
            raise CheckpointError(f"{path}: more than {MAX_WEIGHT_BYTES} bytes")
        with open_regular(path, follow=True) as file:
            return read_header(file, path)
    if path.name.endswith((".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".onnx", ".pb")):
        return {}  # other formats of the same weights, which nothing reads
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise CheckpointError(f"{path}: more than {MAX_TEXT_BYTES} bytes")
    if path.name.endswith(".index.json"):
        check_shards(path, read_config(path, MAX_TEXT_BYTES))
    elif path.suffix == ".json" and ("config" in path.name or path.parent == folder):
        limit = MAX_TEXT_BYTES if path.name in ("tokenizer.json", "vocab.json") else MAX_CONFIG_BYTES
        config = read_config(path, limit)
        if limit == MAX_CONFIG_BYTES:
            check_config(path, config)
    return {}


def read_config(path: Path, max_bytes: int) -> Any:
    """Return the value of a JSON file; raises CheckpointError where it is too large or none."""
    try:
        return json.loads(read_bounded(path, max_bytes, follow=True))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent}: not a complete pipeline in diffusers' format, no {path.name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a JSON file ({error!s:.200})") from None


def check_shards(path: Path, index: Any) -> None:
    """Raise CheckpointError where the index of weights in parts names a file outside its own folder."""
    names = index.get("weight_map") if isinstance(index, Mapping) else None
    if not isinstance(names, Mapping) or not all(
        isinstance(name, str) and Path(name).name == name and name.endswith(SAFETENSORS) for name in names.values()
    ):
        raise CheckpointError(f"{path}: its weight_map must name {SAFETENSORS} files beside it")


def check_config(path: Path, config: Any, where: str = "") -> None:
    """Raise CheckpointError where a configuration names kernels, quantisation or code, or a number is out of bounds."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            place = f"{where}.{key}" if where else str(key)
            named = any(word in str(key).lower() for word in CODE_WORDS) and key not in HARMLESS
            if named and value not in (None, False, "eager", "sdpa"):
                raise CheckpointError(
                    f"{path}: {place}={value!r:.60} names kernels, quantisation or code, and none is taken from a file"
                )
            check_config(path, value, place)
    elif isinstance(config, list):
        for value in config:
            check_config(path, value, where)
    elif isinstance(config, int | float) and not abs(config) <= bound(where):
        raise CheckpointError(f"{path}: {where}={config!s:.40}, more than the {bound(where):g} allowed")


def bound(where: str) -> float:
    """Return the largest number allowed at a place of a configuration."""
    return MAX_NUMBERS.get(where.rpartition(".")[2], MAX_NUMBER)
