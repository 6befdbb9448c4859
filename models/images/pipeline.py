"""Reading and writing of text-to-image pipelines in diffusers' own format.

Local folders never touch the network; a Hugging Face Hub id is fetched because it was named. Weights are read from
safetensors alone, and no code that comes with a model is run.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from molrl.machine.files import replace_file
from molrl.models.description import with_header
from molrl.models.images.diffusers_library import diffusers, require_extra
from molrl.models.images.families import FAMILIES, family_of
from molrl.models.images.families.family import Family
from molrl.models.images.foreign_folder import MAX_CONFIG_BYTES, checked_folder, read_config
from molrl.models.images.guided_network import GuidedNetwork, WithAdapter
from molrl.models.images.lora import LORA, Adapter, adapter_of, join, lora_file, merge_lora, write_lora
from molrl.models.images.own_prompts import keep_prompts
from molrl.models.images.pipeline_parts import encoders, network_name, network_of, tokenizers
from molrl.models.images.single_file import read_parts, single_file_header
from molrl.models.images.source import ADAPTER, INDEX, Source, fetch, find_base, first_line, resolve_folder
from molrl.runs.errors import CheckpointError
from molrl.runs.headers import first_names

DOMAIN = "images"
PIPELINE_CLASSES = {
    **{"StableDiffusionPipeline": "Stable Diffusion 1.x and 2.x", "StableDiffusionXLPipeline": "SDXL"},
    **{name: family.models for name, family in FAMILIES.items()},
}
VARIANT = re.compile(r"[A-Za-z0-9_-]{1,40}")
NETWORK_WEIGHTS = "diffusion_pytorch_model"  # name of a network's files in diffusers' format
DTYPE_BY_NAME = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PART_CLASSES = {
    "scheduler": r"diffusers\.\w+Scheduler",
    "text_encoder": r"transformers\.CLIPTextModel",
    "text_encoder_2": r"transformers\.CLIPTextModelWithProjection",
    "tokenizer": r"transformers\.CLIPTokenizer(Fast)?",
    "tokenizer_2": r"transformers\.CLIPTokenizer(Fast)?",
    "unet": r"diffusers\.UNet2DConditionModel",
    "vae": r"diffusers\.AutoencoderKL",
}
ANY_CLASS = r"(diffusers|transformers|stable_diffusion)\.\w+"  # of parts that are not read
MAX_CLIP_TOKENS = 4096  # which every prompt is filled up to
UNUSED_PARTS: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": {
        **{"safety_checker": None, "requires_safety_checker": False},
        **{"feature_extractor": None, "image_encoder": None},
    },
    "StableDiffusionXLPipeline": {"feature_extractor": None, "image_encoder": None},
    **{name: dict(family.unused) for name, family in FAMILIES.items()},
}


def load_pipeline(
    weights: str,
    revision: str | None,
    dtype: torch.dtype,
    *,
    variant: str | None = None,
    lora: str | None = None,
    config: str | None = None,
) -> tuple[Any, Source]:
    """Read a text-to-image pipeline: a shipped one by name, a folder, a single file, a Hub id, or a run's model with
    its adapter.

    Adapters are merged into the weights. The network and the text encoders have the dtype, the autoencoder is float32.

    Args:
        weights: a name, a folder, a file or a Hub id.
        revision: of a Hub id; None: its main branch.
        dtype: of the networks.
        variant: of the files, such as fp16; None: those without one.
        lora: a LoRA that is merged on top: a folder or a safetensors file; None: none.
        config: of a single file: the pipeline that has its configurations and tokenizers, as `weights` names one.

    Raises:
        CheckpointError: it is missing, damaged, cannot be fetched, or is of a class that is not supported.
        ImportError: the extra is not installed.
    """
    require_extra()
    source, files = find_base(Source(weights, revision, variant, config))
    files += [] if lora is None else [lora_file(lora)]
    pipeline = read_pipeline(source, torch.float32 if files else dtype)
    adapter: Adapter = {}
    for file in files:
        adapter = join(adapter, merge_lora(pipeline, file))
    for part in (network_of(pipeline), *encoders(pipeline)):
        part.to(dtype).requires_grad_(False).eval()
    for part in (network_of(pipeline), pipeline.vae, *encoders(pipeline)):
        if broken := [name for name, value in part.state_dict().items() if not value.isfinite().all()]:
            raise CheckpointError(f"{weights}: weights hold NaN or infinity as {part.dtype}: {first_names(broken)}")
    return pipeline, replace(source, adapter=adapter)


def read_pipeline(source: Source, dtype: torch.dtype) -> Any:
    """Return the pipeline of a folder or of a Hub id; raises one CheckpointError for everything that may be wrong."""
    library, file = diffusers(), None if source.config is None else Path(source.base)
    folder = resolve_folder(source.config or source.base)
    if not folder.is_dir():
        folder = fetch(source)
    check_variant(folder, source.variant)
    options: dict[str, Any] = {"local_files_only": True, "variant": source.variant, "use_safetensors": True}
    try:
        with checked_folder(folder, None if file is None else single_file_header(file)):
            kind = pipeline_class(folder)
            options |= {} if file is None else read_parts(file, folder, kind)
            options |= {"add_watermarker": False} if kind == "StableDiffusionXLPipeline" else {}
            pipeline = getattr(library, kind).from_pretrained(str(folder), **options, **UNUSED_PARTS[kind], dtype=dtype)
    except CheckpointError:
        raise
    except (
        *(ArithmeticError, AttributeError, OSError, ValueError, LookupError, TypeError, RuntimeError),
        *(SafetensorError, RecursionError),
    ) as error:
        problem = "not a complete pipeline in diffusers' format"
        raise CheckpointError(f"{folder}: {problem} ({first_line(error)})") from error
    check_parts(source.base, pipeline)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.float()
    for part in (network_of(pipeline), pipeline.vae, *encoders(pipeline)):
        part.requires_grad_(False).eval()
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
    parts = FAMILIES[kind].parts if kind in FAMILIES else PART_CLASSES
    for name, entry in index.items():
        origin, part = [*entry, None, None][:2] if isinstance(entry, list) else (None, None)
        allowed = parts.get(name, ANY_CLASS)
        if origin is not None and not re.fullmatch(allowed, f"{origin}.{part}"):
            raise CheckpointError(f"{folder / INDEX}: {name} is {origin!s:.40}.{part!s:.40}, expected {allowed}")
    return kind


def check_variant(folder: Path, variant: str | None) -> None:
    """Raise CheckpointError where the network of a folder has weights, but none of the variant."""
    if variant is not None and not VARIANT.fullmatch(variant):
        raise CheckpointError(f"variant: got {variant!r}, need letters and digits such as fp16")
    files = [
        path for name in ("unet", "transformer") for path in (folder / name).glob(f"{NETWORK_WEIGHTS}*.safetensors")
    ]
    stems = [path.name.removesuffix(".safetensors") for path in files]
    found = {match[1] for stem in stems if (match := re.search(r"\.([A-Za-z0-9_]+)(-\d+-of-\d+)?$", stem))}
    plain = any("." not in stem for stem in stems)
    if stems and (variant not in found if variant else not plain):
        have = [*(["null"] if plain else []), *sorted(found)]
        raise CheckpointError(
            f"{folder}: no weights of the variant {variant or 'null'}; policy.variant={' or '.join(have)}"
        )


def check_parts(name: str, pipeline: Any) -> None:
    """Raise CheckpointError for parts whose inputs and outputs are others than those of the pipeline's family."""
    for tokenizer in tokenizers(pipeline):
        if "CLIP" in type(tokenizer).__name__ and not 2 < tokenizer.model_max_length <= MAX_CLIP_TOKENS:
            length = f"model_max_length={tokenizer.model_max_length}"
            raise CheckpointError(f"{name}: {length} of a CLIP tokenizer, allowed 3 to {MAX_CLIP_TOKENS}")
    if (family := family_of(pipeline)) is not None:
        check_flow_parts(name, pipeline, family)
        return
    unet, latent = pipeline.unet.config, pipeline.vae.config.latent_channels
    if pipeline.text_encoder is None or getattr(pipeline.vae.config, "latents_mean", None) is not None:
        raise CheckpointError(f"{name}: a refiner, or latents on a scale of their own, which are not supported")
    if not unet.in_channels == unet.out_channels == latent:
        channels = f"{unet.in_channels} channels to {unet.out_channels}, latents have {latent}"
        raise CheckpointError(f"{name}: its UNet takes {channels}; inpainting and learned variances are not supported")
    if unet.time_cond_proj_dim is not None:
        raise CheckpointError(
            f"{name}: its UNet is distilled and takes the guidance as an input, which is not supported"
        )


def check_flow_parts(name: str, pipeline: Any, family: Family) -> None:
    """Raise CheckpointError for a flow whose network takes other latents than its autoencoder makes."""
    config = network_of(pipeline).config
    patches = 4 if config.in_channels == 4 * family.channels(pipeline) else 1  # packed before the network, or in it
    if config.in_channels != patches * family.channels(pipeline):
        channels = f"{config.in_channels} channels, latents have {family.channels(pipeline)}"
        raise CheckpointError(f"{name}: its transformer takes {channels}; editing and inpainting are not supported")


def save_trained(denoiser: GuidedNetwork, pipeline: Any, source: Source, folder: Path) -> None:
    """Write what was trained: a LoRA that plain diffusers loads (`pipeline.load_lora_weights(folder)`) and the name of
    its base, or the complete pipeline where all of the network was trained. The LoRA holds all that was changed of the
    base: also the LoRAs that the run started from.
    """
    if not isinstance(denoiser, WithAdapter):
        pipeline.save_pretrained(folder, safe_serialization=True)
        keep_prompts(source, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    trained = {network_name(pipeline): denoiser.network, **(denoiser.text.encoders if denoiser.text else {})}
    changes = {part: adapter_of(network) for part, network in trained.items()}
    write_lora(type(pipeline), join(source.adapter, changes), folder)
    origin = {name: getattr(source, name) for name in ("base", "revision", "variant", "config")}
    replace_file(folder / ADAPTER, (json.dumps(with_header(DOMAIN, origin), indent=1) + "\n").encode())
    with suppress(OSError):
        (folder / LORA).chmod(0o644)
