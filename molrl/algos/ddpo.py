"""DDPO: policy gradients on the reverse steps (Black et al. 2023, arXiv:2305.13301)."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.advantages import Estimator
from molrl.algos import Collected, Learner, RowMetrics, checks
from molrl.algos.steps import random_steps, window_of
from molrl.gaussian import Gaussian
from molrl.noise import Draw, Key
from molrl.task import Task
from molrl.trajectory import Transitions


def clipped_surrogate(log_ratio: Float[Tensor, " m"], advantage: Float[Tensor, " m"], clip: float) -> Float[Tensor, ""]:
    """Compute PPO's pessimistic surrogate, to be minimised (Schulman et al. 2017, arXiv:1707.06347, Eq. 7)."""
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def log_prob_scale(kernel: Gaussian, likelihood: Literal["joint", "per_dim"]) -> Float[Tensor, " m"]:
    """Return the divisor of log-densities and KLs: one, or the degrees of freedom of each sample."""
    return kernel.dof if likelihood == "per_dim" else torch.ones_like(kernel.std)


def score_function(log_prob: Float[Tensor, " m"], advantage: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Compute -mean(A log p), whose gradient is REINFORCE's (Black et al. 2023, Sec. 4.3, DDPO-SF)."""
    return -(advantage * log_prob).mean()


@dataclass(frozen=True, kw_only=True)
class PolicyGradient:
    """A policy gradient in which each reverse step has the advantage of its finished sample.

    Attributes:
        advantage: computes advantages from rewards.
        advantage_clip: advantages are clamped to +- this.
        train_steps: reverse steps per sample that are trained on, drawn anew for each sample.
        first: fraction of the chain after which steps are trained on (0 is the prior, 1 the end).
        last: fraction of the chain up to which they are. Steps outside share the network, but nothing holds them.
    """

    advantage: Estimator
    advantage_clip: float
    train_steps: int
    first: float
    last: float

    def __post_init__(self) -> None:
        checks.require_positive(advantage_clip=self.advantage_clip, train_steps=self.train_steps)
        checks.require_window(self.first, self.last)

    @property
    def group_size(self) -> int:
        """Return the number of neighbouring samples that share one condition."""
        return self.advantage.group_size

    def modules(self, task: Task) -> nn.ModuleDict:
        """Return the running statistics of the advantage estimator, where it has some."""
        return nn.ModuleDict({"advantage": deepcopy(self.advantage)} if isinstance(self.advantage, nn.Module) else {})

    def learning_rate(self, name: str) -> float:
        """Return zero, for statistics are not learned."""
        return 0.0

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Transitions]:
        """Roll out and score, and leave out the steps of samples without a reward."""
        rollouts = learner.task.rollout(samples, key, self.advantage.group_size)
        groups = torch.tensor(list(learner.task.decoder.groups(rollouts.trajectory.context)))
        contexts = learner.task.processes.gather(groups).tolist()
        estimate = cast(Estimator, learner.modules["advantage"]) if learner.modules else self.advantage
        advantage, metrics = estimate(rollouts.rewards, contexts)
        metrics["advantage_saturated"] = (advantage.abs() > self.advantage_clip).float().mean().item()
        samples, advantage = samples[rollouts.own], advantage[rollouts.own]
        num_steps, known = learner.policy.sampler.num_steps, ~advantage.isnan()
        allowed = window_of(num_steps, self.first, self.last)
        keep = (
            random_steps(num_steps, samples, key, Draw.TRAIN_STEPS, allowed, self.train_steps).to(known.device) & known
        )
        clamped = advantage.nan_to_num(0).clamp(-self.advantage_clip, self.advantage_clip)
        table = rollouts.trajectory.transitions(clamped, keep)
        return Collected(table, table.step, rollouts, learner.policy, len(rollouts.rewards), metrics=metrics)


@dataclass(frozen=True, kw_only=True)
class DDPOSF(PolicyGradient):
    """DDPO-SF: the score-function estimator; exact for one update per rollout (Black et al. 2023, Sec. 4.3)."""

    def loss(self, learner: Learner, batch: Transitions) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute -mean(A log p); the log-ratio is only reported."""
        log_prob = learner.policy.log_prob(batch)
        return score_function(log_prob, batch.advantage), {"log_ratio": log_prob.detach() - batch.log_prob}


@dataclass(frozen=True, kw_only=True)
class DDPO(PolicyGradient):
    """DDPO-IS: several clipped updates per rollout (Black et al. 2023, Sec. 4.3).

    Attributes:
        clip: half-width of the interval around 1 in which the likelihood ratio of one reverse step counts. The
            log-ratio is a sum over the sample's degrees of freedom, in nats; image papers clip the mean instead.
        kl_weight: nats of exact per-step KL to the reference that one unit of advantage is worth; 0 in the paper. Only
            the step's own KL is differentiated ("local": see docs/algorithms/dpok.md for its fixed point).
        likelihood: "joint" clips the ratio of the joint likelihood of a sample, "per_dim" its geometric mean over the
            dimensions, for which image papers give their clip of 1e-4. The loss of a sample is then divided by its
            degrees of freedom once, surrogate and KL alike, which moves no optimum.
    """

    clip: float
    kl_weight: float
    likelihood: Literal["joint", "per_dim"] = "joint"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_positive(clip=self.clip)
        checks.require_non_negative(kl_weight=self.kl_weight)

    def loss(self, learner: Learner, batch: Transitions) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute the clipped surrogate, plus the KL to the reference where it has a weight."""
        kernel = learner.policy.transition(batch)
        dims = log_prob_scale(kernel, self.likelihood)
        log_ratio = (kernel.log_prob(batch.y) - batch.log_prob) / dims
        loss = clipped_surrogate(log_ratio, batch.advantage, self.clip)
        if self.kl_weight:
            with torch.no_grad():
                anchor = learner.reference.transition(batch)
            loss = loss + self.kl_weight * (kernel.kl(anchor) / dims).mean()
        clipped = (log_ratio.detach().exp() - 1).abs() > self.clip
        return loss, {"log_ratio": log_ratio.detach(), "clipped": clipped.float()}
