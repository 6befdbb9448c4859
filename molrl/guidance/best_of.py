"""Best-of-n sampling: the best of several plain samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from molrl.algos import checks
from molrl.guidance.protocol import GuidedSamples
from molrl.noise import Key
from molrl.task import Task


def best_of_kl(n: int) -> float:
    """Compute KL(best of n || model) = log n - (n - 1) / n, in nats, exact for rewards without ties.

    Ties make it smaller (Beirami et al. 2024, arXiv:2401.01879).
    """
    return math.log(n) - (n - 1) / n


@dataclass(frozen=True, kw_only=True)
class BestOf:
    """Best-of-n sampling: the best of several plain samples, each with a condition of its own.

    Attributes:
        of: n, samples drawn and scored for each that is kept.
    """

    of: int

    def __post_init__(self) -> None:
        checks.require_positive(of=self.of)

    def draw(self, task: Task, samples: Sequence[int], key: Key) -> GuidedSamples:
        """Draw sample i as the best of the plain samples i n to i n + n - 1; the first where none has a reward."""
        rollouts = task.rollout([index * self.of + k for index in samples for k in range(self.of)], key)
        rewards = rollouts.rewards.nan_to_num(-torch.inf).view(-1, self.of)
        best = (rewards.argmax(1) + self.of * torch.arange(len(rewards), device=rewards.device)).tolist()
        chosen = [rollouts.samples[row] for row in best]
        return GuidedSamples(chosen, len(rollouts.samples), {"KL to the model in nats at most": best_of_kl(self.of)})
