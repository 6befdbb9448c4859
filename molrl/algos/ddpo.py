"""DDPO: policy gradients on the reverse steps (Black et al. 2023, arXiv:2305.13301)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from molrl.advantages import per_group, standardised
from molrl.algos import Collected
from molrl.noise import Key
from molrl.policy import Policy
from molrl.task import Metrics, Rollouts, Task
from molrl.trajectory import Transitions

STEP_STREAM = -1  # keyed draws with this step number choose the steps to train on


def clipped_surrogate(log_ratio: Float[Tensor, " m"], advantage: Float[Tensor, " m"], clip: float) -> Float[Tensor, ""]:
    """PPO's pessimistic surrogate, to be minimised (Schulman et al. 2017, arXiv:1707.06347, Eq. 7)."""
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def score_function(log_prob: Float[Tensor, " m"], advantage: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Surrogate whose gradient is REINFORCE's: -mean(A log p) (Black et al. 2023, Sec. 4.3, DDPO-SF)."""
    return -(advantage * log_prob).mean()


@dataclass(frozen=True, kw_only=True)
class DDPO:
    """DDPO-IS: several clipped updates per rollout (Black et al. 2023, Sec. 4.3).

    Attributes:
        clip: half-width of the band the joint likelihood ratio of one reverse step may move in. The log-ratio is a sum
            over the sample's degrees of freedom, in nats; image papers clip the mean over dimensions instead.
        advantage_clip: advantages are clamped to +- this many standard deviations.
        train_steps: reverse steps per sample that are trained on, drawn anew for each sample.
        first: share of the chain after which steps are trained on (0 is the prior, 1 the end).
        last: share of the chain up to which they are: the steps that decide what a sample becomes carry the signal, the
            others only noise.
        grouped: compare a sample with those of the same condition rather than with the whole batch.
        kl_weight: nats of exact per-step KL to the reference that one unit of advantage is worth; 0 in the paper.
    """

    clip: float
    advantage_clip: float
    train_steps: int
    first: float
    last: float
    grouped: bool
    kl_weight: float

    def __post_init__(self) -> None:
        positive(clip=self.clip, advantage_clip=self.advantage_clip, train_steps=self.train_steps)
        refuse_empty_window(self.first, self.last)
        if self.kl_weight < 0:
            raise ValueError(f"kl_weight: got {self.kl_weight}, allowed 0 or more")

    def collect(self, task: Task, samples: list[int], key: Key) -> Collected:
        """Roll out, score, and give every step its sample's advantage."""
        return policy_gradient_table(
            task,
            samples,
            key,
            window=(self.first, self.last),
            train_steps=self.train_steps,
            grouped=self.grouped,
            clip=self.advantage_clip,
        )

    def loss(self, policy: Policy, reference: Policy, batch: Transitions) -> tuple[Float[Tensor, ""], Metrics]:
        """Clipped surrogate, plus the KL to the reference where it has a weight."""
        kernel = policy.transition(batch)
        log_ratio = kernel.log_prob(batch.y) - batch.log_prob
        loss = clipped_surrogate(log_ratio, batch.advantage, self.clip)
        if self.kl_weight:
            with torch.no_grad():
                anchor = reference.transition(batch)
            loss = loss + self.kl_weight * kernel.kl(anchor).mean()
        outside = (log_ratio.exp() - 1).abs() > self.clip
        return loss, {"clip_fraction": outside.float().mean().item(), **log_ratio_metrics(log_ratio)}


@dataclass(frozen=True, kw_only=True)
class DDPOSF:
    """DDPO-SF: the score-function estimator; exact for one update per rollout (Black et al. 2023, Sec. 4.3).

    Attributes:
        advantage_clip: advantages are clamped to +- this many standard deviations.
        train_steps: reverse steps per sample that are trained on, drawn anew for each sample.
        first: share of the chain after which steps are trained on (0 is the prior, 1 the end).
        last: share of the chain up to which they are: the steps that decide what a sample becomes carry the signal, the
            others only noise.
        grouped: compare a sample with those of the same condition rather than with the whole batch.
    """

    advantage_clip: float
    train_steps: int
    first: float
    last: float
    grouped: bool

    def __post_init__(self) -> None:
        positive(advantage_clip=self.advantage_clip, train_steps=self.train_steps)
        refuse_empty_window(self.first, self.last)

    def collect(self, task: Task, samples: list[int], key: Key) -> Collected:
        """As DDPO-IS."""
        return policy_gradient_table(
            task,
            samples,
            key,
            window=(self.first, self.last),
            train_steps=self.train_steps,
            grouped=self.grouped,
            clip=self.advantage_clip,
        )

    def loss(self, policy: Policy, reference: Policy, batch: Transitions) -> tuple[Float[Tensor, ""], Metrics]:
        """-A log p; the log-ratio is reported, not used."""
        log_prob = policy.log_prob(batch)
        metrics = {"clip_fraction": 0.0, **log_ratio_metrics(log_prob - batch.log_prob)}
        return score_function(log_prob, batch.advantage), metrics


def policy_gradient_table(
    task: Task,
    samples: list[int],
    key: Key,
    *,
    window: tuple[float, float],
    train_steps: int,
    grouped: bool,
    clip: float,
) -> Collected:
    """Roll out and score; steps of samples without a reward are left out."""
    rollouts = task.rollout(samples, key)
    groups = task.domain.groups(rollouts.trajectory.context)
    advantage = per_group(rollouts.rewards, groups) if grouped else standardised(rollouts.rewards)
    known = ~advantage.isnan()
    saturated = (advantage.abs() > clip).float().mean().item()
    keep = random_steps(rollouts, samples, key, window, train_steps) & known
    table = rollouts.trajectory.transitions(advantage.nan_to_num(0).clamp(-clip, clip), keep)
    return Collected(table, rollouts, len(samples), 0.0, {"advantage_saturated": saturated})


def window_of(steps: int, first: float, last: float) -> range:
    """The reverse steps between two shares of a chain; at least one."""
    start = min(round(first * steps), steps - 1)
    return range(start, max(round(last * steps), start + 1))


def random_steps(
    rollouts: Rollouts, samples: list[int], key: Key, window: tuple[float, float], count: int
) -> Bool[Tensor, "steps b"]:
    """`count` random reverse steps of each sample, within the window."""
    steps, batch = rollouts.trajectory.log_prob.shape
    allowed = window_of(steps, *window)
    keep = torch.zeros(steps, batch, dtype=torch.bool, device=rollouts.rewards.device)
    for column, sample in enumerate(samples):
        chosen = key.generator(sample, STEP_STREAM).permutation(allowed)[:count]
        keep[torch.from_numpy(chosen), column] = True
    return keep


def refuse_empty_window(first: float, last: float) -> None:
    """A window is a part of the chain."""
    if not 0 <= first < last <= 1:
        raise ValueError(f"first, last: got {first}, {last}; need 0 <= first < last <= 1")


def log_ratio_metrics(log_ratio: Float[Tensor, " m"]) -> Metrics:
    """Largest and mean absolute log-ratio, in nats."""
    size = log_ratio.detach().abs()
    return {"max_abs_log_ratio": size.max().item(), "mean_abs_log_ratio": size.mean().item()}


def positive(**values: float) -> None:
    """Refuse numbers that are not above zero, by name."""
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name}: got {value}, need a number above 0")
