"""What a classifier takes shapes for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from molrl.data.shapes.cloud import PointCloud
from molrl.models.shapes.classifier import batched, load_classifier
from molrl.rewards.shapes.body import UnsoundError, trace_body

BATCH = 64


def recognised(samples: Sequence[PointCloud], judge: str) -> tuple[int, int]:
    """How many samples have a class that the classifier knows, and how many of them it takes for that one.

    What is no sound shape is taken for none.

    Args:
        judge: a classifier, shipped or a folder.
    """
    network = load_classifier(judge)
    classes = list(network.design.classes)
    known = [sample for sample in samples if sample.label in classes]
    bodies: list[Tensor] = []
    wanted: list[int] = []
    for sample in known:
        try:
            bodies.append(trace_body(torch.from_numpy(sample.points))[0].float())
        except UnsoundError:
            continue
        wanted.append(classes.index(sample.label))
    parts = (bodies[start : start + BATCH] for start in range(0, len(bodies), BATCH))
    found = [number for part in parts for number in network(batched(part)).argmax(-1).tolist()]
    return len(known), sum(number == label for number, label in zip(found, wanted, strict=True))
