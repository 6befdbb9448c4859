"""The task of fine-tuning a model of point clouds toward a reward: the group `task=` for shapes."""

from collections.abc import Callable, Sequence

import torch

from molrl.data.shapes.sets import ShapeSet
from molrl.models.shapes.decoder import RealShapes, ShapeDecoder
from molrl.models.shapes.policy import ShapePolicy
from molrl.models.shapes.records import ShapeRecords
from molrl.models.shapes.value import ShapeValue
from molrl.task import Reward, Task


def shape_task(
    *,
    name: str,
    policy: ShapePolicy,
    classes: str | Sequence[str] | None,
    data: Callable[..., ShapeSet] | None,
    records: str | None,
    reward: Reward,
    device: torch.device,
) -> Task:
    """Return the task of fine-tuning a model of point clouds toward a reward.

    Args:
        name: what reports call it.
        policy: the model and how it is sampled.
        classes: those to draw, one or several; None: all.
        data: a set of real shapes, for the algorithms that learn from some.
        records: a file or folder of shapes that preferences are about.
        reward: of finished shapes.
        device: of the network and its states.
    """
    model = policy.model
    decoder = ShapeDecoder(model=model, points=policy.points, classes=classes)
    return Task(
        name=name,
        policy=policy.build(device),
        decoder=decoder,
        reward=reward,
        device=device,
        value_network=lambda: ShapeValue(len(model.architecture.classes)),
        data=None if data is None else RealShapes(data, decoder),
        records=None if records is None else ShapeRecords(records, decoder),
    )
