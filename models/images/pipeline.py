"""Reading and writing of Stable Diffusion pipelines in diffusers' own format.

Local folders never touch the network; a Hugging Face Hub id is fetched because it was named. Weights are read from
safetensors alone, and no code that comes with a model is run.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from molrl.models.description import check_format, with_header
from molrl.models.images.diffusers_library import diffusers, require_extra
from molrl.models.images.guided_unet import AdaptedUNet, GuidedUNet, Prompts
from molrl.models.shipped import SHIPPED, find_model, shipped_names
from molrl.runs.errors import CheckpointError

DOMAIN = "images"
INDEX, ADAPTER = "model_index.json", "adapter.json"
LORA = "pytorch_lora_weights.safetensors"
PIPELINE_CLASSES = {"StableDiffusionPipeline": "Stable Diffusion 1.x and 2.x", "StableDiffusionXLPipeline": "SDXL"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
DTYPE_BY_NAME = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROMPT_BATCH = 64  # prompts that are embedded at a time
NO_SAFETY_CHECKER: dict[str, Any] = {
    **{"safety_checker": None, "requires_safety_checker": False},
    **{"feature_extractor": None, "image_encoder": None},
}


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


def load_pipeline(weights: str, revision: str | None, dtype: torch.dtype) -> tuple[Any, Source]:
    """Read a Stable Diffusion pipeline: a shipped one by name, a folder, a Hub id, or a run's model with its adapter.

    The adapter is merged into the weights. The UNet and the text encoders have the dtype, the autoencoder is float32.

    Raises:
        CheckpointError: it is missing, damaged, cannot be fetched, or is of a class that is not supported.
        ImportError: the extra is not installed.
    """
    require_extra()
    folder = resolve_folder(weights)
    if (folder / ADAPTER).is_file():
        return load_adapted(folder, dtype)
    local = folder.is_dir()
    if not local and (Path(weights).exists() or not HUB_ID.fullmatch(weights)):
        shipped = shipped_names(marker=INDEX)
        raise CheckpointError(
            f"{weights}: no such pipeline; shipped are {shipped}, or name a folder in diffusers' format, or a "
            "Hugging Face Hub id such as owner/name"
        )
    return read_pipeline(str(folder) if local else weights, revision, dtype, local=local), Source(
        str(folder.resolve()) if local and not folder.is_relative_to(SHIPPED) else weights, revision
    )


def read_pipeline(name: str, revision: str | None, dtype: torch.dtype, *, local: bool) -> Any:
    """Return the pipeline of a folder or of a Hub id; raises one CheckpointError for everything that may be wrong."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    library = diffusers()
    options: dict[str, Any] = {"local_files_only": local, "revision": revision}
    try:
        index = library.StableDiffusionPipeline.load_config(name, **options)
        if (kind := index.get("_class_name")) not in PIPELINE_CLASSES:
            supported = ", ".join(f"{pipeline_class} ({models})" for pipeline_class, models in PIPELINE_CLASSES.items())
            raise CheckpointError(f"{name}: a {kind}, supported are {supported}")
        extra = {"add_watermarker": False} if kind == "StableDiffusionXLPipeline" else NO_SAFETY_CHECKER
        pipeline = getattr(library, kind).from_pretrained(name, **options, **extra, dtype=dtype, use_safetensors=True)
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        hub = isinstance(error, HfHubHTTPError | HFValidationError) or not local
        problem = "cannot be had from the Hugging Face Hub" if hub else "not a complete pipeline in diffusers' format"
        raise CheckpointError(f"{name}: {problem} ({first_line(error)})") from error
    if pipeline.text_encoder is None or getattr(pipeline.vae.config, "latents_mean", None) is not None:
        raise CheckpointError(f"{name}: a refiner, or latents on a scale of their own, which are not supported")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.float()
    for part in (pipeline.unet, pipeline.vae, *encoders(pipeline)):
        part.requires_grad_(False).eval()
    return pipeline


def encoders(pipeline: Any) -> list[Any]:
    """Return the text encoders: one, or SDXL's two."""
    return [part for name in ("text_encoder", "text_encoder_2") if (part := getattr(pipeline, name, None)) is not None]


def load_adapted(folder: Path, dtype: torch.dtype) -> tuple[Any, Source]:
    """Return the model that a run left: its base, with the adapter merged into it."""
    try:
        description = json.loads((folder / ADAPTER).read_text())
        check_format(folder, description)
        base, revision = str(description["base"]), description["revision"]
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / ADAPTER}: does not say whose adapter it is ({error!r})") from error
    pipeline, _ = load_pipeline(base, revision, torch.float32)
    try:
        pipeline.load_lora_weights(str(folder), weight_name=LORA, local_files_only=True, use_safetensors=True)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: its adapter does not fit {base} ({first_line(error)})") from error
    pipeline.unet.to(dtype)
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
    (folder / ADAPTER).write_text(json.dumps(description, indent=1) + "\n")
    with suppress(OSError):
        (folder / LORA).chmod(0o644)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().partition("\n")[0]
