"""Prompts, decoding, metrics and files of image samples."""

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
from molrl.exhibit import Counts, Exhibit
from molrl.gaussian import Context
from molrl.machine.files import staged
from molrl.machine.printable import printable
from molrl.models.images.exhibits import count_makeup, exhibit_image
from molrl.models.images.families.family import Size
from molrl.models.images.guided_network import GuidedNetwork
from molrl.models.images.outcomes import DESCRIPTORS, describe_image
from molrl.models.images.pipeline import save_trained
from molrl.models.images.pipeline_parts import decode_latents, latent_shape
from molrl.models.images.source import Source
from molrl.noise import Key

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class ImageDecoder:
    """A decoder of latents to images, each of a prompt that is drawn before the noise.

    Attributes:
        pipeline: a text-to-image pipeline, whose autoencoder makes images of latents.
        source: where the pipeline was loaded from.
        texts: prompts, all equally likely; `context["prompt"]` has the row of each sample.
        batch: number of images that are decoded at a time.
        size: height and width of an image in pixels; None: the pipeline's own.
    """

    pipeline: Any
    source: Source
    texts: tuple[str, ...]
    batch: int
    size: Size | None = None
    suffixes: ClassVar[tuple[str, ...]] = (".zip", ".png")
    descriptors: ClassVar[tuple[str, ...]] = DESCRIPTORS

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """Draw a prompt for each sample and return its row in `texts`, as `context["prompt"]` [b]."""
        rows = [int(key.generator(sample, 0).integers(len(self.texts))) for sample in samples]
        return {"prompt": torch.tensor(rows, dtype=torch.long)}

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """Return the shape [channels, height, width] of a latent."""
        return latent_shape(self.pipeline, self.size)

    def decode(self, x0: Float[Tensor, "b c h w"], context: Context) -> Sequence[Any]:
        """Decode latents to images with their prompts.

        Latents that require a gradient become tensors [3, height, width] in [0, 1] that carry it, for differentiable
        rewards.
        """
        if x0.requires_grad:
            return list(self.decode_latents(x0))
        prompts = context["prompt"].tolist()
        with torch.no_grad():
            parts = [self.decode_latents(part).permute(0, 2, 3, 1).cpu().numpy() for part in x0.split(self.batch)]
        arrays = [image for part in parts for image in part]
        return [quantise(array, self.texts[row]) for array, row in zip(arrays, prompts, strict=True)]

    def decode_latents(self, x0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 height width"]:
        """Return the autoencoder's images of latents, in [0, 1]."""
        return decode_latents(self.pipeline, x0)

    def groups(self, context: Context) -> list[int]:
        """Return each sample's row in `texts` as its group."""
        return context["prompt"].tolist()

    def describe(self, samples: Sequence[Any]) -> list[Mapping[str, str]]:
        """Return the descriptors of each image for `molrl.diversity`; see `describe_image`."""
        return [describe_image(sample) for sample in samples]

    def measure(self, samples: Sequence[CaptionedImage]) -> Mapping[str, float]:
        """Compute the metrics of `image_metrics`, in every round."""
        return image_metrics(samples)

    def assess(self, samples: Sequence[CaptionedImage]) -> Mapping[str, float]:
        """Compute the metrics of `measure`, before and after a run."""
        return self.measure(samples)

    def describe_changes(self, before: Mapping[str, float], after: Mapping[str, float], n: int) -> list[str]:
        """Return no sentence: the metrics say all there is."""
        return []

    def exhibit(self, samples: Sequence[CaptionedImage]) -> list[Exhibit]:
        """Return small copies of the images with their prompts, for a report."""
        return [exhibit_image(sample) for sample in samples]

    def count_makeup(self, samples: Sequence[CaptionedImage]) -> Mapping[str, Counts]:
        """Return how often prompts and degrees of brightness occur, for a report."""
        return count_makeup(samples)

    def write(self, samples: Sequence[CaptionedImage], path: Path, values: Mapping[str, Sequence[float]]) -> int:
        """Write the images to a file and return the number of sound ones.

        A .zip holds PNG files (0.png, 1.png and so on) and index.tsv with the file, the prompt and the values of each
        image. A .png is one grid of all images.
        """
        readable = sum(not sample.flaw for sample in samples)
        if path.suffix == ".png":
            with staged(path) as whole:
                self.draw(samples, [""] * len(samples)).save(whole, "PNG")
            return readable
        from PIL import Image as Images

        lines = ["\t".join(("file", "prompt", *values))]
        with staged(path) as whole, zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
            for row, sample in enumerate(samples):
                file = io.BytesIO()
                Images.fromarray(sample.pixels).save(file, "PNG")
                archive.writestr(f"{row}.png", file.getvalue())
                numbers = (f"{column[row]:.6g}" for column in values.values())
                lines.append("\t".join((f"{row}.png", printable(" ".join(sample.prompt.split())), *numbers)))
            archive.writestr("index.tsv", "\n".join(lines) + "\n")
        return readable

    def draw(self, samples: Sequence[CaptionedImage], captions: Sequence[str]) -> "Image":
        """Draw a grid of the images with their prompts and captions."""
        from molrl.data.images.grid import draw_images

        lines = [f"{sample.prompt}\n{caption}".strip() for sample, caption in zip(samples, captions, strict=True)]
        return draw_images(samples, lines)

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """Write the trained weights to a folder, in the format of diffusers."""
        assert isinstance(denoiser, GuidedNetwork)
        save_trained(denoiser, self.pipeline, self.source, folder)
