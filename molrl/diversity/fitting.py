"""A run's memory of variety: fitted to its task, and given the shares of the pretrained model."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from molrl.diversity import Diversity
from molrl.diversity.shaped_reward import ShapedReward
from molrl.noise import Key
from molrl.policy import Policy
from molrl.task import Task

BATCH = 256  # samples of the pretrained model that are drawn at a time


def fit_to_task(task: Task, diversity: Diversity | None) -> Task:
    """Return the task with the reward that algorithms learn from; the memory is a copy, for this run alone.

    Raises:
        ValueError: the domain has no such descriptors.
    """
    if diversity is None:
        return task
    known: Sequence[str] = getattr(task.decoder, "descriptors", ())
    unknown = [name for name in diversity.descriptors if name not in known]
    if unknown:
        allowed = ", ".join(known) or "none"
        raise ValueError(f"diversity: task {task.name!r} has no descriptor {', '.join(unknown)}; known are {allowed}")
    describe = task.decoder.describe  # type: ignore[attr-defined]
    return replace(task, reward=ShapedReward(task.reward, describe, copy.deepcopy(diversity)))


def measure_reference(task: Task, reference: Policy, key: Key) -> None:
    """Measure the shares that the pretrained model gives each descriptor, where they are wanted."""
    shaped = task.reward
    count = shaped.diversity.reference_samples if isinstance(shaped, ShapedReward) else 0
    if not (count and isinstance(shaped, ShapedReward)):
        return
    plain, described = replace(task, policy=reference, reward=unscored), list[Any]()
    for start in range(0, count, BATCH):
        drawn = plain.rollout(list(range(start, min(start + BATCH, count))), key)
        described.extend(shaped.describe(drawn.samples))
    shaped.diversity.set_reference(described)


def unscored(samples: Sequence[Any]) -> Tensor:
    """Return no reward for any sample."""
    return torch.full((len(samples),), torch.nan)
