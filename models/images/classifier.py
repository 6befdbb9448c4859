"""A small classifier of images: convolutions with group normalisation, their mean over the image, and a linear layer.

It is trained with noise and blur on its input, and has one class more than the data: what shows none of them. A
classifier of clean images alone is certain of the class of pure noise, and a policy finds that out.
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
GROUP_SIZE = 8  # channels that are normalised together


@dataclass(frozen=True, kw_only=True)
class ImageClassifierDesign:
    """The fields of a classifier's model.json.

    Attributes:
        classes: names of the classes, in the order of the outputs; one more output is for what shows none of them.
        edge: of its input, in pixels; other images are resized.
        widths: channels of the convolutions, each of which halves the image; multiples of GROUP_SIZE.
    """

    classes: Sequence[str]
    edge: int
    widths: Sequence[int]

    def __post_init__(self) -> None:
        sizes = [*self.widths, self.edge, len(self.classes)]
        if not self.widths or not all(type(size) is int and 0 < size <= MAX_WIDTH for size in sizes):
            raise ValueError(f"widths {self.widths}, edge {self.edge}, {len(self.classes)} classes")
        if any(width % GROUP_SIZE for width in self.widths) or self.edge >> len(self.widths) < 1:
            raise ValueError(f"widths {self.widths}, edge {self.edge}: need multiples of {GROUP_SIZE}, and pixels left")

    def build(self) -> "ImageClassifier":
        """Return a classifier with freshly initialised weights."""
        return ImageClassifier(self)


class ImageClassifier(nn.Module):
    """Log-probabilities of the classes of images from -1 to 1."""

    def __init__(self, design: ImageClassifierDesign) -> None:
        super().__init__()
        self.design = design
        layers: list[nn.Module] = []
        for before, after in pairwise([3, *design.widths]):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1)
            layers += [convolution, nn.GroupNorm(after // GROUP_SIZE, after), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(design.widths[-1], len(design.classes) + 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Return log p(class | image) for each class and, last, for none of them."""
        logits: Tensor = self.head(self.body(images).mean((2, 3)))
        return logits.log_softmax(-1)

    def stack(self, images: Sequence[CaptionedImage]) -> Float[Tensor, "b 3 h w"]:
        """Return images as the network takes them: from -1 to 1 and of its size (area average or bilinear)."""
        return torch.cat([to_edge(image, self.design.edge) for image in images])


def to_edge(image: CaptionedImage, edge: int) -> Float[Tensor, "1 3 h w"]:
    """Return an image from -1 to 1 in edge x edge pixels."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.unit.transpose(2, 0, 1)))[None] * 2 - 1
    if pixels.shape[2:] == (edge, edge):
        return pixels
    return nn.functional.interpolate(pixels, (edge, edge), mode="bilinear", antialias=True)


def load_image_classifier(weights: str) -> ImageClassifier:
    """Read a classifier in evaluation mode, by its name or folder; its parameters have no gradients.

    Raises:
        CheckpointError: missing, altered, of another format, or not a classifier.
    """
    network, _ = load_network(
        locate(weights), DOMAIN, lambda fields: ImageClassifierDesign(**fields).build(), lambda built: built
    )
    return network.requires_grad_(requires_grad=False)


def save_image_classifier(folder: Path, network: ImageClassifier) -> None:
    """Write a classifier's folder for `load_image_classifier`."""
    description = with_header(DOMAIN, asdict(network.design))
    checkpoint.save(folder, {"weights": network.state_dict()}, {"model": description})
