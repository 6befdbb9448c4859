"""The parts of a diffusers pipeline by what they do, whatever its family calls them."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from molrl.models.images.families import family_of
from molrl.models.images.families.family import Size

TEXT_PARTS = ("text_encoder", "text_encoder_2", "text_encoder_3")
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


def network_name(pipeline: Any) -> str:
    """Return the name of the part that is trained: a diffusion's UNet, or a flow's transformer."""
    return "unet" if family_of(pipeline) is None else "transformer"


def network_of(pipeline: Any) -> Any:
    """Return the part that is trained."""
    return getattr(pipeline, network_name(pipeline))


def encoders(pipeline: Any) -> list[Any]:
    """Return the text encoders, one to three."""
    return [part for name in TEXT_PARTS if (part := getattr(pipeline, name, None)) is not None]


def tokenizers(pipeline: Any) -> list[Any]:
    """Return the tokenizers of the text encoders."""
    return [part for name in TOKENIZERS if (part := getattr(pipeline, name, None)) is not None]


def image_size(pipeline: Any, size: Size | None) -> Size:
    """Return height and width of an image in pixels: those given, or the pipeline's own.

    Raises:
        ValueError: a latent has no such size.
    """
    if (family := family_of(pipeline)) is not None:
        return size or family.default_size(pipeline)
    edge, scale = pipeline.unet.config.sample_size, int(pipeline.vae_scale_factor)
    if size is None:
        height, width = (edge, edge) if isinstance(edge, int) else edge
        return scale * height, scale * width
    if min(size) < scale or any(side % scale for side in size):
        raise ValueError(f"size: got {size[0]} x {size[1]} pixels, need multiples of {scale}")
    return size


def latent_shape(pipeline: Any, size: Size | None) -> tuple[int, int, int]:
    """Return [channels, height, width] of the latents of images of this size; None: of the pipeline's own.

    Raises:
        ValueError: a latent has no such size.
    """
    if (family := family_of(pipeline)) is not None:
        return family.latent_shape(pipeline, size)
    height, width = image_size(pipeline, size)
    scale = int(pipeline.vae_scale_factor)
    return int(pipeline.unet.config.in_channels), height // scale, width // scale


def decode_latents(pipeline: Any, x0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 height width"]:
    """Return the autoencoder's images of latents, in [0, 1]."""
    vae, family = pipeline.vae, family_of(pipeline)
    if family is None:
        image: Tensor = vae.decode(x0.float() / vae.config.scaling_factor, return_dict=False)[0]
    else:
        image = family.decode(vae, x0.float())
    return (image / 2 + 0.5).clamp(0, 1)
