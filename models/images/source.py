"""Where a text-to-image pipeline comes from: a name, a folder, a single file or a Hub id, and the LoRAs on it."""

import json
import os
import re
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

from molrl.machine.files import read_bounded
from molrl.models.description import check_format
from molrl.models.images.diffusers_library import diffusers
from molrl.models.images.foreign_folder import MAX_CONFIG_BYTES, SAFETENSORS, offline
from molrl.models.images.lora import LORA, Adapter
from molrl.models.images.single_file import is_single_file
from molrl.models.shipped import SHIPPED, find_model, shipped_names
from molrl.override import as_value, shell_line
from molrl.runs.errors import CheckpointError

INDEX, ADAPTER = "model_index.json", "adapter.json"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
HUB = "hub:"  # before a Hub id on the command line
MAX_ADAPTERS = 8  # on top of each other
TEXTS = ("*.json", "*.txt", "*.model")  # a pipeline without its weights


@dataclass(frozen=True)
class Source:
    """The origin of a pipeline, enough to find it again.

    Attributes:
        base: the name of a shipped one, a folder, a single file, or a Hub id; never one with an adapter.
        revision: revision of a Hub id; None: its main branch.
        variant: of the base's files, such as fp16; None: those without one.
        config: of a single file, what has its configurations and tokenizers: a shipped name, a folder or a Hub id.
        adapter: what LoRAs have changed of the base since; it is merged into the weights.
        fetched: a Hub id may be fetched, because the user named it and no file did.
    """

    base: str
    revision: str | None = None
    variant: str | None = None
    config: str | None = None
    adapter: Adapter = field(default_factory=dict, compare=False, repr=False)
    fetched: bool = field(default=True, compare=False, repr=False)


def is_image_model(weights: str) -> bool:
    """Return whether a name, a folder or a Hub id is one that `load_pipeline` reads."""
    folder = resolve_folder(weights)
    if folder.exists():
        return any((folder / name).is_file() for name in (INDEX, ADAPTER))
    return HUB_ID.fullmatch(weights) is not None


def resolve_folder(weights: str) -> Path:
    """Return the folder of a model that `find_model` knows, or the path itself."""
    return find_model(weights) or Path(weights)


def find_base(source: Source) -> tuple[Source, list[Path]]:
    """Return the base that a pipeline's description leads to, and the LoRAs on it in order."""
    files: list[Path] = []
    while os.path.lexists((folder := resolve_folder(source.base)) / ADAPTER):
        if folder.resolve() / LORA in files or len(files) == MAX_ADAPTERS:
            raise CheckpointError(
                f"{folder / ADAPTER}: names itself as its base, or has more than {MAX_ADAPTERS} bases"
            )
        files.insert(0, folder.resolve() / LORA)
        described = read_adapter_description(folder)
        for name in ("revision", "variant"):
            if getattr(source, name) not in (None, getattr(described, name)):
                got, known = getattr(source, name), getattr(described, name)
                raise CheckpointError(
                    f"{source.base}: {name} {got}, but its adapter is for the {name} {known} of a base"
                )
        source = described
    weights, local = source.base, folder.is_dir()
    if (folder / LORA).is_file() and not (folder / INDEX).is_file():
        lora = shell_line([f"policy.lora={as_value(weights)}"])
        raise CheckpointError(f"{weights}: a LoRA without its base; name both: policy=BASE {lora}")
    if is_single_file(weights):
        source = replace(source, base=str(Path(weights).expanduser().resolve()), config=find_config(source))
        return replace(source, fetched=not files), files
    if not local and (Path(weights).exists() or weights.endswith(SAFETENSORS) or not HUB_ID.fullmatch(weights)):
        shipped = shipped_names(marker=INDEX)
        raise CheckpointError(
            f"{weights}: no such pipeline; shipped are {shipped}, or name a folder in diffusers' format, or a "
            "Hugging Face Hub id such as owner/name"
        )
    if files and not local:
        source = replace(source, fetched=False)
    return replace(source, base=lasting_name(weights), config=None), files


def find_config(source: Source) -> str:
    """Return the lasting name of the configurations of a single file.

    Raises:
        CheckpointError: none are named, or the source has what only a folder has.
    """
    if source.config is None:
        raise CheckpointError(
            f"{source.base}: a single file has neither configurations nor tokenizers; policy.config names a pipeline "
            f"of the same kind that has: a folder, or {HUB}OWNER/NAME"
        )
    if source.variant is not None:
        raise CheckpointError(f"{source.base}: a single file has no variant {source.variant}")
    config = source.config.removeprefix(HUB)
    if not resolve_folder(config).is_dir() and not HUB_ID.fullmatch(config):
        raise CheckpointError(f"policy.config={source.config}: no such pipeline; name a folder, or {HUB}OWNER/NAME")
    return lasting_name(config)


def lasting_name(weights: str) -> str:
    """Return a name that stands for the same model elsewhere: the full path of a folder, and any other as it is."""
    folder = resolve_folder(weights)
    return str(folder.resolve()) if folder.is_dir() and not folder.is_relative_to(SHIPPED) else weights


def read_adapter_description(folder: Path) -> Source:
    """Return the base that a run's adapter belongs to."""
    try:
        description = json.loads(read_bounded(folder / ADAPTER, MAX_CONFIG_BYTES))
        check_format(folder, description)
        named = [description["base"], description["revision"], *map(description.get, ("variant", "config"))]
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / ADAPTER}: does not say whose adapter it is ({error!r})") from error
    if not isinstance(named[0], str) or not all(isinstance(name, str | None) for name in named):
        raise CheckpointError(
            f"{folder / ADAPTER}: does not say whose adapter it is (base, revision, variant, config: {named})"
        )
    return Source(*named)


def fetch(source: Source) -> Path:
    """Return the folder of a Hub id in the cache of the Hub's library, fetched where the user named it.

    Of a pipeline that a single file has its configurations from, the weights are not fetched.

    Raises:
        CheckpointError: it cannot be had.
    """
    name, options = source.config or source.base, {"revision": source.revision, "local_files_only": not source.fetched}
    try:
        with nullcontext() if source.fetched else offline():
            if source.config is not None:
                return Path(import_module("huggingface_hub").snapshot_download(name, allow_patterns=TEXTS, **options))
            options |= {"variant": source.variant, "use_safetensors": True}
            return Path(diffusers().DiffusionPipeline.download(name, **options))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = first_line(error)
        if not source.fetched:
            reason = f"an adapter names it, and what a file names is not fetched; name it once: policy={HUB}{name}"
        raise CheckpointError(f"{name}: cannot be had from the Hugging Face Hub ({reason})") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().partition("\n")[0]
