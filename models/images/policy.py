"""The group `policy=` for images: how a text-to-image pipeline is sampled, and what of it is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch

from molrl.models.images import sharding
from molrl.models.images.adapters import LORA_TARGETS, TEXT_LORA_TARGETS, add_lora
from molrl.models.images.families import family_of
from molrl.models.images.families.family import Size
from molrl.models.images.flow_chain import Discretisation, flow_chain
from molrl.models.images.guided_flow import AdaptedFlow, GuidedFlow
from molrl.models.images.guided_unet import AdaptedUNet, GuidedUNet
from molrl.models.images.pipeline import DTYPE_BY_NAME, load_pipeline
from molrl.models.images.pipeline_parts import latent_shape, network_of
from molrl.models.images.prompt_embedding import LongPrompts, embed_flow_prompts, embed_prompts
from molrl.models.images.scheduler_chain import diffusers_chain
from molrl.models.images.source import HUB, Source
from molrl.models.images.text_encoder import TextEncoder, adaptable_encoders, text_encoder
from molrl.models.shipped import find_model
from molrl.policy import Policy


@dataclass(frozen=True, kw_only=True)
class ImagePolicy:
    """A text-to-image pipeline, the chain of its scheduler, and what of it is trained.

    Attributes:
        weights: a shipped pipeline by name, a folder, a run, a single file, or `hub:OWNER/NAME`.
        num_steps: of the chain, one network call each (two with guidance).
        eta: noise of the chain, 0 is deterministic; of a diffusion 1 is ancestral sampling, of a flow see `FlowSDE`.
        revision: of a model of the Hugging Face Hub; None: its main branch.
        guidance_scale: classifier-free guidance; 1 is none.
        batch: images per network call.
        dtype: what the network computes in; its frozen weights are kept in it. Trajectories are float32.
        tuning: "lora" trains an adapter of this `rank`, "full" the whole network, whose weights then are float32.
        rank: of the adapter.
        checkpointing: compute activations of the network again for the gradient instead of keeping them.
        shard: each of several processes keeps a part of the frozen weights (FSDP2), for a network that fits no device.
        variant: of the files of the weights, such as fp16; None: those without one.
        lora: a LoRA to start from, merged into the weights: a folder or a safetensors file; None: none.
        config: of a single file: a pipeline that has its configurations and tokenizers, a folder or `hub:OWNER/NAME`.
        alpha: scale of the adapter times its rank; None: a scale of 1.
        lora_targets: last parts of the names of the adapted layers; None: the attention layers of the family.
        text_rank: of an adapter of CLIP's text encoders; None: they are frozen.
        text_alpha: scale of that adapter times its rank; None: a scale of 1.
        text_lora_targets: last parts of the names of its layers; None: those of attention.
        size: height and width of an image in pixels; None: the pipeline's own.
        negative_prompt: what guidance leads away from.
        long_prompts: a prompt longer than a text encoder reads is refused, truncated as diffusers does, or read in
            chunks.
        discretisation: of a flow's SDE.
        distilled_guidance: for flows whose network takes the scale of guidance as an input.
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
    config: str | None = None
    alpha: float | None = None
    lora_targets: Sequence[str] | None = None
    text_rank: int | None = None
    text_alpha: float | None = None
    text_lora_targets: Sequence[str] | None = None
    size: Sequence[int] | None = None
    negative_prompt: str = ""
    long_prompts: LongPrompts = "refuse"
    discretisation: Discretisation = "euler"
    distilled_guidance: float = 3.5
    domain: ClassVar[str] = "images"

    def __post_init__(self) -> None:
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValueError(f"size: got {list(self.size)}, need height and width in pixels, such as [512,512]")
        if self.text_rank is not None and self.tuning == "full":
            raise ValueError(
                f"text_rank: got {self.text_rank}, and tuning=full trains the network alone; set tuning=lora"
            )

    @property
    def pixels(self) -> Size | None:
        """Return height and width of an image; None: the pipeline's own."""
        return None if self.size is None else (int(self.size[0]), int(self.size[1]))

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
        return load_pipeline(name, revision, kept, variant=self.variant, lora=self.lora, config=self.config)

    def trainable(self) -> Any:
        """Return the network with what is to be trained of it: an adapter, or all of it."""
        pipeline = self.loaded[0]
        network, family = network_of(pipeline), family_of(pipeline)
        if self.tuning == "lora":
            targets = self.lora_targets or (LORA_TARGETS if family is None else family.lora_targets)
            add_lora(network, self.rank, alpha=self.alpha, targets=targets)
        else:
            network.requires_grad_(True)
        if self.checkpointing:
            network.enable_gradient_checkpointing()
        for encoder in self.text_encoders().values():
            targets = self.text_lora_targets or TEXT_LORA_TARGETS
            add_lora(encoder, self.text_rank or 0, alpha=self.text_alpha, targets=targets, prefix="text_")
        return network

    def text_encoders(self) -> dict[str, Any]:
        """Return the text encoders of which an adapter is trained, by the names of the pipeline's parts."""
        return {} if self.text_rank is None else adaptable_encoders(self.loaded[0])

    def build(self, texts: Sequence[str], device: torch.device, *, trained: bool) -> tuple[Policy, str]:
        """Return the policy for these prompts, and what is worth saying of its chain.

        Args:
            texts: prompts; they are embedded once, and by trained text encoders anew as they change.
            device: of the network and its states.
            trained: after `trainable`, with what is trained; else the pipeline as it is.
        """
        pipeline = self.loaded[0]
        if trained and self.shard:
            sharding.shard(network_of(pipeline), device)
        adapted = trained and self.tuning == "lora"
        text = self.trained_text(texts, device) if trained else None
        if family_of(pipeline) is not None:
            return self.flow_policy(pipeline, texts, device, adapted=adapted, text=text)
        return image_policy(
            pipeline,
            texts,
            num_steps=self.num_steps,
            eta=self.eta,
            guidance_scale=self.guidance_scale,
            batch=self.batch,
            dtype=DTYPE_BY_NAME[self.dtype],
            device=device,
            adapted=adapted,
            negative=self.negative_prompt,
            long_prompts=self.long_prompts,
            size=self.pixels,
            text=text,
        )

    def trained_text(self, texts: Sequence[str], device: torch.device) -> TextEncoder | None:
        """Return the text encoders as a part of what is trained; None where they are frozen."""
        if self.text_rank is None:
            return None
        return text_encoder(
            self.loaded[0],
            texts,
            device,
            negative=self.negative_prompt,
            chunked=self.long_prompts == "chunk",
            batch=self.batch,
            checkpointing=self.checkpointing,
        )

    def flow_policy(
        self,
        pipeline: Any,
        texts: Sequence[str],
        device: torch.device,
        *,
        adapted: bool,
        text: TextEncoder | None,
    ) -> tuple[Policy, str]:
        """Return a pipeline's transformer with guidance and the SDE of its scheduler, and a remark on its last step."""
        family = family_of(pipeline)
        assert family is not None
        shape, steps = latent_shape(pipeline, self.pixels), self.num_steps
        sampler = flow_chain(
            pipeline.scheduler.config,
            family,
            shape,
            num_steps=steps,
            eta=self.eta,
            discretisation=self.discretisation,
        )
        prompts = embed_flow_prompts(
            family,
            pipeline,
            texts,
            device,
            negative=self.negative_prompt,
            long_prompts=self.long_prompts,
            dtype=DTYPE_BY_NAME[self.dtype],
        )
        pipeline.vae.to(device)
        denoiser = (AdaptedFlow if adapted else GuidedFlow)(
            network_of(pipeline).to(device),
            prompts,
            family,
            distilled_guidance=self.distilled_guidance,
            guidance_scale=self.guidance_scale,
            batch=self.batch,
            dtype=DTYPE_BY_NAME[self.dtype],
            text=text,
        )
        note = f"the last of {steps} steps of a flow has no noise: the policy has {steps - 1}"
        return Policy(denoiser.to(device), sampler), note


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
    negative: str = "",
    long_prompts: LongPrompts = "refuse",
    size: Size | None = None,
    text: TextEncoder | None = None,
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
        negative: what guidance leads away from.
        long_prompts: what is done with prompts that are longer than a text encoder reads.
        size: height and width in pixels, which SDXL is told; None: the pipeline's own.
        text: text encoders of which an adapter is trained; None: they are frozen.
    """
    chain = diffusers_chain(pipeline.scheduler.config, num_steps, eta)
    prompts = embed_prompts(pipeline, texts, device, negative=negative, long_prompts=long_prompts, size=size)
    pipeline.vae.to(device)
    denoiser = (AdaptedUNet if adapted else GuidedUNet)(
        pipeline.unet.to(device),
        prompts,
        chain.schedule,
        prediction=chain.prediction,
        guidance_scale=guidance_scale,
        batch=batch,
        dtype=dtype,
        text=text,
    )
    return Policy(denoiser.to(device), chain.sampler), chain.note
