"""Stable Diffusion in a single file: the weights of all parts under the names of its first code (Rombach et al. 2022,
arXiv:2112.10752).

Such a file has no configuration and no tokenizer. They come from a folder in diffusers' format, and every weight that
they ask for must be in the file.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from molrl.machine.files import open_regular
from molrl.models.images.diffusers_library import diffusers
from molrl.models.images.foreign_folder import MAX_WEIGHT_BYTES, SAFETENSORS
from molrl.runs.errors import CheckpointError
from molrl.runs.headers import Header, check_header, read_header

UNET, VAE = "model.diffusion_model.", "first_stage_model."
ENCODERS: dict[str, dict[str, tuple[str, ...]]] = {  # of a class: prefixes that a text encoder may have
    "StableDiffusionPipeline": {"text_encoder": ("cond_stage_model.transformer.", "cond_stage_model.model.")},
    "StableDiffusionXLPipeline": {
        "text_encoder": ("conditioner.embedders.0.transformer.",),
        "text_encoder_2": ("conditioner.embedders.1.model.",),
    },
}
OPEN_CLIP = ".model."  # end of the prefixes of encoders that have the names of OpenCLIP
NO_WEIGHTS = ("position_ids", "logit_scale")  # tensors of an encoder that are no weights of diffusers' networks


def is_single_file(weights: str) -> bool:
    """Return whether a name is that of a file of weights, rather than of a folder or a Hub id."""
    return weights.endswith(SAFETENSORS) and Path(weights).expanduser().is_file()


def single_file_header(file: Path) -> Header:
    """Return what a single file says that it holds.

    Raises:
        CheckpointError: it is damaged, too large, or no Stable Diffusion.
    """
    with open_regular(file, follow=True) as opened:
        header = read_header(opened, file)
    if file.stat().st_size > MAX_WEIGHT_BYTES:
        raise CheckpointError(f"{file}: more than {MAX_WEIGHT_BYTES} bytes")
    for prefix, part in ((UNET, "UNet"), (VAE, "autoencoder")):
        if not any(name.startswith(prefix) for name in header):
            lora = " it may be a LoRA, which policy.lora takes;" if any("lora" in name for name in header) else ""
            raise CheckpointError(
                f"{file}: has no {part} ({prefix}*);{lora} single files of Stable Diffusion 1.x, 2.x and XL are "
                "supported, with all their parts"
            )
    return header


def read_parts(file: Path, folder: Path, kind: str) -> dict[str, nn.Module]:
    """Return the networks of a single file, float32, by their names in a pipeline.

    Args:
        file: the weights.
        folder: a pipeline in diffusers' format, of which the configurations are read.
        kind: the class of the pipeline.

    Raises:
        CheckpointError: pipelines of this class are not read from one file, or the weights do not fit.
    """
    if kind not in ENCODERS:
        raise CheckpointError(f"{file}: a {kind} is not read from a single file; supported are {', '.join(ENCODERS)}")
    library, names = diffusers(), import_module("diffusers.loaders.single_file_utils")
    tensors = load_file(file)
    parts: dict[str, nn.Module] = {}
    for part, kind_of_part, convert in (
        ("unet", library.UNet2DConditionModel, names.convert_ldm_unet_checkpoint),
        ("vae", library.AutoencoderKL, names.convert_ldm_vae_checkpoint),
    ):
        network = kind_of_part.from_config(kind_of_part.load_config(str(folder), subfolder=part))
        parts[part] = filled(network, convert(tensors, network.config), f"{part} of {folder}", file)
    for part, prefixes in ENCODERS[kind].items():
        parts[part] = read_encoder(tensors, part, prefixes, folder, file)
    return parts


def read_encoder(
    tensors: Mapping[str, Tensor], part: str, prefixes: tuple[str, ...], folder: Path, file: Path
) -> nn.Module:
    """Return a text encoder of a single file, float32, whose names are those of transformers or of OpenCLIP."""
    names = import_module("diffusers.loaders.single_file_utils")
    found = [prefix for prefix in prefixes if any(name.startswith(prefix) for name in tensors)]
    if not found:
        raise CheckpointError(f"{file}: has no {part} ({'* or '.join(prefixes)}*); is {folder} of another model?")
    kind: Any = import_module("transformers").CLIPTextModel
    if part == "text_encoder_2":
        kind = import_module("transformers").CLIPTextModelWithProjection
    encoder = kind(kind.config_class.from_pretrained(str(folder), subfolder=part, local_files_only=True))
    if found[0].endswith(OPEN_CLIP):
        weights = names.convert_open_clip_checkpoint(encoder, tensors, prefix=found[0])
    else:
        weights = {name.removeprefix(found[0]): tensors[name] for name in tensors if name.startswith(found[0])}
    if not hasattr(encoder, "text_model"):  # from transformers 5.6 on
        weights = {name.removeprefix("text_model."): value for name, value in weights.items()}
    if part == "text_encoder":  # whose pooled output nothing reads
        weights.pop("text_projection.weight", None)
    kept = {name: value for name, value in weights.items() if not name.endswith(NO_WEIGHTS)}
    return filled(encoder, kept, f"{part} of {folder}", file)


def filled(network: nn.Module, weights: Mapping[str, Tensor], owner: str, file: Path) -> nn.Module:
    """Return a network with these weights, all of them and no others.

    Raises:
        CheckpointError: a weight is missing, unexpected or of another shape.
    """
    try:
        check_header(network.state_dict(), weights, owner)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}; policy.config must name a pipeline of the same kind") from None
    network.load_state_dict(weights)
    return network
