"""Images as a domain of the trainers: what is asked for, how a latent is decoded, what is measured."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.data.images.image import CaptionedImage, quantise
from molrl.data.images.metrics import image_metrics
from molrl.data.images.prompts import prompt_list
from molrl.gaussian import Context
from molrl.models.images import sharding
from molrl.models.images.guided_unet import AdaptedUNet, GuidedUNet, add_lora
from molrl.models.images.memory import told_memory
from molrl.models.images.pipeline import DTYPES, Source, embedded, load_pipeline, save_trained
from molrl.models.images.scheduler_chain import diffusers_chain
from molrl.models.images.value import ImageValue
from molrl.noise import Key
from molrl.policy import Policy
from molrl.task import Reward, Task

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class ImageDecoder:
    """Images of prompts that are drawn first and then kept.

    Attributes:
        pipeline: a StableDiffusionPipeline, whose autoencoder makes images of latents.
        source: where it came from.
        texts: prompts, all equally likely; `context["prompt"]` has the row of each sample.
        batch: images that are decoded at a time.
    """

    pipeline: Any
    source: Source
    texts: tuple[str, ...]
    batch: int
    suffix: ClassVar[str] = ".zip"

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """The row of each sample's prompt."""
        rows = [int(key.generator(sample, 0).integers(len(self.texts))) for sample in samples]
        return {"prompt": torch.tensor(rows, dtype=torch.long)}

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """[channels, height, width] of a latent."""
        config = self.pipeline.unet.config
        edge = config.sample_size
        height, width = (edge, edge) if isinstance(edge, int) else edge
        return (config.in_channels, height, width)

    def decode(self, x0: Float[Tensor, "b c h w"], context: Context) -> Sequence[Any]:
        """Images with their prompts; latents that have a gradient become tensors [3, height, width] in [0, 1] with
        one, for differentiable rewards.
        """
        if x0.requires_grad:
            return list(self.shown(x0))
        asked = context["prompt"].tolist()
        with torch.no_grad():
            parts = [self.shown(part).permute(0, 2, 3, 1).cpu().numpy() for part in x0.split(self.batch)]
        arrays = [image for part in parts for image in part]
        return [quantise(array, self.texts[row]) for array, row in zip(arrays, asked, strict=True)]

    def shown(self, x0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 height width"]:
        """What the autoencoder sees in latents, in [0, 1]."""
        vae = self.pipeline.vae
        drawn: Tensor = vae.decode(x0.float() / vae.config.scaling_factor, return_dict=False)[0]
        return (drawn / 2 + 0.5).clamp(0, 1)

    def groups(self, context: Context) -> list[int]:
        """The row of the prompt."""
        return context["prompt"].tolist()

    def measure(self, samples: Sequence[CaptionedImage]) -> Mapping[str, float]:
        """See `image_metrics`."""
        return image_metrics(samples)

    def assess(self, samples: Sequence[CaptionedImage]) -> Mapping[str, float]:
        """The same: it is fast enough for every round."""
        return self.measure(samples)

    def write(self, samples: Sequence[CaptionedImage], path: Path, values: Mapping[str, Sequence[float]]) -> None:
        """A ZIP of PNG files, 0.png and on, with index.tsv: file, prompt and the values of each; or, for a .png, one
        image of them all.
        """
        if path.suffix == ".png":
            self.draw(samples, [""] * len(samples)).save(path)
            return
        from PIL import Image as Images

        lines = ["\t".join(("file", "prompt", *values))]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for row, sample in enumerate(samples):
                file = io.BytesIO()
                Images.fromarray(sample.pixels).save(file, "PNG")
                archive.writestr(f"{row}.png", file.getvalue())
                numbers = (f"{column[row]:.6g}" for column in values.values())
                lines.append("\t".join((f"{row}.png", " ".join(sample.prompt.split()), *numbers)))
            archive.writestr("index.tsv", "\n".join(lines) + "\n")

    def draw(self, samples: Sequence[CaptionedImage], captions: Sequence[str]) -> "Image":
        """A grid of the images with their prompts."""
        from molrl.data.images.grid import draw_images

        lines = [f"{sample.prompt}\n{caption}".strip() for sample, caption in zip(samples, captions, strict=True)]
        return draw_images(samples, lines)

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """What was trained, in diffusers' format."""
        assert isinstance(denoiser, GuidedUNet)
        save_trained(denoiser, self.pipeline, self.source, folder)


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
    """The pipeline's UNet with guidance and the chain of its scheduler, and what is worth saying of that chain.

    Args:
        adapted: the UNet has an adapter, and the reference is the UNet without it.
        shared: each process of the run keeps a part of the UNet's frozen weights.
    """
    if shared:
        sharding.shard(pipeline.unet, device)
    chain = diffusers_chain(pipeline.scheduler.config, num_steps, eta)
    prompts = embedded(pipeline, texts, device)
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


def image_task(
    *,
    name: str,
    weights: str,
    revision: str | None,
    prompts: str,
    num_steps: int,
    eta: float,
    guidance_scale: float,
    tuning: Literal["lora", "full"],
    rank: int,
    dtype: Literal["float32", "bfloat16", "float16"],
    batch: int,
    checkpointing: bool,
    shard: bool,
    reward: Reward,
    device: torch.device,
) -> Task:
    """Fine-tune a Stable Diffusion pipeline toward a reward.

    Args:
        weights: a shipped pipeline by name, a folder, a run's model, or a Hugging Face Hub id.
        revision: of a Hub id.
        prompts: a list by name (`molrl.data.images.prompts`), or a text file with one in each line.
        num_steps: network calls for each image.
        guidance_scale: 1 is no guidance.
        tuning: "lora" trains an adapter of this rank, "full" the whole UNet, whose weights then are float32.
        dtype: what the network computes in; the frozen weights are kept in it. Trajectories are float32.
        batch: images per network call.
        checkpointing: compute activations of the UNet again for the gradient instead of keeping them.
        shard: each of several processes keeps a part of the frozen weights (FSDP2), for a UNet that fits no device.
    """
    texts = prompt_list(prompts)
    kept = torch.float32 if tuning == "full" else DTYPES[dtype]
    pipeline, source = load_pipeline(weights, revision, kept)
    unet = pipeline.unet
    if tuning == "lora":
        add_lora(unet, rank)
    else:
        unet.requires_grad_(True)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    policy, note = image_policy(
        pipeline,
        texts,
        num_steps=num_steps,
        eta=eta,
        guidance_scale=guidance_scale,
        batch=batch,
        dtype=DTYPES[dtype],
        device=device,
        adapted=tuning == "lora",
        shared=shard,
    )
    decoder = ImageDecoder(pipeline=pipeline, source=source, texts=texts, batch=batch)
    size = DTYPES[dtype].itemsize
    print(told_memory(unet, decoder.state_shape({}), batch=batch, guided=guidance_scale != 1, size=size))
    if note:
        print(f"scheduler: {note}")
    return Task(
        name=name,
        policy=policy,
        decoder=decoder,
        reward=reward,
        device=device,
        value_network=lambda: ImageValue(unet.config.in_channels, len(texts)),
    )
