"""Advantages: how much better the reward of a sample is than expected.

Rewards that are NaN (could not be scored) enter no statistic and have advantage NaN: their steps are dropped before the
loss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.task import Metrics

MIN_STD = 1e-6  # of rewards: below it they count as equal
MAX_CONTEXTS = 4096  # different conditions in a tracker


class Estimator(Protocol):
    """A map from the rewards of a round to advantages."""

    @property
    def group_size(self) -> int:
        """Return how many neighbouring samples must share a condition; 1: each draws its own."""
        ...

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """Compute advantages and the metrics to log; equal `contexts` are equal conditions."""
        ...


@dataclass(frozen=True)
class Centred:
    """Advantages r - mean, in the units of the reward, as the exact optima need them."""

    group_size: int = 1

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """Subtract the mean of the batch."""
        return rewards - rewards.nanmean(), {}


@dataclass(frozen=True)
class Standardised:
    """Advantages (r - mean) / std over the batch (Black et al. 2023, arXiv:2305.13301, Sec. 5)."""

    group_size: int = 1

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """Standardise over the batch; all advantages are zero where nothing varies."""
        return standardise(rewards), {}


@dataclass(frozen=True)
class GroupRelative:
    """Advantages r - mean of the group, over the std of all such deviations (Shao et al. 2024, arXiv:2402.03300).

    The paper divides by the std of each group, which blows up a group of nearly equal rewards. A group is `group_size`
    neighbouring samples with the same condition.
    """

    group_size: int

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(
                f"size: got {self.group_size}, need 2 or more: a group of one has no other to compare with"
            )

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """Compare each sample with its neighbours in the group."""
        if len(rewards) % self.group_size:
            raise ValueError(f"rollouts: got {len(rewards)}, need a multiple of the group size {self.group_size}")
        spread = rewards.double().view(-1, self.group_size)
        flat = (spread - spread.nanmean(1, keepdim=True)).nan_to_num(0).abs().amax(1) < MIN_STD
        groups = [row // self.group_size for row in range(len(rewards))]
        return standardise_groups(rewards, groups), {"groups_flat": flat.float().mean().item()}


class Tracker(nn.Module):
    """Advantages (r - mean) / std over recent rewards of the condition (Black et al. 2023, Sec. 5, per prompt).

    Each condition has a ring buffer of its last `buffer_size` rewards, kept over the rounds and in checkpoints. Until
    it holds `min_count` of them, the statistics of the batch are used.
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
        self.register_buffer("keys", torch.zeros(MAX_CONTEXTS, dtype=torch.long))
        self.register_buffer("used", torch.zeros(MAX_CONTEXTS, dtype=torch.long))  # rewards ever seen; 0: a free row
        self.register_buffer("rings", torch.zeros(MAX_CONTEXTS, buffer_size, dtype=torch.float64))

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """Add the rewards to the buffers, as the published code does first, and standardise by them."""
        conditions = torch.tensor(list(contexts))
        values = rewards.detach().double().cpu()
        for context, value in zip(conditions.tolist(), values.tolist(), strict=True):
            if not math.isnan(value):
                self.remember(context, value)
        scored = values[~values.isnan()]
        mean, std = (scored.mean(), scored.std(correction=0)) if len(scored) else (torch.tensor(0.0), torch.tensor(0.0))
        advantage, young = torch.full_like(values, torch.nan), 0
        for context in conditions.unique().tolist():
            members, ring = conditions == context, self.ring(context)
            old = len(ring) >= self.min_count
            young += not old
            centre, scale = (ring.mean(), ring.std(correction=0)) if old else (mean, std)
            advantage[members] = (values[members] - centre) / (scale + MIN_STD)
        return advantage.to(rewards), {"contexts_young": young / len(conditions.unique())}

    def remember(self, context: int, value: float) -> None:
        """Add a reward of a condition in the place of its oldest one."""
        row = self.row(context)
        self.rings[row, self.used[row] % self.buffer_size] = value
        self.used[row] += 1

    def ring(self, context: int) -> Float[Tensor, " n"]:
        """Return the recent rewards of a condition."""
        row = self.row(context)
        return self.rings[row, : min(int(self.used[row]), self.buffer_size)].cpu()

    def row(self, context: int) -> int:
        """Return the row of a condition; a new one takes the first free row."""
        count = int((self.used > 0).sum())
        rows: Int[Tensor, " rows"] = (self.keys[:count] == context).nonzero()
        if len(rows):
            return int(rows[0])
        if count == MAX_CONTEXTS:
            raise ValueError(f"tracker: more than {MAX_CONTEXTS} different conditions")
        self.keys[count] = context
        return count


def estimator(
    kind: Literal["global", "centred", "group", "tracker"], size: int, buffer_size: int, min_count: int
) -> Estimator:
    """Make the estimator that a configuration names.

    Args:
        kind: "global" (mean and std of the round), "centred" (mean alone), "group" (neighbours with one condition) or
            "tracker" (running statistics of each condition).
        size: samples in a group.
        buffer_size: rewards that a tracker keeps of each condition.
        min_count: rewards of a condition below which a tracker uses the statistics of the round.
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


def standardise(rewards: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Compute (r - mean) / std over the batch; all zero where nothing varies."""
    scored = rewards[~rewards.isnan()].double()  # in float64 the mean of equal float32 numbers is exact
    if len(scored) < 2 or scored.std(correction=0) < MIN_STD:
        return rewards * 0
    return ((rewards - scored.mean()) / scored.std(correction=0)).to(rewards)


def standardise_groups(rewards: Float[Tensor, " b"], groups: Sequence[int]) -> Float[Tensor, " b"]:
    """Compute (r - mean of the group) / std of these deviations over the batch; a group of one has advantage zero."""
    keys = torch.tensor(list(groups), device=rewards.device)
    centred = rewards.double().clone()
    for key in keys.unique():
        members = keys == key
        centred[members] -= centred[members].nanmean()
    scored = centred[~centred.isnan()]
    spread = scored.square().mean().sqrt() if len(scored) else torch.tensor(0.0)
    return (centred * 0 if spread < MIN_STD else centred / spread).to(rewards)
