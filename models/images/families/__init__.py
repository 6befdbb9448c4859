"""The families of pipelines of flow matching, by diffusers' names of their classes."""

from typing import Any

from molrl.models.images.families.family import Family
from molrl.models.images.families.flux_1 import Flux1
from molrl.models.images.families.flux_2 import Flux2, Flux2Klein
from molrl.models.images.families.qwen_image import QwenImage
from molrl.models.images.families.stable_diffusion_3 import StableDiffusion3
from molrl.models.images.families.z_image import ZImage

FAMILIES: dict[str, Family] = {
    "StableDiffusion3Pipeline": StableDiffusion3(),
    "FluxPipeline": Flux1(),
    "Flux2Pipeline": Flux2(),
    "Flux2KleinPipeline": Flux2Klein(),
    "QwenImagePipeline": QwenImage(),
    "ZImagePipeline": ZImage(),
}


def family_of(pipeline: Any) -> Family | None:
    """Return the family of a pipeline; None for those of a diffusion."""
    return FAMILIES.get(type(pipeline).__name__)
