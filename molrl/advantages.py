"""From rewards to advantages: how much better a sample is than what was to be expected.

Rewards that are NaN (could not be scored) take no part in any statistic, and have advantage NaN: their steps are
dropped before the loss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.task import Metrics

SMALLEST_STD = 1e-6
CONTEXTS = 4096  # different conditions that a tracker can tell apart


class Estimator(Protocol):
    """Rewards of one round to advantages."""

    @property
    def group_size(self) -> int:
        """Neighbouring samples of a round that must share one condition; 1: each draws its own."""
        ...

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """Advantages, and what to log of them. `contexts`: equal numbers mean equal conditions."""
        ...


@dataclass(frozen=True)
class Centred:
    """r - mean: the units of the reward are kept, as the exact optima need it."""

    group_size: int = 1

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """Without a scale."""
        return rewards - rewards.nanmean(), {}


@dataclass(frozen=True)
class Standardised:
    """(r - mean) / std over the batch (Black et al. 2023, arXiv:2305.13301, Sec. 5)."""

    group_size: int = 1

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """All zero where nothing varies."""
        return standardised(rewards), {}


@dataclass(frozen=True)
class GroupRelative:
    """r - mean of the group, over the std of all such deviations (Shao et al. 2024, arXiv:2402.03300, with the batch's
    spread in place of each group's own, so that a group in which nearly nothing differs is not blown up).

    A group is `group_size` samples that were asked for the same thing.
    """

    group_size: int

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(
                f"size: got {self.group_size}, need 2 or more: a group of one has nobody to be compared with"
            )

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """Groups are neighbours."""
        if len(rewards) % self.group_size:
            raise ValueError(f"rollouts: got {len(rewards)}, need a multiple of the group size {self.group_size}")
        spread = rewards.double().view(-1, self.group_size)
        flat = (spread - spread.nanmean(1, keepdim=True)).nan_to_num(0).abs().amax(1) < SMALLEST_STD
        groups = [row // self.group_size for row in range(len(rewards))]
        return per_group(rewards, groups), {"groups_flat": flat.float().mean().item()}


class Tracker(nn.Module):
    """(r - mean) / std of the condition's own recent rewards (Black et al. 2023, Sec. 5: per-prompt statistics).

    Each condition has a ring of its last `buffer_size` rewards, kept over the rounds and in checkpoints. Until it holds
    `min_count` of them, the statistics of the whole batch serve.
    """

    group_size = 1
    keys: Tensor
    used: Tensor
    rings: Tensor

    def __init__(self, buffer_size: int, min_count: int) -> None:
        super().__init__()
        if not 2 <= min_count <= buffer_size:
            got = f"{min_count}, {buffer_size}"
            raise ValueError(f"min_count, buffer_size: got {got}; need 2 <= min_count <= buffer_size")
        self.buffer_size, self.min_count = buffer_size, min_count
        self.register_buffer("keys", torch.zeros(CONTEXTS, dtype=torch.long))
        self.register_buffer("used", torch.zeros(CONTEXTS, dtype=torch.long))  # rewards ever seen; 0: a free row
        self.register_buffer("rings", torch.zeros(CONTEXTS, buffer_size, dtype=torch.float64))

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """Rewards enter the rings first, as in the published code."""
        asked = torch.tensor(list(contexts))
        values = rewards.detach().double().cpu()
        for context, value in zip(asked.tolist(), values.tolist(), strict=True):
            if not math.isnan(value):
                self.remember(context, value)
        known = values[~values.isnan()]
        mean, std = (known.mean(), known.std(correction=0)) if len(known) else (torch.tensor(0.0), torch.tensor(0.0))
        advantage, young = torch.full_like(values, torch.nan), 0
        for context in asked.unique().tolist():
            members, ring = asked == context, self.ring(context)
            old = len(ring) >= self.min_count
            young += not old
            centre, scale = (ring.mean(), ring.std(correction=0)) if old else (mean, std)
            advantage[members] = (values[members] - centre) / (scale + SMALLEST_STD)
        return advantage.to(rewards), {"contexts_young": young / len(asked.unique())}

    def remember(self, context: int, value: float) -> None:
        """Overwrite the oldest reward of a condition."""
        row = self.row(context)
        self.rings[row, self.used[row] % self.buffer_size] = value
        self.used[row] += 1

    def ring(self, context: int) -> Float[Tensor, " n"]:
        """The recent rewards of a condition."""
        row = self.row(context)
        return self.rings[row, : min(int(self.used[row]), self.buffer_size)].cpu()

    def row(self, context: int) -> int:
        """Where a condition is kept; a new one takes the first free row."""
        count = int((self.used > 0).sum())
        found: Int[Tensor, " rows"] = (self.keys[:count] == context).nonzero()
        if len(found):
            return int(found[0])
        if count == CONTEXTS:
            raise ValueError(f"tracker: more than {CONTEXTS} different conditions")
        self.keys[count] = context
        return count


def estimator(
    kind: Literal["global", "centred", "group", "tracker"], size: int, buffer_size: int, min_count: int
) -> Estimator:
    """The estimator a configuration names.

    Args:
        kind: "global" (mean and std of the round), "centred" (mean alone), "group" (neighbours with one condition) or
            "tracker" (each condition's own running statistics).
        size: of a group.
        buffer_size: rewards that a tracker keeps of each condition.
        min_count: below that many, it takes the statistics of the round.
    """
    match kind:
        case "global":
            return Standardised()
        case "centred":
            return Centred()
        case "group":
            return GroupRelative(size)
        case "tracker":
            return Tracker(buffer_size, min_count)


def standardised(rewards: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """(r - mean) / std over the batch; all zero where nothing varies."""
    known = rewards[~rewards.isnan()].double()  # where equal numbers have their own value as the mean
    if len(known) < 2 or known.std(correction=0) < SMALLEST_STD:
        return rewards * 0
    return ((rewards - known.mean()) / known.std(correction=0)).to(rewards)


def per_group(rewards: Float[Tensor, " b"], groups: Sequence[int]) -> Float[Tensor, " b"]:
    """(r - mean of the group) / std of the batch's deviations: compare a sample with those asked for the same thing.

    A group of one tells nothing and has advantage zero.
    """
    keys = torch.tensor(list(groups), device=rewards.device)
    centred = rewards.double().clone()
    for key in keys.unique():
        members = keys == key
        centred[members] -= centred[members].nanmean()
    known = centred[~centred.isnan()]
    spread = known.square().mean().sqrt() if len(known) else torch.tensor(0.0)
    return (centred * 0 if spread < SMALLEST_STD else centred / spread).to(rewards)
