"""Accuracy of the classes of shapes, by a classifier that they were not trained with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from molrl.data.shapes.cloud import PointCloud
from molrl.models.shapes.classifier import load_classifier, stack_point_clouds
from molrl.rewards.shapes.body import UnsoundError, trace_body

BATCH = 64


def count_recognised(samples: Sequence[PointCloud], judge: str) -> tuple[int, int]:
    """Return how many samples have a class that the classifier knows, and how many of them it takes for that class.

    A sample that is no sound shape is taken for none.

    Args:
        judge: a classifier, shipped or a folder.
    """
    network = load_classifier(judge)
    classes = list(network.design.classes)
    labelled = [sample for sample in samples if sample.label in classes]
    bodies: list[Tensor] = []
    labels: list[int] = []
    for sample in labelled:
        try:
            bodies.append(trace_body(torch.from_numpy(sample.points))[0].float())
        except UnsoundError:
            continue
        labels.append(classes.index(sample.label))
    batches = (bodies[start : start + BATCH] for start in range(0, len(bodies), BATCH))
    predicted = [number for batch in batches for number in network(stack_point_clouds(batch)).argmax(-1).tolist()]
    return len(labelled), sum(number == label for number, label in zip(predicted, labels, strict=True))
