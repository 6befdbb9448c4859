"""Pretraining of image models: an autoencoder first, then the small pipeline's UNet and text encoder in its latents
(latent diffusion: Rombach et al. 2022, arXiv:2112.10752).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from molrl.config import ConfigError, settings
from molrl.data.images.image import CaptionedImage
from molrl.data.images.sets import ImageSet
from molrl.gaussian import Context, Euclidean, Space
from molrl.models.images.decoder import ImageDecoder
from molrl.models.images.diffusers_library import require_extra
from molrl.models.images.own_prompts import write_prompts
from molrl.models.images.pipeline import DOMAIN, DTYPE_BY_NAME, load_pipeline
from molrl.models.images.policy import image_policy
from molrl.models.images.scheduler_chain import diffusers_chain
from molrl.models.images.small_pipeline import PipelineDesign, small_pipeline
from molrl.models.pretraining import SamplingSettings, count_parameters
from molrl.policy import Policy
from molrl.pretraining import Bucket, Loss, Pretraining, denoising_loss
from molrl.runs.checkpoint import check_fits
from molrl.samplers import per_row
from molrl.schedule import Tabulated

KL_WEIGHT = 1e-6  # of the latents' KL to N(0, I), in nats per image (Rombach et al. 2022, Sec. G)
IMAGE_BATCH = 64  # images that are encoded, drawn or decoded at a time


@dataclass(frozen=True, kw_only=True)
class ImageDesign:
    """A text-to-image pipeline that has not met its data set yet, whose words will be its tokens.

    Attributes:
        image_size, tokens, vae, latent, unet, text, prediction: sizes of the pipeline, see PipelineDesign.
        vae_steps: training steps of the autoencoder, which comes first.
        vae_lr: peak learning rate of the autoencoder.
        dropped: fraction of the images that are trained with the empty caption, for classifier-free guidance.
        guidance_scale: guidance of the samples in reports.
        dtype: of the weights in files, "float32" or "bfloat16".
    """

    image_size: int
    tokens: int
    vae: Sequence[int]
    latent: int
    unet: Sequence[int]
    text: int
    prediction: str
    vae_steps: int
    vae_lr: float
    dropped: float
    guidance_scale: float
    dtype: Literal["float32", "bfloat16"]
    domain: ClassVar[str] = DOMAIN
    data_argument: ClassVar[str] = "edge"

    def __post_init__(self) -> None:
        if self.vae_steps < 1 or not self.vae_lr > 0:
            raise ValueError(
                f"vae_steps, vae_lr: got {self.vae_steps}, {self.vae_lr}; need at least 1 and a number above 0"
            )
        if not 0 <= self.dropped < 1:
            raise ValueError(f"dropped: got {self.dropped}, allowed 0 to below 1")
        if self.dtype not in (allowed := ("float32", "bfloat16")):
            raise ValueError(f"dtype: got {self.dtype!r}, allowed {', '.join(allowed)}")
        self.sizes(())

    def sizes(self, words: Sequence[str]) -> PipelineDesign:
        """Return the sizes of the pipeline for a data set of these words."""
        return PipelineDesign(
            words=words,
            tokens=self.tokens,
            image_size=self.image_size,
            vae=list(self.vae),
            latent=self.latent,
            unet=list(self.unet),
            text=self.text,
            prediction=self.prediction,
        )

    def load_data(self, data: Callable[..., ImageSet], init: str | None) -> ImageSet:
        """Return the data set with images of this size."""
        require_extra()
        with settings("data"):
            return data(edge=self.image_size)

    def fit(self, examples: ImageSet) -> "ImageTrainee":
        """Build the pipeline with random weights; its statistics of the data come with the autoencoder."""
        with settings("model"):
            pipeline = small_pipeline(self.sizes(examples.words))
        schedule = Tabulated(pipeline.scheduler.alphas_cumprod.double())
        denoiser = TextDenoiser(pipeline.unet, pipeline.text_encoder, schedule, self.prediction)
        return ImageTrainee(self, examples, pipeline, denoiser)


class TextDenoiser(nn.Module):
    """A pipeline's UNet and text encoder, trained together: a `molrl.pretraining.Preconditioner` for latents.

    `context["ids"]` [b, tokens] has the tokens of each caption.
    """

    def __init__(self, unet: nn.Module, text_encoder: nn.Module, schedule: Tabulated, prediction: str) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.schedule, self.prediction = schedule, prediction

    def raw(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], context: Context) -> Tensor:
        """Return the network's output at x_t."""
        embedding = self.text_encoder(context["ids"])[0]
        output: Tensor = self.unet(x, self.schedule.level(t), encoder_hidden_states=embedding, return_dict=False)[0]
        return output

    def target(self, x0: Tensor, eps: Tensor, t: Float[Tensor, " b"]) -> Tensor:
        """Return the noise, the clean latent, or the velocity (Salimans and Ho 2022, arXiv:2202.00512, App. D)."""
        if self.prediction == "epsilon":
            return eps
        if self.prediction == "sample":
            return x0
        signal, level = self.schedule.alpha_squared, self.schedule.level(t)
        return per_row(signal.sqrt(), level, x0) * eps - per_row((1 - signal).sqrt(), level, x0) * x0


@dataclass
class ImageTrainee:
    """A pipeline with random weights, and its training set, which becomes latents once the autoencoder is trained."""

    design: ImageDesign
    images: ImageSet
    pipeline: Any
    denoiser: nn.Module
    batches: Sequence[Bucket] = field(default=(), init=False)
    sample_batch: ClassVar[int] = IMAGE_BATCH

    @property
    def progress_metrics(self) -> Mapping[str, str]:
        """Return the measured figures of the progress line, those of the data set."""
        return self.images.progress_metrics

    @property
    def space(self) -> Euclidean:
        """Return the space of latents."""
        return Euclidean()

    @property
    def loss(self) -> Loss:
        """Return the usual denoising loss."""
        return cast(Loss, denoising_loss)

    @property
    def summary(self) -> str:
        """Return the numbers of images and of parameters, the autoencoder's included."""
        parameters = count_parameters(*networks_of(self.pipeline).values())
        return f"{len(self.images.train)} images, {parameters:,} parameters"

    @property
    def description(self) -> Mapping[str, Any]:
        """Return the sizes, and the settings that decide the training set."""
        sizes = vars(self.design.sizes(list(self.images.words)))
        return {"domain": DOMAIN, **sizes, "vae_steps": self.design.vae_steps, "dropped": self.design.dropped}

    def warm_start(self, init: str) -> None:
        """Take over the weights of another pipeline, its autoencoder's included."""
        other, _ = load_pipeline(init, None, torch.float32)
        for name, network in networks_of(self.pipeline).items():
            state = getattr(other, name).state_dict()
            check_fits(network.state_dict(), state, f"the {name} to be trained (init={init})")
            network.load_state_dict(state)

    def check_sampling(self, sampling: SamplingSettings) -> None:
        """Raise ValueError for a grid power or for a number of steps that the scheduler does not have."""
        if sampling.grid_power is not None:
            raise ValueError(
                f"grid_power: got {sampling.grid_power}, need null: images have the grid of their scheduler"
            )
        diffusers_chain(self.pipeline.scheduler.config, sampling.num_steps, 1.0)

    def prepare(
        self, training: Pretraining, folder: Path, device: torch.device, should_stop: Callable[[], bool]
    ) -> None:
        """Train the autoencoder, continuing from the folder, and encode the training set with it."""
        vae, images = self.pipeline.vae.to(device), self.images.train
        ids = caption_ids(self.pipeline.tokenizer, images, self.design.dropped, training.seed)
        train_vae(vae, self.images.autoencoded or images, self.design, training, folder, should_stop)
        if should_stop():
            return
        if tests := self.images.held_out:
            print(
                f"autoencoder: PSNR {mean_psnr(vae, tests, device):.2f} dB on {len(tests)} held-out images", flush=True
            )
        latents = encode_images(vae, images, device)
        scale = 1 / float(latents.std())
        vae.register_to_config(scaling_factor=scale)
        self.batches = [Bucket(latents * scale, {"ids": ids})]

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write a pipeline in diffusers' format, its weights in the dtype of the design."""
        networks = networks_of(self.pipeline)
        current = {name: deepcopy(network.state_dict()) for name, network in networks.items()}
        self.denoiser.load_state_dict(dict(state))
        try:
            for network in networks.values():
                network.to(DTYPE_BY_NAME[self.design.dtype])
            self.pipeline.save_pretrained(folder, safe_serialization=True)
            write_prompts(self.images.texts, folder)
        finally:
            for name, network in networks.items():
                network.float().load_state_dict(current[name])

    def load(self, folder: Path, sampling: SamplingSettings) -> tuple[Policy, ImageDecoder]:
        """Load a pipeline, ready to draw images of the captions that reports are about, and to measure them."""
        pipeline, source = load_pipeline(str(folder), None, torch.float32)
        policy, _ = image_policy(
            pipeline,
            self.images.texts,
            num_steps=sampling.num_steps,
            eta=1.0,
            guidance_scale=self.design.guidance_scale,
            batch=IMAGE_BATCH,
            dtype=torch.float32,
            device=sampling.device,
        )
        return policy, ImageDecoder(pipeline=pipeline, source=source, texts=tuple(self.images.texts), batch=IMAGE_BATCH)


def networks_of(pipeline: Any) -> dict[str, nn.Module]:
    """Return the trained networks of a pipeline by their names."""
    return {name: getattr(pipeline, name) for name in ("unet", "vae", "text_encoder")}


def reconstruction_loss(
    vae: Any, _space: Space, x0: UInt8[Tensor, "b 3 h w"], _t: Tensor, noise: Tensor, _context: Context
) -> Float[Tensor, " b"]:
    """Return |x - decoded(z)| per number + KL_WEIGHT KL(q(z | x) || N(0, I)) (Rombach et al. 2022, Eq. 25).

    The latents' noise is the first part of the images' own, so that it is keyed as all noise.

    Args:
        x0: pixels in 8 bits.
    """
    x0 = scale_pixels(x0)
    posterior = vae.encode(x0).latent_dist
    latent_size = posterior.mean[0].numel()
    z = posterior.mean + posterior.std * noise.flatten(1)[:, :latent_size].view_as(posterior.mean)
    error = (vae.decode(z).sample - x0).abs().flatten(1).mean(1)
    loss: Tensor = error + KL_WEIGHT * posterior.kl()
    return loss


def train_vae(
    vae: Any,
    images: Sequence[CaptionedImage],
    design: ImageDesign,
    training: Pretraining,
    folder: Path,
    should_stop: Callable[[], bool],
) -> None:
    """Train the autoencoder and give it the averaged weights; at once where the folder has them already."""
    steps = design.vae_steps
    every = min(training.save_every, max(1, steps // 4))
    vae_training = replace(training, steps=steps, lr=design.vae_lr, cooldown=steps // 4, save_every=every)

    def report(metrics: Mapping[str, float], _: Mapping[str, Tensor]) -> None:
        error = f"error {metrics['loss']:.4f} of 2 (black to white), {metrics['seconds']:.0f} s"
        print(f"autoencoder: step {metrics['step']:.0f}/{steps}, {error}", flush=True)

    bucket = Bucket(stack_pixels(images), {})
    average = vae_training.run(
        vae.train(), Euclidean(), [bucket], folder / "vae", report, should_stop, reconstruction_loss
    )
    vae.load_state_dict(average)
    vae.requires_grad_(False).eval()


def stack_pixels(images: Sequence[CaptionedImage]) -> UInt8[Tensor, "b 3 h w"]:
    """Return the pixels of images in 8 bits."""
    return torch.from_numpy(np.stack([image.pixels for image in images])).permute(0, 3, 1, 2)


def scale_pixels(pixels: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Return pixels from -1 to 1, as an autoencoder takes them."""
    return pixels.float() / 127.5 - 1


@torch.no_grad()
def encode_images(vae: Any, images: Sequence[CaptionedImage], device: torch.device) -> Float[Tensor, "b c h w"]:
    """Return the means of the images' latents, on the CPU."""
    parts = [images[start : start + IMAGE_BATCH] for start in range(0, len(images), IMAGE_BATCH)]
    return torch.cat([vae.encode(scale_pixels(stack_pixels(part).to(device))).latent_dist.mean.cpu() for part in parts])


def caption_ids(tokenizer: Any, images: Sequence[CaptionedImage], dropped: float, seed: int) -> Int[Tensor, "b tokens"]:
    """Return the padded tokens of the images' captions, and of the empty caption for a fraction `dropped` of them.

    Raises:
        ConfigError: a caption is longer than the text encoder reads.
    """
    is_dropped = np.random.default_rng(seed).random(len(images)) < dropped
    texts = ["" if empty else image.prompt for empty, image in zip(is_dropped, images, strict=True)]
    rows: list[list[int]] = tokenizer(texts, padding="max_length", max_length=tokenizer.model_max_length).input_ids
    longest = max(range(len(rows)), key=lambda row: len(rows[row]))
    if len(rows[longest]) > tokenizer.model_max_length:
        raise ConfigError(
            f"model.tokens: got {tokenizer.model_max_length}, need {len(rows[longest])} for the caption "
            f"{texts[longest]!r} (words that occur once are spelt)"
        )
    return torch.tensor(rows)


@torch.no_grad()
def mean_psnr(vae: Any, images: Sequence[CaptionedImage], device: torch.device) -> float:
    """Return the mean over images of the autoencoder's PSNR, 10 log10(255^2 / mean squared error of 8-bit pixels)."""
    values = []
    for start in range(0, len(images), IMAGE_BATCH):
        pixels = stack_pixels(images[start : start + IMAGE_BATCH]).to(device)
        decoded = vae.decode(vae.encode(scale_pixels(pixels)).latent_dist.mean).sample
        error = ((decoded + 1) * 127.5).round().clamp(0, 255) - pixels
        values.append(20 * math.log10(255) - 10 * error.square().flatten(1).mean(1).clamp(min=1e-9).log10())
    return float(torch.cat(values).mean())
