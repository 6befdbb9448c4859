"""A small convolutional classifier of the shape of a scene's figures (after LeCun et al. 1998, doi:10.1109/5.726791).

A policy that is trained toward a classifier finds its blind spots. So it is trained with noise, has one class
more than there are shapes, for images that show none of them alone, and a second one is there to judge.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.data.images.image import CaptionedImage
from molrl.models.description import with_header
from molrl.models.loading import load_network
from molrl.models.shipped import MAX_WIDTH, locate
from molrl.runs import checkpoint

DOMAIN = "image classifier"
GROUPS = 4  # of channels that are normalised together


@dataclass(frozen=True, kw_only=True)
class ImageClassifierDesign:
    """The fields of a classifier's model.json.

    Attributes:
        classes: names of the classes, in the order of the outputs; one more output is for images of none of them.
        widths: channels of the convolutions, each of which halves the image.
        kernel: pixels of an edge of their kernels, odd.
    """

    classes: Sequence[str]
    widths: Sequence[int]
    kernel: int

    def __post_init__(self) -> None:
        sizes = [*self.widths, len(self.classes)]
        if not self.widths or not all(type(size) is int and 0 < size <= MAX_WIDTH for size in sizes):
            raise ValueError(f"widths {self.widths}, {len(self.classes)} classes")
        if any(width % GROUPS for width in self.widths) or self.kernel not in (3, 5, 7):
            raise ValueError(f"widths {self.widths}, need multiples of {GROUPS}; kernel {self.kernel}, need 3, 5 or 7")

    def build(self) -> "ImageClassifier":
        """Return a classifier with freshly initialised weights."""
        return ImageClassifier(self)


class ImageClassifier(nn.Module):
    """Log-probabilities of the classes of images of any size."""

    def __init__(self, design: ImageClassifierDesign) -> None:
        super().__init__()
        self.design = design
        layers: list[nn.Module] = []
        for before, after in pairwise([3, *design.widths]):
            convolution = nn.Conv2d(before, after, design.kernel, stride=2, padding=design.kernel // 2)
            layers += [convolution, nn.GroupNorm(GROUPS, after), nn.SiLU()]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(2 * design.widths[-1], len(design.classes) + 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Return log p(class | image) for each class and, last, for none of them, of pixels in [0, 1]."""
        features = self.convolutions(2 * images - 1).flatten(2)
        logits: Tensor = self.head(torch.cat([features.mean(2), features.amax(2)], 1))
        return logits.log_softmax(-1)


def load_image_classifier(weights: str) -> ImageClassifier:
    """Read a classifier in evaluation mode, by its name or folder; its parameters have no gradients.

    Raises:
        CheckpointError: missing, altered, of another format, or not a classifier of images.
    """
    network, _ = load_network(
        locate(weights), DOMAIN, lambda fields: ImageClassifierDesign(**fields).build(), lambda built: built
    )
    return network.requires_grad_(requires_grad=False)


def save_image_classifier(folder: Path, network: ImageClassifier) -> None:
    """Write a classifier's folder for `load_image_classifier`."""
    description = with_header(DOMAIN, asdict(network.design))
    checkpoint.save(folder, {"weights": network.state_dict()}, {"model": description})


def stack_images(images: Sequence[CaptionedImage]) -> Float[Tensor, "b 3 h w"]:
    """Return the pixels of images of one size in [0, 1]."""
    return torch.from_numpy(np.stack([image.unit for image in images])).permute(0, 3, 1, 2)
