"""The group `policy=` for images: how a text-to-image pipeline is sampled, and what of it is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch

from molrl.models.images import sharding
from molrl.models.images.guided_unet import AdaptedUNet, GuidedUNet, add_lora
from molrl.models.images.pipeline import DTYPE_BY_NAME, HUB, Source, embed_prompts, load_pipeline
from molrl.models.images.scheduler_chain import diffusers_chain
from molrl.models.shipped import find_model
from molrl.policy import Policy


@dataclass(frozen=True, kw_only=True)
class ImagePolicy:
    """A Stable Diffusion pipeline, the chain of its scheduler, and what of it is trained.

    Attributes:
        weights: a shipped pipeline by name, a folder, a run, or `hub:OWNER/NAME`.
        num_steps: of the chain, one network call each (two with guidance).
        eta: 1 is ancestral sampling, 0 deterministic.
        revision: of a model of the Hugging Face Hub; None: its main branch.
        guidance_scale: classifier-free guidance; 1 is none.
        batch: images per network call.
        dtype: what the network computes in; its frozen weights are kept in it. Trajectories are float32.
        tuning: "lora" trains an adapter of this `rank`, "full" the whole UNet, whose weights then are float32.
        rank: of the adapter.
        checkpointing: compute activations of the UNet again for the gradient instead of keeping them.
        shard: each of several processes keeps a part of the frozen weights (FSDP2), for a UNet that fits no device.
        variant: of the files of the weights, such as fp16; None: those without one.
        lora: a LoRA to start from, merged into the weights: a folder or a safetensors file; None: none.
    """

    weights: str
    num_steps: int
    eta: float
    revision: str | None
    guidance_scale: float
    batch: int
    dtype: Literal["float32", "bfloat16", "float16"]
    tuning: Literal["lora", "full"]
    rank: int
    checkpointing: bool
    shard: bool
    variant: str | None = None
    lora: str | None = None
    domain: ClassVar[str] = "images"

    @cached_property
    def loaded(self) -> tuple[Any, Source]:
        """Return the pipeline, read once, and where it came from.

        Raises:
            CheckpointError: it is missing, damaged, cannot be fetched, or is of a class that is not supported.
            ImportError: the extra is not installed.
        """
        kept = torch.float32 if self.tuning == "full" else DTYPE_BY_NAME[self.dtype]
        name, revision = self.weights, self.revision
        if name.startswith(HUB) and find_model(name) is None:  # a pipeline, which the library of the Hub fetches
            name, _, named_revision = name.removeprefix(HUB).partition("@")
            revision = named_revision or revision
        return load_pipeline(name, revision, kept, variant=self.variant, lora=self.lora)

    def trainable(self) -> Any:
        """Return the UNet with what is to be trained of it: an adapter, or all of it."""
        unet = self.loaded[0].unet
        if self.tuning == "lora":
            add_lora(unet, self.rank)
        else:
            unet.requires_grad_(True)
        if self.checkpointing:
            unet.enable_gradient_checkpointing()
        return unet

    def build(self, texts: Sequence[str], device: torch.device, *, trained: bool) -> tuple[Policy, str]:
        """Return the policy for these prompts, and what is worth saying of its chain.

        Args:
            texts: prompts; they are embedded once.
            device: of the network and its states.
            trained: after `trainable`, with what is trained; else the pipeline as it is.
        """
        return image_policy(
            self.loaded[0],
            texts,
            num_steps=self.num_steps,
            eta=self.eta,
            guidance_scale=self.guidance_scale,
            batch=self.batch,
            dtype=DTYPE_BY_NAME[self.dtype],
            device=device,
            adapted=trained and self.tuning == "lora",
            shared=trained and self.shard,
        )


def image_policy(
    pipeline: Any,
    texts: Sequence[str],
    *,
    num_steps: int,
    eta: float,
    guidance_scale: float,
    batch: int,
    dtype: torch.dtype,
    device: torch.device,
    adapted: bool = False,
    shared: bool = False,
) -> tuple[Policy, str]:
    """Return a pipeline's UNet with guidance and the chain of its scheduler, and what is worth saying of that chain.

    Args:
        pipeline: a StableDiffusionPipeline.
        texts: prompts; they are embedded once.
        num_steps: of the chain.
        eta: 1 is ancestral sampling, 0 deterministic.
        guidance_scale: 1 is none.
        batch: images per network call.
        dtype: what the network computes in.
        device: of the network and its states.
        adapted: the UNet has an adapter, and the reference is the UNet without it.
        shared: each process of the run keeps a part of the UNet's frozen weights.
    """
    if shared:
        sharding.shard(pipeline.unet, device)
    chain = diffusers_chain(pipeline.scheduler.config, num_steps, eta)
    prompts = embed_prompts(pipeline, texts, device)
    pipeline.vae.to(device)
    denoiser = (AdaptedUNet if adapted else GuidedUNet)(
        pipeline.unet.to(device),
        prompts,
        chain.schedule,
        prediction=chain.prediction,
        guidance_scale=guidance_scale,
        batch=batch,
        dtype=dtype,
    )
    return Policy(denoiser.to(device), chain.sampler), chain.note
