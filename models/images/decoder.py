"""Images as a domain of the trainers: what is asked for, how a latent is decoded, what is measured."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.data.images.image import CaptionedImage, quantise
from molrl.data.images.metrics import image_metrics
from molrl.gaussian import Context
from molrl.models.images.guided_unet import GuidedUNet
from molrl.models.images.pipeline import Source, save_trained
from molrl.noise import Key

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
    suffixes: ClassVar[tuple[str, ...]] = (".zip", ".png")

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

    def write(self, samples: Sequence[CaptionedImage], path: Path, values: Mapping[str, Sequence[float]]) -> int:
        """Write a ZIP of PNG files, 0.png and on, with index.tsv: file, prompt and the values of each; or, for a .png,
        one image of them all. Return the number of sound images.
        """
        readable = sum(not sample.flaw for sample in samples)
        if path.suffix == ".png":
            self.draw(samples, [""] * len(samples)).save(path)
            return readable
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
        return readable

    def draw(self, samples: Sequence[CaptionedImage], captions: Sequence[str]) -> "Image":
        """A grid of the images with their prompts."""
        from molrl.data.images.grid import draw_images

        lines = [f"{sample.prompt}\n{caption}".strip() for sample, caption in zip(samples, captions, strict=True)]
        return draw_images(samples, lines)

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """What was trained, in diffusers' format."""
        assert isinstance(denoiser, GuidedUNet)
        save_trained(denoiser, self.pipeline, self.source, folder)
