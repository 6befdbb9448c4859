"""A small classifier of point clouds (PointNet: Qi et al. 2017, arXiv:1612.00593, without its alignment networks).

Classifiers of clean shapes call pure noise a chair with certainty, and a policy finds that. So this one is trained with
noise on its input, and has a class more than the data: what is no shape at all.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.models.shipped import MAX_WIDTH, locate
from molrl.runs import checkpoint
from molrl.runs.checkpoint import CheckpointError

DOMAIN = "shape classifier"


@dataclass(frozen=True, kw_only=True)
class ClassifierDesign:
    """What model.json says.

    Attributes:
        classes: their names, in the order of the outputs; one output more is for what is no shape.
        widths: of the layers that look at single points.
        hidden: width of the layer that looks at all.
    """

    classes: Sequence[str]
    widths: Sequence[int]
    hidden: int

    def __post_init__(self) -> None:
        sizes = [*self.widths, self.hidden, len(self.classes)]
        if not self.widths or not all(type(size) is int and 0 < size <= MAX_WIDTH for size in sizes):
            raise ValueError(f"widths {self.widths}, hidden {self.hidden}, {len(self.classes)} classes")

    def build(self) -> "PointClassifier":
        """With fresh weights."""
        return PointClassifier(self)


class PointClassifier(nn.Module):
    """Log-probabilities of classes of clouds in the unit box; neither the order nor repetitions of points matter."""

    def __init__(self, design: ClassifierDesign) -> None:
        super().__init__()
        self.design = design
        widths = [3, *design.widths]
        layers = [layer for wide, wider in pairwise(widths) for layer in (nn.Linear(wide, wider), nn.SiLU())]
        self.each = nn.Sequential(*layers[:-1])
        self.all = nn.Sequential(
            nn.Linear(widths[-1], design.hidden), nn.SiLU(), nn.Linear(design.hidden, len(design.classes) + 1)
        )

    def forward(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b k"]:
        """log p(class | cloud) for each class and, last, for none of them."""
        scores: Tensor = self.all(self.each(points).amax(1))
        return scores.log_softmax(-1)


def load_classifier(weights: str) -> PointClassifier:
    """Read a classifier, in evaluation mode and without gradients of its own: a shipped one by name, or a folder.

    Raises:
        CheckpointError: missing, altered, or not a classifier.
    """
    folder = locate(weights)
    tensors, values = checkpoint.load(folder)
    try:
        fields: dict[str, Any] = dict(values["model"])
        if fields.pop("domain") != DOMAIN:
            raise ValueError("made for something else")
        network, state = ClassifierDesign(**fields).build(), tensors["weights"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: not a shape classifier ({error})") from error
    checkpoint.check_fits(network.state_dict(), state, f"the network of {folder / 'model.json'}")
    network.load_state_dict(state)
    return network.eval().requires_grad_(requires_grad=False)


def save_classifier(folder: Path, network: PointClassifier) -> None:
    """Write a classifier that `load_classifier` reads."""
    checkpoint.save(folder, {"weights": network.state_dict()}, {"model": {"domain": DOMAIN, **asdict(network.design)}})


def batched(clouds: Sequence[Float[Tensor, "_ 3"]]) -> Float[Tensor, "b n 3"]:
    """Clouds of different sizes as one tensor; of the smaller ones a point is repeated, which changes nothing."""
    most = max(len(cloud) for cloud in clouds)
    return torch.stack([torch.cat([cloud, cloud[:1].expand(most - len(cloud), 3)]) for cloud in clouds])
