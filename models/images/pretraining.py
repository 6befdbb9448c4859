"""What pretraining needs of images: an autoencoder trained first, and then the small pipeline's UNet and text encoder
in its latents (latent diffusion: Rombach et al. 2022, arXiv:2112.10752).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.config import ConfigError, settings
from molrl.data.images.drawings import WORDS
from molrl.data.images.image import CaptionedImage
from molrl.data.images.sets import ImageSet
from molrl.gaussian import Context, Euclidean, Space
from molrl.machine.device import choose_device
from molrl.machine.interruption import patient
from molrl.machine.memory import enough_memory
from molrl.models.draws import draw_samples
from molrl.models.images.decoder import ImageDecoder
from molrl.models.images.diffusers_library import require_extra
from molrl.models.images.pipeline import load_pipeline
from molrl.models.images.policy import image_policy
from molrl.models.images.scheduler_chain import diffusers_chain
from molrl.models.images.small_pipeline import PipelineDesign, small_pipeline
from molrl.models.molecules.pretraining import FREE, refuse_other_data, refuse_other_model
from molrl.pretrain import Bucket, Pretraining
from molrl.runs.checkpoint import check_fits
from molrl.runs.folder import claim, refuse_another
from molrl.runs.tracking import append_row
from molrl.schedule import Tabulated

KL_WEIGHT = 1e-6  # of the autoencoder's latents to N(0, I), per number (Rombach et al. 2022, Sec. G)
CHUNK = 64  # images that are encoded at a time


@dataclass(frozen=True)
class ImageDesign:
    """A pipeline before it has met its data.

    Attributes:
        sizes: of the pipeline.
        vae_steps: steps of training of the autoencoder, which comes first.
        vae_lr: its learning rate.
        dropped: share of images that are trained with the empty caption, for guidance.
        guidance_scale: of the samples in reports.
    """

    sizes: PipelineDesign
    vae_steps: int
    vae_lr: float
    dropped: float
    guidance_scale: float


def image_design(
    *,
    image_size: int,
    tokens: int,
    vae: Sequence[int],
    latent: int,
    unet: Sequence[int],
    text: int,
    prediction: str,
    vae_steps: int,
    vae_lr: float,
    dropped: float,
    guidance_scale: float,
) -> ImageDesign:
    """A design from plain numbers, with the words of the drawings' captions as tokens."""
    if vae_steps < 1 or not vae_lr > 0:
        raise ValueError(f"vae_steps, vae_lr: got {vae_steps}, {vae_lr}; need at least 1 and a number above 0")
    if not 0 <= dropped < 1:
        raise ValueError(f"dropped: got {dropped}, allowed 0 to below 1")
    sizes = PipelineDesign(
        words=WORDS,
        tokens=tokens,
        image_size=image_size,
        vae=list(vae),
        latent=latent,
        unet=list(unet),
        text=text,
        prediction=prediction,
    )
    return ImageDesign(sizes, vae_steps, vae_lr, dropped, guidance_scale)


def reconstruction_loss(
    vae: Any, _space: Space, x0: Float[Tensor, "b c h w"], _t: Tensor, noise: Tensor, _context: Context
) -> Float[Tensor, " b"]:
    """|x - decoded(z)| + KL_WEIGHT KL(q(z | x) || N(0, I)), both per number (Rombach et al. 2022, Eq. 25).

    The latents' noise is the first part of the images' own, so that it is keyed as all noise.
    """
    seen = vae.encode(x0).latent_dist
    numbers = seen.mean[0].numel()
    z = seen.mean + seen.std * noise.flatten(1)[:, :numbers].view_as(seen.mean)
    error = (vae.decode(z).sample - x0).abs().flatten(1).mean(1)
    found: Tensor = error + KL_WEIGHT * seen.kl()
    return found


class TextDenoiser(nn.Module):
    """A pipeline's UNet and text encoder, trained together: a `molrl.pretrain.Preconditioner` for latents.

    `context["ids"]` [b, tokens] has the tokens of each caption.
    """

    def __init__(self, unet: nn.Module, text_encoder: nn.Module, schedule: Tabulated, prediction: str) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.schedule, self.prediction = schedule, prediction

    def raw(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], context: Context) -> Tensor:
        """The network's output at x_t."""
        told = self.text_encoder(context["ids"])[0]
        output: Tensor = self.unet(x, self.schedule.level(t), encoder_hidden_states=told, return_dict=False)[0]
        return output

    def target(self, x0: Tensor, eps: Tensor, t: Float[Tensor, " b"]) -> Tensor:
        """The noise, the clean latent, or the velocity (Salimans and Ho 2022, arXiv:2202.00512, App. D)."""
        if self.prediction == "epsilon":
            return eps
        if self.prediction == "sample":
            return x0
        signal = self.schedule.alpha_squared.to(t.device)[self.schedule.level(t)].view(-1, 1, 1, 1)
        velocity: Tensor = signal.sqrt().to(x0.dtype) * eps - (1 - signal).sqrt().to(x0.dtype) * x0
        return velocity


def pretrain_images(
    *,
    model: ImageDesign,
    data: Callable[..., ImageSet],
    training: Pretraining,
    run: str,
    init: str | None,
    device: str,
    evaluate: int,
    num_steps: int,
    grid_power: float | None,
    config: Mapping[str, Any],
) -> int:
    """`molrl pretrain model=images`: train autoencoder, UNet and text encoder, report how well drawings fit their
    captions along the way, and leave a pipeline in diffusers' format in the run folder.

    With `init`, training starts from the weights of that pipeline instead of random ones. `config` is what all this was
    composed as; the folder keeps it. The scheduler has its own grid, so that there is no `grid_power`.
    """
    require_extra()
    if grid_power is not None:
        raise ConfigError(f"grid_power: got {grid_power}, need null: images have the grid of their scheduler")
    place = choose_device(device)
    refuse_another(config, FREE)
    refuse_other_data(data, "edge", "images")
    with settings("data"):
        images = data(edge=model.sizes.image_size)
    torch.manual_seed(training.seed)
    with settings("model"):
        pipeline = small_pipeline(model.sizes)
        chain = diffusers_chain(pipeline.scheduler.config, num_steps, 1.0)
    if init is not None:
        warm_start(pipeline, init)
    folder = Path(run)
    parameters = sum(p.numel() for part in parts_of(pipeline).values() for p in part.parameters())
    print(f"{folder}: {len(images.train)} images, {parameters:,} parameters, {training.steps} steps", flush=True)
    with claim(config, FREE), patient("this step") as request, enough_memory("training.batch or evaluate"):
        refuse_other_model(folder, described(model))
        train_vae(pipeline.vae.to(place), images.train, model, training, folder, request.is_set)
        request.raise_if_requested()
        latents = encoded(pipeline.vae, images.train, place)
        scale = 1 / float(latents.std())
        pipeline.vae.register_to_config(scaling_factor=scale)
        ids = token_ids(pipeline.tokenizer, images.train, model.dropped, training.seed)
        denoiser = TextDenoiser(pipeline.unet, pipeline.text_encoder, chain.schedule, chain.prediction).to(place)
        report = Report(pipeline, denoiser, model, training, folder, evaluate, num_steps, images.texts)
        training.run(denoiser, Euclidean(), [Bucket(latents * scale, {"ids": ids})], folder, report, request.is_set)
    request.raise_if_requested()
    print(f"model: {folder / 'model'}")
    return 0


def described(model: ImageDesign) -> dict[str, Any]:
    """What a folder's training must be of, to be gone on with."""
    return {"domain": "images", **vars(model.sizes), "vae_steps": model.vae_steps, "dropped": model.dropped}


def parts_of(pipeline: Any) -> dict[str, nn.Module]:
    """The networks of a pipeline."""
    return {name: getattr(pipeline, name) for name in ("unet", "vae", "text_encoder")}


def warm_start(pipeline: Any, weights: str) -> None:
    """Take over another pipeline's weights."""
    other, _ = load_pipeline(weights, None, torch.float32)
    for name, part in parts_of(pipeline).items():
        state = getattr(other, name).state_dict()
        check_fits(part.state_dict(), state, f"the {name} to be trained (init={weights})")
        part.load_state_dict(state)


def train_vae(
    vae: Any,
    images: Sequence[CaptionedImage],
    model: ImageDesign,
    training: Pretraining,
    folder: Path,
    should_stop: Callable[[], bool],
) -> None:
    """The autoencoder, with the averaged weights of its training; at once where that is done."""
    steps = model.vae_steps
    own = replace(training, steps=steps, lr=model.vae_lr, cooldown=steps // 4, save_every=max(1, steps // 4))

    def report(metrics: Mapping[str, float], _: Mapping[str, Tensor]) -> None:
        error = f"error {metrics['loss']:.4f} of 2 (black to white), {metrics['seconds']:.0f} s"
        print(f"autoencoder: step {metrics['step']:.0f}/{steps}, {error}", flush=True)

    bucket = Bucket(signed(images), {})
    vae.load_state_dict(
        own.run(vae.train(), Euclidean(), [bucket], folder / "vae", report, should_stop, reconstruction_loss)
    )
    vae.requires_grad_(False).eval()


def signed(images: Sequence[CaptionedImage]) -> Float[Tensor, "b 3 h w"]:
    """Pixels from -1 to 1, as an autoencoder takes them."""
    arrays = np.stack([image.pixels for image in images])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def encoded(vae: Any, images: Sequence[CaptionedImage], device: torch.device) -> Float[Tensor, "b c h w"]:
    """The means of the images' latents, on the CPU."""
    parts = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    return torch.cat([vae.encode(signed(part).to(device)).latent_dist.mean.cpu() for part in parts])


def token_ids(tokenizer: Any, images: Sequence[CaptionedImage], dropped: float, seed: int) -> Int[Tensor, "b tokens"]:
    """The tokens of the captions, padded; of the empty one for some of the images."""
    away = np.random.default_rng(seed).random(len(images)) < dropped
    texts = ["" if gone else image.prompt for gone, image in zip(away, images, strict=True)]
    made = tokenizer(texts, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
    ids: Tensor = made.input_ids
    return ids


@dataclass(frozen=True)
class Report:
    """Saves the averaged weights as a pipeline, draws with it, and says how many images show what they should."""

    pipeline: Any
    denoiser: TextDenoiser
    model: ImageDesign
    training: Pretraining
    folder: Path
    evaluate: int
    num_steps: int
    texts: Sequence[str]

    def __call__(self, metrics: Mapping[str, float], average: Mapping[str, Tensor]) -> None:
        """One row of pretrain.jsonl and one line on the screen."""
        kept = {name: value.clone() for name, value in self.denoiser.state_dict().items()}
        self.denoiser.load_state_dict(dict(average))
        try:
            self.pipeline.save_pretrained(self.folder / "model", safe_serialization=True)
        finally:
            self.denoiser.load_state_dict(kept)
        found = self.measured(next(iter(kept.values())).device)
        row = {**metrics, **{name: None if math.isnan(value) else value for name, value in found.items()}}
        append_row(self.folder / "pretrain.jsonl", row, "step")
        right = ", ".join(f"{name} {found[name]:.2f}" for name in ("right_colour", "right_shape", "right_background"))
        print(
            f"step {metrics['step']:.0f}/{self.training.steps} loss {metrics['loss']:.4f} {right}, all "
            f"{found['right']:.2f}, {metrics['seconds']:.0f} s",
            flush=True,
        )

    def measured(self, device: torch.device) -> dict[str, float]:
        """Of fresh samples of the saved pipeline."""
        fresh, source = load_pipeline(str(self.folder / "model"), None, torch.float32)
        policy, _ = image_policy(
            fresh,
            self.texts,
            num_steps=self.num_steps,
            eta=1.0,
            guidance_scale=self.model.guidance_scale,
            batch=CHUNK,
            dtype=torch.float32,
            device=device,
        )
        decoder = ImageDecoder(pipeline=fresh, source=source, texts=tuple(self.texts), batch=CHUNK)
        drawn = draw_samples(policy, decoder, self.evaluate, seed=self.training.seed, batch=CHUNK, device=device)
        return {**decoder.measure(drawn)}
