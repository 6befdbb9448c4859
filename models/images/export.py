"""Pipelines with all LoRAs merged into their weights, in diffusers' own format."""

from pathlib import Path

from molrl.models.images.own_prompts import keep_prompts
from molrl.models.images.policy import ImagePolicy


def write_merged(policy: ImagePolicy, folder: Path) -> str:
    """Write a pipeline with its LoRAs merged, in safetensors, and return the line of Python that loads it.

    The network and the text encoders are written in the policy's dtype, the autoencoder in float32. Parts that draw no
    image, such as a checker of what was drawn, are left out.
    """
    pipeline, source = policy.loaded
    pipeline.save_pretrained(folder, safe_serialization=True)
    keep_prompts(source, folder)
    return "DiffusionPipeline.from_pretrained({folder!r})"
