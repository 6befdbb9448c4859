"""A small classifier of point clouds (PointNet: Qi et al. 2017, arXiv:1612.00593, without its alignment networks).

A classifier of clean shapes calls pure noise a chair with certainty, and a policy finds that out. So this one is
trained with noise on its input, and has one class more than the data: what is no shape at all.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.models.description import with_header
from molrl.models.loading import load_network
from molrl.models.shipped import MAX_WIDTH, locate
from molrl.runs import checkpoint

DOMAIN = "shape classifier"


@dataclass(frozen=True, kw_only=True)
class ClassifierDesign:
    """The fields of a classifier's model.json.

    Attributes:
        classes: names of the classes, in the order of the outputs; one more output is for what is no shape.
        widths: widths of the layers of the MLP that all points share.
        hidden: width of the hidden layer after the maximum over the points.
    """

    classes: Sequence[str]
    widths: Sequence[int]
    hidden: int

    def __post_init__(self) -> None:
        sizes = [*self.widths, self.hidden, len(self.classes)]
        if not self.widths or not all(type(size) is int and 0 < size <= MAX_WIDTH for size in sizes):
            raise ValueError(f"widths {self.widths}, hidden {self.hidden}, {len(self.classes)} classes")

    def build(self) -> "PointClassifier":
        """Return a classifier with freshly initialised weights."""
        return PointClassifier(self)


class PointClassifier(nn.Module):
    """Log-probabilities of classes of clouds in the unit box; neither the order nor repetitions of points matter."""

    def __init__(self, design: ClassifierDesign) -> None:
        super().__init__()
        self.design = design
        widths = [3, *design.widths]
        layers = [layer for before, after in pairwise(widths) for layer in (nn.Linear(before, after), nn.SiLU())]
        self.point_mlp = nn.Sequential(*layers[:-1])
        self.head = nn.Sequential(
            nn.Linear(widths[-1], design.hidden), nn.SiLU(), nn.Linear(design.hidden, len(design.classes) + 1)
        )

    def forward(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b k"]:
        """Return log p(class | points) for each class and, last, for none of them."""
        logits: Tensor = self.head(self.point_mlp(points).amax(1))
        return logits.log_softmax(-1)


def load_classifier(weights: str) -> PointClassifier:
    """Read a classifier in evaluation mode, by its name or folder; its parameters have no gradients.

    Raises:
        CheckpointError: missing, altered, of another format, or not a classifier.
    """
    network, _ = load_network(
        locate(weights), DOMAIN, lambda fields: ClassifierDesign(**fields).build(), lambda built: built
    )
    return network.requires_grad_(requires_grad=False)


def save_classifier(folder: Path, network: PointClassifier) -> None:
    """Write a classifier's folder for `load_classifier`."""
    description = with_header(DOMAIN, asdict(network.design))
    checkpoint.save(folder, {"weights": network.state_dict()}, {"model": description})


def stack_point_clouds(clouds: Sequence[Float[Tensor, "_ 3"]]) -> Float[Tensor, "b n 3"]:
    """Return clouds as one tensor; smaller ones repeat a point, which does not change their maximum over the points."""
    size = max(len(cloud) for cloud in clouds)
    return torch.stack([torch.cat([cloud, cloud[:1].expand(size - len(cloud), 3)]) for cloud in clouds])
