"""Reading and writing of Stable Diffusion pipelines in diffusers' own format.

Local folders never touch the network; a Hugging Face Hub id is fetched because it was named. Weights are read from
safetensors alone, and no code that comes with a model is run.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from molrl.machine.files import read_bounded, replace_file
from molrl.models.description import check_format, with_header
from molrl.models.images.diffusers_library import diffusers, require_extra
from molrl.models.images.foreign_folder import MAX_CONFIG_BYTES, checked_folder, read_config
from molrl.models.images.guided_unet import AdaptedUNet, GuidedUNet, Prompts
from molrl.models.shipped import SHIPPED, find_model, shipped_names
from molrl.runs.errors import CheckpointError
from molrl.runs.headers import first_names

DOMAIN = "images"
INDEX, ADAPTER = "model_index.json", "adapter.json"
LORA = "pytorch_lora_weights.safetensors"
PIPELINE_CLASSES = {"StableDiffusionPipeline": "Stable Diffusion 1.x and 2.x", "StableDiffusionXLPipeline": "SDXL"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
DTYPE_BY_NAME = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROMPT_BATCH = 64  # prompts that are embedded at a time
PART_CLASSES = {
    "scheduler": r"diffusers\.\w+Scheduler",
    "text_encoder": r"transformers\.CLIPTextModel",
    "text_encoder_2": r"transformers\.CLIPTextModelWithProjection",
    "tokenizer": r"transformers\.CLIPTokenizer(Fast)?",
    "tokenizer_2": r"transformers\.CLIPTokenizer(Fast)?",
    "unet": r"diffusers\.UNet2DConditionModel",
    "vae": r"diffusers\.AutoencoderKL",
}
HUB = "hub:"  # before a Hub id on the command line
MAX_ADAPTERS = 8  # on top of each other
NO_IMAGE_INPUT: dict[str, Any] = {"feature_extractor": None, "image_encoder": None}
NO_SAFETY_CHECKER: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False}


@dataclass(frozen=True)
class Source:
    """The origin of a pipeline, enough to find it again.

    Attributes:
        base: the name of a shipped one, a folder, or a Hub id.
        revision: revision of a Hub id; None: its main branch.
    """

    base: str
    revision: str | None = None


def is_image_model(weights: str) -> bool:
    """Return whether a name, a folder or a Hub id is one that `load_pipeline` reads."""
    folder = resolve_folder(weights)
    if folder.exists():
        return any((folder / name).is_file() for name in (INDEX, ADAPTER))
    return HUB_ID.fullmatch(weights) is not None


def resolve_folder(weights: str) -> Path:
    """Return the folder of a model that `find_model` knows, or the path itself."""
    return find_model(weights) or Path(weights)


def load_pipeline(
    weights: str, revision: str | None, dtype: torch.dtype, *, adapters: Sequence[Path] = ()
) -> tuple[Any, Source]:
    """Read a Stable Diffusion pipeline: a shipped one by name, a folder, a Hub id, or a run's model with its adapter.

    The adapter is merged into the weights. The UNet and the text encoders have the dtype, the autoencoder is float32.

    Args:
        weights: the name, folder or id.
        revision: of a Hub id.
        dtype: of the UNet and the text encoders.
        adapters: the folders whose adapters name this as their base. What a file names is never fetched: a Hub id is
            then looked up among what was fetched before.

    Raises:
        CheckpointError: it is missing, damaged, cannot be fetched, or is of a class that is not supported.
        ImportError: the extra is not installed.
    """
    require_extra()
    folder = resolve_folder(weights)
    if os.path.lexists(folder / ADAPTER):
        return load_adapted(folder, dtype, adapters)
    local = folder.is_dir()
    if not local and (Path(weights).exists() or not HUB_ID.fullmatch(weights)):
        shipped = shipped_names(marker=INDEX)
        raise CheckpointError(
            f"{weights}: no such pipeline; shipped are {shipped}, or name a folder in diffusers' format, or a "
            "Hugging Face Hub id such as owner/name"
        )
    place = folder if local else fetch(weights, revision, local_files_only=bool(adapters))
    return read_pipeline(place, dtype), Source(
        str(folder.resolve()) if local and not folder.is_relative_to(SHIPPED) else weights, revision
    )


def fetch(name: str, revision: str | None, *, local_files_only: bool) -> Path:
    """Return the folder of a Hub id in the cache of the Hub's library, fetched where that is allowed.

    Raises:
        CheckpointError: it cannot be had.
    """
    try:
        download = diffusers().DiffusionPipeline.download
        return Path(download(name, revision=revision, local_files_only=local_files_only, use_safetensors=True))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        remedy = f"; a file names it, so it is not fetched: name it yourself once, policy={HUB}{name}"
        raise CheckpointError(
            f"{name}: cannot be had from the Hugging Face Hub ({first_line(error)}){remedy if local_files_only else ''}"
        ) from error


def read_pipeline(folder: Path, dtype: torch.dtype) -> Any:
    """Return the pipeline of a folder; raises one CheckpointError for everything that may be wrong."""
    library = diffusers()
    try:
        with checked_folder(folder):
            kind = pipeline_class(folder)
            extra = {"add_watermarker": False} if kind == "StableDiffusionXLPipeline" else NO_SAFETY_CHECKER
            pipeline = getattr(library, kind).from_pretrained(
                str(folder), local_files_only=True, **NO_IMAGE_INPUT, **extra, dtype=dtype, use_safetensors=True
            )
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, RecursionError) as error:
        problem = "not a complete pipeline in diffusers' format"
        raise CheckpointError(f"{folder}: {problem} ({first_line(error)})") from error
    if pipeline.text_encoder is None or getattr(pipeline.vae.config, "latents_mean", None) is not None:
        raise CheckpointError(f"{folder}: a refiner, or latents on a scale of their own, which are not supported")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.float()
    for part in (pipeline.unet, pipeline.vae, *encoders(pipeline)):
        part.requires_grad_(False).eval()
        if broken := [name for name, value in part.state_dict().items() if not value.isfinite().all()]:
            raise CheckpointError(f"{folder}: weights hold NaN or infinity as {part.dtype}: {first_names(broken)}")
    return pipeline


def pipeline_class(folder: Path) -> str:
    """Return the class that the index of a pipeline names.

    Raises:
        CheckpointError: the class, or one of the pipeline's parts, is of none that is supported.
    """
    index = read_config(folder / INDEX, MAX_CONFIG_BYTES)
    kind = index.get("_class_name") if isinstance(index, Mapping) else None
    if not isinstance(kind, str) or kind not in PIPELINE_CLASSES:
        supported = ", ".join(f"{name} ({models})" for name, models in PIPELINE_CLASSES.items())
        raise CheckpointError(f"{folder}: a {kind!s:.60}, supported are {supported}")
    for name, classes in PART_CLASSES.items():
        origin, part = tuple(index[name]) if isinstance(index.get(name), list) else (None, None)
        if origin is not None and not re.fullmatch(classes, f"{origin}.{part}"):
            raise CheckpointError(f"{folder / INDEX}: {name} is {origin}.{part}, expected {classes}")
    return kind


def encoders(pipeline: Any) -> list[Any]:
    """Return the text encoders: one, or SDXL's two."""
    return [part for name in ("text_encoder", "text_encoder_2") if (part := getattr(pipeline, name, None)) is not None]


def load_adapted(folder: Path, dtype: torch.dtype, adapters: Sequence[Path]) -> tuple[Any, Source]:
    """Return the model that a run left: its base, with the adapter merged into it.

    Args:
        folder: of the adapter.
        dtype: of the UNet and the text encoders.
        adapters: the folders of those whose base this is.
    """
    chain = [*adapters, folder.resolve()]
    if folder.resolve() in adapters or len(chain) > MAX_ADAPTERS:
        raise CheckpointError(f"{folder / ADAPTER}: its base is itself, or one of more than {MAX_ADAPTERS} adapters")
    try:
        description = json.loads(read_bounded(folder / ADAPTER, MAX_CONFIG_BYTES))
        check_format(folder, description)
        base, revision = str(description["base"]), description["revision"]
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / ADAPTER}: does not say whose adapter it is ({error!r})") from error
    pipeline, _ = load_pipeline(base, revision, torch.float32, adapters=chain)
    try:
        with checked_folder(folder):
            pipeline.load_lora_weights(str(folder), weight_name=LORA, local_files_only=True, use_safetensors=True)
            pipeline.fuse_lora()
            pipeline.unload_lora_weights()
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: its adapter does not fit {base} ({first_line(error)})") from error
    pipeline.unet.to(dtype)
    if broken := [name for name, value in pipeline.unet.state_dict().items() if not value.isfinite().all()]:
        raise CheckpointError(f"{folder}: the merged weights hold NaN or infinity: {first_names(broken)}")
    pipeline.unet.requires_grad_(False).eval()
    return pipeline, Source(str(folder.resolve()))


@torch.no_grad()
def embed_prompts(pipeline: Any, texts: Sequence[str], device: torch.device) -> Prompts:
    """Return the embeddings of every prompt and of the empty one, float32 on the device.

    Raises:
        ValueError: there are no prompts, or one is longer than a text encoder reads.
    """
    if not texts:
        raise ValueError("prompts: got none, need at least one")
    tokenizers = [getattr(pipeline, name, None) for name in ("tokenizer", "tokenizer_2")]
    for tokenizer in (tokenizer for tokenizer in tokenizers if tokenizer is not None):
        for text in texts:
            if (tokens := len(tokenizer(text).input_ids)) > (limit := int(tokenizer.model_max_length)):
                raise ValueError(f"prompt {text!r}: {tokens} tokens with its two ends, this text encoder reads {limit}")
    for encoder in encoders(pipeline):
        encoder.to(device)
    options = {"device": device, "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    batches = [list(texts[start : start + PROMPT_BATCH]) for start in range(0, len(texts), PROMPT_BATCH)]
    encoded = [[part.float() for part in pipeline.encode_prompt(batch, **options)] for batch in batches]
    embeddings = [torch.cat(rows) for rows in zip(*encoded, strict=True)][::2]
    nulls = [null[0] for null in encoded[0][1::2]]
    if len(embeddings) == 1:
        return Prompts(tuple(texts), embeddings[0], nulls[0])
    edge, scale = pipeline.unet.config.sample_size, pipeline.vae_scale_factor
    height, width = (scale * side for side in ((edge, edge) if isinstance(edge, int) else edge))
    size = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=device)
    return Prompts(tuple(texts), embeddings[0], nulls[0], embeddings[1], nulls[1], size)


def save_trained(denoiser: GuidedUNet, pipeline: Any, source: Source, folder: Path) -> None:
    """Write what was trained: a LoRA that plain diffusers loads (`pipeline.load_lora_weights(folder)`) and the name of
    its base, or the complete pipeline where all of the UNet was trained.
    """
    if not isinstance(denoiser, AdaptedUNet):
        pipeline.save_pretrained(folder, safe_serialization=True)
        return
    from peft.utils import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    layers: Mapping[str, Any] = diffusers().utils.convert_state_dict_to_diffusers(
        get_peft_model_state_dict(denoiser.unet)
    )
    layers = {name: value.detach().cpu().float() for name, value in layers.items()}
    type(pipeline).save_lora_weights(str(folder), unet_lora_layers=dict(layers), safe_serialization=True)
    description = with_header(DOMAIN, {"base": source.base, "revision": source.revision})
    replace_file(folder / ADAPTER, (json.dumps(description, indent=1) + "\n").encode())
    with suppress(OSError):
        (folder / LORA).chmod(0o644)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().partition("\n")[0]
