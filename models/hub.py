"""Models on the Hugging Face Hub: `hub:OWNER/NAME[@REVISION]`, fetched into a cache of our own because it was named.

Only files of tensors, JSON and the card at the top of a repository are fetched, within bounds that are checked before
and after. The cache has one folder for each commit; what is there is never fetched again, and needs no network.
"""

import functools
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from molrl.config import ConfigError
from molrl.data.cache import CACHE
from molrl.runs.checkpoint import MAX_BYTES, MAX_FILES, MAX_JSON_BYTES
from molrl.runs.errors import CheckpointError

HUB = "hub:"
NAME = re.compile(r"hub:([A-Za-z0-9][\w.-]*/[\w.-]+?)(?:@([\w./-]+))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
ALLOWED = re.compile(r"[A-Za-z0-9][\w.-]*\.(safetensors|json)|README\.md", re.ASCII)  # at the top of the repository
MARKERS = ("manifest.json", "adapter.json")  # a repository without one is no model of ours
MAX_TOTAL = 2**35  # bytes of one model
TIMEOUT = 10.0  # seconds for an answer about a repository


class Repository(NamedTuple):
    """A place on the Hub.

    Attributes:
        id: OWNER/NAME.
        revision: a branch, a tag or a commit; None: the main branch.
    """

    id: str
    revision: str | None

    @property
    def pinned(self) -> str:
        """Return the name of exactly these contents, where the revision is a commit."""
        return f"{HUB}{self.id}@{self.revision}" if self.revision else f"{HUB}{self.id}"


def parse(name: str) -> Repository:
    """Return the place that `hub:OWNER/NAME[@REVISION]` names.

    Raises:
        ConfigError: it is no such name.
    """
    if (found := NAME.fullmatch(name)) is None or ".." in name:
        raise ConfigError(f"{name}: expected hub:OWNER/NAME, or hub:OWNER/NAME@REVISION")
    return Repository(found[1], found[2])


def cached(name: str) -> Path | None:
    """Return the folder of a model that was fetched before, by its pinned name; None: it was not."""
    found = NAME.fullmatch(name)
    if found is None or found[2] is None or not COMMIT.fullmatch(found[2]):
        return None
    folder = cache_folder(Repository(found[1], found[2]))
    return folder if folder.is_dir() else None


def cache_folder(repository: Repository) -> Path:
    """Return the folder in the cache for one commit."""
    return CACHE / "hub" / repository.id.replace("/", "--") / str(repository.revision)


@functools.cache
def fetch(name: str) -> str | None:
    """Fetch a model of ours that the user named, unless it is in the cache; return its pinned name.

    Returns:
        `hub:OWNER/NAME@COMMIT`; None: the repository has no model of ours, or the Hub cannot be reached.

    Raises:
        ConfigError: the name is none, or the library of the Hub is not installed.
        CheckpointError: there is no such repository, or its files are too many, too large or not as announced.
    """
    repository = parse(name)
    if cached(name) is not None:
        return name
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = client().model_info(repository.id, revision=repository.revision, files_metadata=True, timeout=TIMEOUT)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise CheckpointError(f"{name}: no such repository or revision, or it is not yours to read") from error
    except Exception:  # whatever the client raises without a network; what was fetched before has a pinned name
        return None
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    if not set(MARKERS) & sizes.keys():
        return None
    commit = Repository(repository.id, str(info.sha))
    if cached(commit.pinned) is None:
        download(commit, choose_files(commit, sizes))
    return commit.pinned


def client() -> Any:
    """Return the library's interface to the Hub.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ConfigError("hub: needs huggingface_hub: pip install 'molrl[hub]'") from None
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


def choose_files(repository: Repository, sizes: Mapping[str, int | None]) -> dict[str, int]:
    """Return the files to fetch with their sizes in bytes; all others stay where they are.

    Raises:
        CheckpointError: they are too many or too large, or the Hub does not say how large.
    """
    wanted = {name: size for name, size in sizes.items() if ALLOWED.fullmatch(name)}
    if len(wanted) > MAX_FILES:
        raise CheckpointError(f"{repository.pinned}: {len(wanted)} files, more than the {MAX_FILES} allowed")
    known = {name: size for name, size in wanted.items() if size is not None}
    if unknown := wanted.keys() - known.keys():
        raise CheckpointError(f"{repository.pinned}: the Hub does not say how large {min(unknown)} is")
    for name, size in known.items():
        limit = MAX_BYTES if name.endswith(".safetensors") else MAX_JSON_BYTES
        if size > limit:
            raise CheckpointError(f"{repository.pinned}: {name} has {size} bytes, more than the {limit} allowed")
    if (total := sum(known.values())) > MAX_TOTAL:
        raise CheckpointError(f"{repository.pinned}: {total} bytes in all, more than the {MAX_TOTAL} allowed")
    return known


def download(repository: Repository, sizes: Mapping[str, int]) -> None:
    """Fetch files into the cache: all of them or, where one is not as announced, none.

    Raises:
        CheckpointError: a file cannot be had, or has another size than the Hub said.
    """
    api, folder = client(), cache_folder(repository)
    staging = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for name, size in sizes.items():
            got = Path(api.hf_hub_download(repository.id, name, revision=repository.revision, local_dir=staging))
            if got.is_symlink() or got.stat().st_size != size:
                raise CheckpointError(f"{repository.pinned}: {name} is not the file of {size} bytes that was announced")
        shutil.rmtree(staging / ".cache", ignore_errors=True)  # the library's own notes
        if not folder.exists():
            staging.rename(folder)
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{repository.pinned}: cannot be fetched ({str(error).splitlines()[0]:.200})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
