"""Advantages: how much better the reward of a sample is than expected.

Rewards that are NaN (could not be scored) enter no statistic and have advantage NaN: their steps are dropped before the
loss.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.diversity.clusters import Clusters
from molrl.diversity.counts import Counts
from molrl.task import Metrics

MIN_STD = 1e-6  # of rewards: below it they count as equal
INITIAL_ROWS = 64  # of a tracker; twice as many each time that they are full


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
        spread = rewards.cpu().double().view(-1, self.group_size)
        flat = (spread - spread.nanmean(1, keepdim=True)).nan_to_num(0).abs().amax(1) < MIN_STD
        groups = [row // self.group_size for row in range(len(rewards))]
        return standardise_groups(rewards, groups), {"groups_flat": flat.float().mean().item()}


@dataclass(frozen=True)
class Regressed:
    """Advantages (r - a - b c) / std: a sample is compared with the line through the rewards of the round.

    The conditions c are amounts, such as numbers of atoms, and a + b c is the least-squares fit of the round's rewards.
    Where rewards depend on a condition that the policy does not choose, this is a control variate of a policy gradient.
    A method that learns from finished samples alone would otherwise be drawn toward its own samples under the better
    conditions, and away from those under the worse ones.

    The decoder must say by `groups_are_amounts = True` that its groups are amounts: prompts and classes are none.
    """

    group_size: int = 1
    needs_amounts: ClassVar[bool] = True

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """Standardise the deviations from the line; `reward_explained` is its share of the rewards' variance."""
        values, amounts = rewards.cpu().double(), torch.tensor(list(contexts), dtype=torch.float64)
        scored = ~values.isnan()
        centred, amounts = values - values[scored].mean(), amounts - amounts[scored].mean()
        slope = (amounts * centred)[scored].sum() / amounts[scored].square().sum().clamp(min=MIN_STD)
        line = slope * amounts
        explained = line[scored].square().sum() / centred[scored].square().sum().clamp(min=MIN_STD**2)
        return standardise((centred - line).to(rewards)), {"reward_explained": explained.item()}


class Tracker(nn.Module):
    """Advantages (r - mean) / std over recent rewards of the condition (Black et al. 2023, Sec. 5, per prompt).

    Each condition has a ring buffer of its last `buffer_size` rewards, kept over the rounds and in checkpoints. Until
    it holds `min_count` of them, the statistics of the batch are used. There may be any number of conditions.
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
        self.register_buffer("keys", torch.zeros(INITIAL_ROWS, dtype=torch.long))
        self.register_buffer("used", torch.zeros(INITIAL_ROWS, dtype=torch.long))  # rewards ever seen; 0: a free row
        self.register_buffer("rings", torch.zeros(INITIAL_ROWS, buffer_size, dtype=torch.float64))

    def __call__(self, rewards: Float[Tensor, " b"], contexts: Sequence[int]) -> tuple[Float[Tensor, " b"], Metrics]:
        """Add the rewards to the buffers, as the published code does first, and standardise by them."""
        values, index = rewards.detach().cpu().double(), self.index()
        for context, value in zip(contexts, values.tolist(), strict=True):
            if not math.isnan(value):
                self.remember(context, value, index)
        scored = values[~values.isnan()]
        mean, std = (scored.mean(), scored.std(correction=0)) if len(scored) else (torch.tensor(0.0), torch.tensor(0.0))
        unique, members = torch.tensor(list(contexts)).unique(return_inverse=True)
        centres, scales, counts = self.statistics([index.get(context, -1) for context in unique.tolist()])
        young = counts < self.min_count
        centres, scales = torch.where(young, mean, centres), torch.where(young, std, scales)
        advantage = (values - centres[members]) / (scales[members] + MIN_STD)
        return advantage.to(rewards), {"contexts_young": young.double().mean().item()}

    def index(self) -> dict[int, int]:
        """Return the row of every condition that has a reward."""
        count = int((self.used > 0).sum())
        return {key: row for row, key in enumerate(self.keys[:count].tolist())}

    def remember(self, context: int, value: float, index: dict[int, int]) -> None:
        """Add a reward of a condition in the place of its oldest one; a new condition takes the first free row."""
        row = index.setdefault(context, len(index))
        if row == len(self.keys):
            self.reserve(2 * row)
        self.keys[row] = context
        self.rings[row, self.used[row] % self.buffer_size] = value
        self.used[row] += 1

    def statistics(
        self, rows: Sequence[int]
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"], Int[Tensor, " rows"]]:
        """Return mean, std and number of the rewards in rows; a negative row is one without rewards."""
        some = torch.tensor(rows)
        counts = torch.where(some < 0, 0, self.used[some].clamp(max=self.buffer_size))
        filled = torch.arange(self.buffer_size) < counts.unsqueeze(1)  # [rows, buffer_size]
        rings = torch.where(filled, self.rings[some], 0)
        means = rings.sum(1) / counts
        spread = torch.where(filled, rings - means.unsqueeze(1), 0)
        return means, (spread.square().sum(1) / counts).sqrt(), counts

    def reserve(self, rows: int) -> None:
        """Make room for so many conditions in all, and keep those that are there."""
        for name in ("keys", "used", "rings"):
            old: Tensor = getattr(self, name)
            setattr(self, name, torch.cat([old, old.new_zeros(max(0, rows - len(old)), *old.shape[1:])]))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Tracker":
        """Leave the statistics on the CPU, in float64, wherever the network goes."""
        return self


def reserve_rows(module: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Make room in the tables among a module's parts for the keys of a saved state."""
    for name, part in module.named_modules():
        if isinstance(part, Tracker | Counts) and f"{name}.keys" in saved:
            part.reserve(len(saved[f"{name}.keys"]))
        elif isinstance(part, Clusters) and f"{name}.centres" in saved:
            part.reserve(saved[f"{name}.centres"].shape)


def estimator(
    kind: Literal["global", "centred", "linear", "group", "tracker"], size: int, buffer_size: int, min_count: int
) -> Estimator:
    """Make the estimator that a configuration names.

    Args:
        kind: "global" (mean and std of the round), "centred" (mean alone), "linear" (deviations from the line over the
            conditions' amounts), "group" (neighbours with one condition) or "tracker" (running statistics of each
            condition).
        size: samples in a group.
        buffer_size: rewards that a tracker keeps of each condition.
        min_count: rewards of a condition below which a tracker uses the statistics of the round.
    """
    match kind:
        case "global":
            return Standardised()
        case "centred":
            return Centred()
        case "linear":
            return Regressed()
        case "group":
            return GroupRelative(size)
        case "tracker":
            return Tracker(buffer_size, min_count)


def standardise(rewards: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Compute (r - mean) / std over the batch; all zero where nothing varies."""
    values = rewards.cpu().double()  # in float64 the mean of equal float32 numbers is exact
    scored = values[~values.isnan()]
    if len(scored) < 2 or scored.std(correction=0) < MIN_STD:
        return rewards * 0
    return ((values - scored.mean()) / scored.std(correction=0)).to(rewards)


def standardise_groups(rewards: Float[Tensor, " b"], groups: Sequence[int]) -> Float[Tensor, " b"]:
    """Compute (r - mean of the group) / std of these deviations over the batch; a group of one has advantage zero."""
    keys = torch.tensor(list(groups))
    centred = rewards.cpu().double().clone()
    for key in keys.unique():
        members = keys == key
        centred[members] -= centred[members].nanmean()
    scored = centred[~centred.isnan()]
    spread = scored.square().mean().sqrt() if len(scored) else torch.tensor(0.0)
    return (centred * 0 if spread < MIN_STD else centred / spread).to(rewards)
