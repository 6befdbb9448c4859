"""GRPO on diffusion chains: advantages within groups (Flow-GRPO, Liu et al. 2025, arXiv:2505.05470; DanceGRPO, Xue et
al. 2025, arXiv:2505.07818), on windows of stochastic steps (MixGRPO, Li et al. 2025, arXiv:2507.21802).

The members of a group share a condition and a window. Their steps have noise inside the window, which are the steps
that are learned from, and none elsewhere. Few stochastic steps cost few evaluations in training ("Fast": one or two).
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.advantages import MIN_STD
from molrl.algos import Collected, Learner, RowMetrics, checks
from molrl.algos.ddpo import clipped_surrogate, log_prob_scale
from molrl.algos.steps import window_of
from molrl.algos.windows import WINDOW, WindowedDecoder, is_stochastic, windowed
from molrl.noise import Draw, Key, Stream
from molrl.task import Metrics, Task
from molrl.trajectory import Transitions

STD_FLOOR = 1e-4  # added to the std of rewards, as in the published code

Scale = Literal["group", "global", "none"]


@dataclass(frozen=True, kw_only=True)
class GRPO:
    """A clipped policy gradient with group-relative advantages, on a window of stochastic steps.

    Attributes:
        group_size: samples with one condition, one window and, if so set, one start.
        scale: (r - mean of the group) is divided by the std of the group ("group"), by that of all rewards of the round
            ("global", Flow-GRPO's setting for mixed groups), or by 1 ("none", Liu et al. 2025, arXiv:2503.20783).
        advantage_clip: advantages are clamped to +- this.
        clip: half-width of the interval around 1 in which the likelihood ratio of one reverse step counts.
        likelihood: "joint" clips the ratio of the joint likelihood of a sample, "per_dim" its geometric mean over the
            dimensions.
        kl_weight: nats of exact per-step KL to the reference that one unit of advantage is worth. Only the step's own
            KL is differentiated ("local": see docs/algorithms/dpok.md for its fixed point).
        window: number of stochastic steps; all of those between `first` and `last` if there are no more.
        first: fraction of the chain after which windows lie (0 is the prior, 1 the end).
        last: fraction of the chain up to which they do.
        schedule: "moving": the window of every group moves along the chain with the rounds; "random": each group draws
            a place of its own in every round.
        stride: steps by which the moving window moves; at the end it goes back to the beginning.
        every: rounds between its moves.
        shared_start: let the members of a group start from one noise, so that rewards differ by the window alone.
    """

    group_size: int
    scale: Scale
    advantage_clip: float
    clip: float
    kl_weight: float
    window: int
    first: float
    last: float
    schedule: Literal["moving", "random"]
    stride: int
    every: int
    shared_start: bool
    likelihood: Literal["joint", "per_dim"] = "joint"

    def __post_init__(self) -> None:
        checks.require_positive(advantage_clip=self.advantage_clip, clip=self.clip, window=self.window)
        checks.require_positive(stride=self.stride, every=self.every)
        checks.require_non_negative(kl_weight=self.kl_weight)
        checks.require_window(self.first, self.last)
        if self.group_size < 2:
            raise ValueError(f"group_size: got {self.group_size}, need 2 or more: one has no other to compare with")

    def modules(self, task: Task) -> nn.ModuleDict:
        """Return no modules, once the chain has been found to be one that windows are made for."""
        windowed(task.policy)
        return nn.ModuleDict()

    def learning_rate(self, name: str) -> float:
        """Return zero, for there are no modules."""
        return 0.0

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Transitions]:
        """Roll out and score groups, and keep the stochastic steps of those whose rewards differ."""
        policy, num_steps = windowed(learner.policy), learner.policy.sampler.num_steps
        window = partial(self.window_of_group, num_steps)
        decoder = WindowedDecoder(learner.task.decoder, window, self.shared_start)
        rollouts = replace(learner.task, policy=policy, decoder=decoder).rollout(samples, key, self.group_size)
        advantage, metrics = group_advantages(rollouts.rewards, self.group_size, self.scale)
        metrics["advantage_saturated"] = (advantage.abs() > self.advantage_clip).float().mean().item()
        advantage, context = advantage[rollouts.own], rollouts.trajectory.context
        inside = torch.stack([is_stochastic(policy.at(k, advantage), context) for k in range(num_steps)])
        clamped = advantage.nan_to_num(0).clamp(-self.advantage_clip, self.advantage_clip)
        table = rollouts.trajectory.transitions(clamped, inside & ~advantage.isnan())
        return Collected(table, table.step, rollouts, policy, len(rollouts.rewards), metrics=metrics)

    def window_of_group(self, num_steps: int, group: int, key: Key) -> range:
        """Return the stochastic steps of a group: the same for all its members, drawn or moved by the round's key."""
        allowed = window_of(num_steps, self.first, self.last)
        places = max(len(allowed) - self.window, 0) + 1
        if self.schedule == "random":
            place = int(key.generator(group, Draw.TRAIN_STEPS).integers(places))
        else:
            place = self.stride * ((key.stream - Stream.ROUND) // self.every) % places
        return allowed[place : place + self.window]

    def loss(self, learner: Learner, batch: Transitions) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute the clipped surrogate, plus the KL to the reference where it has a weight.

        `kl_window` is the KL of a row times the steps of its window: on average that of a chain's stochastic steps.
        """
        kernel = windowed(learner.policy).transition(batch)
        dims = log_prob_scale(kernel, self.likelihood)
        log_ratio = (kernel.log_prob(batch.y) - batch.log_prob) / dims
        loss = clipped_surrogate(log_ratio, batch.advantage, self.clip)
        clipped = (log_ratio.detach().exp() - 1).abs() > self.clip
        metrics = {"log_ratio": log_ratio.detach(), "clipped": clipped.float()}
        if self.kl_weight:
            with torch.no_grad():
                anchor = windowed(learner.reference).transition(batch)
            kl = kernel.kl(anchor)
            loss = loss + self.kl_weight * (kl / dims).mean()
            metrics["kl_window"] = kl.detach() * (batch.context[WINDOW][:, 1] - batch.context[WINDOW][:, 0])
        return loss, metrics


def group_advantages(
    rewards: Float[Tensor, " b"], group_size: int, scale: Scale
) -> tuple[Float[Tensor, " b"], Metrics]:
    """Compute (r - mean of the group) / (std + 1e-4), NaN for what is not learned from (Flow-GRPO, Eq. 4).

    That is a sample without a reward, and a group whose rewards are equal: its advantages would be rounding over 1e-4.
    Where no group has a spread, those of all are zero, and a round learns from the KL alone.
    """
    values = rewards.cpu().double().view(-1, group_size)
    centred = values - values.nanmean(1, keepdim=True)
    spread = centred.square().nanmean(1, keepdim=True).sqrt()
    flat = ~(spread > MIN_STD)  # NaN, where no member has a reward, is flat, too
    scored = values[~values.isnan()]
    scales = {"group": spread + STD_FLOOR, "none": torch.ones_like(spread)}
    scales["global"] = (scored.std(correction=0) if len(scored) else torch.tensor(0.0)).expand_as(spread) + STD_FLOOR
    advantage = centred / scales[scale]
    advantage = centred * 0 if flat.all() else advantage.masked_fill(flat, torch.nan)
    return advantage.flatten().to(rewards), {"groups_flat": flat.double().mean().item()}
