"""Caches on disk: where they live, and arrays that are written completely or not at all."""

import hashlib
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molrl.data.files import reason_of
from molrl.machine.files import staged

CACHE = Path(
    os.environ.get("MOLRL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "molrl"
)


def digest(*parts: bytes | str) -> str:
    """Return a short hash of some content, which names its place in a cache."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()[:32]


def save_arrays(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Write an npz file completely or not at all; warn if the folder cannot be written to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged(path) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    except OSError as error:
        warnings.warn(f"{path}: not cached: {reason_of(error)}", stacklevel=2)


def load_arrays(path: Path) -> dict[str, NDArray[np.generic]] | None:
    """Read an npz file that `save_arrays` wrote; return None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None  # RuntimeError: flags that say encrypted, or an unknown compression


def pack_texts(texts: Iterable[str]) -> NDArray[np.uint8]:
    """Pack texts into one array of UTF-8 bytes, each ended by a line feed; line feeds inside become spaces."""
    joined = "".join(text.replace("\n", " ") + "\n" for text in texts)
    return np.frombuffer(joined.encode("utf-8", errors="replace"), dtype=np.uint8)


def unpack_texts(array: NDArray[np.generic]) -> list[str]:
    """Return the texts that `pack_texts` packed, in order."""
    return array.tobytes().decode("utf-8").split("\n")[:-1]
