"""DPOK: policy gradient with the KL to the pretrained model and a learned value function (Fan et al. 2023,
arXiv:2305.16381, Eq. 8-9, Algorithm 1).

    maximise  reward_weight E[r(x_0)] - kl_weight sum_t E KL(p_theta(.|x_t) || p_ref(.|x_t))

The published gradient differentiates each step's own KL and does not charge it to the steps before ("local"). That is
not the gradient of the objective and stops at another point; "return_to_go" is: there the score function of a step is
weighted with the reward minus the KL of all later steps.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.algos import Collected, Learner, RowMetrics, checks
from molrl.algos.ddpo import clipped_surrogate, log_prob_scale
from molrl.algos.steps import random_steps, window_of
from molrl.noise import Draw, Key
from molrl.task import Rollouts, Task
from molrl.trajectory import Transitions

CHUNK_ROWS = 1024  # reverse steps at a time, where no gradient is needed


@dataclass(frozen=True, kw_only=True)
class DPOK:
    """A policy gradient with KL regularisation.

    Attributes:
        reward_weight: of the reward in its own units.
        kl_weight: nats of KL to the reference that one unit of weighted reward is worth.
        kl_mode: "local" (published) or "return_to_go" (the gradient of the objective; costs an evaluation of policy and
            reference at every step of the rollouts).
        clip: half-width of the interval around 1 in which the likelihood ratio of one reverse step counts.
        clip_mode: "ppo" (pessimistic) or "dpok": a plain clamp of the ratio, whose gradient stops on both sides.
        critic: learn a value function as the baseline, of what states earn beyond the mean of the round; without one,
            the mean alone serves.
        critic_lr: its learning rate.
        train_steps: reverse steps per sample that are trained on, drawn anew for each sample.
        first: fraction of the chain after which steps are trained on (0 is the prior, 1 the end).
        last: fraction of the chain up to which they are.
        likelihood: "joint" clips the ratio of the joint likelihood of a sample, "per_dim" its geometric mean over the
            dimensions, for which image papers give their clip of 1e-4. The loss of a sample is then divided by its
            degrees of freedom once, surrogate and KL alike, which moves no optimum.
    """

    reward_weight: float
    kl_weight: float
    kl_mode: Literal["local", "return_to_go"]
    clip: float
    clip_mode: Literal["ppo", "dpok"]
    critic: bool
    critic_lr: float
    train_steps: int
    first: float
    last: float
    likelihood: Literal["joint", "per_dim"] = "joint"

    def __post_init__(self) -> None:
        checks.require_positive(reward_weight=self.reward_weight, clip=self.clip, critic_lr=self.critic_lr)
        checks.require_positive(train_steps=self.train_steps)
        checks.require_non_negative(kl_weight=self.kl_weight)
        checks.require_window(self.first, self.last)

    def modules(self, task: Task) -> nn.ModuleDict:
        """Return the value network that the task offers, where a critic is wanted."""
        if not self.critic:
            return nn.ModuleDict()
        if task.value_network is None:
            raise ValueError(f"critic: task {task.name!r} offers no network for values of its states; set critic=false")
        return nn.ModuleDict({"critic": task.value_network()})

    def learning_rate(self, name: str) -> float:
        """Return the learning rate of the critic."""
        return self.critic_lr

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Transitions]:
        """Roll out and score; a step's advantage is its return, less the mean return of the round.

        Without the mean the critic's targets would be far from zero, and it would do harm before it has learned.
        """
        rollouts, num_steps = learner.task.rollout(samples, key), learner.policy.sampler.num_steps
        rewards, samples = rollouts.rewards[rollouts.own], samples[rollouts.own]
        returns = (self.reward_weight * rewards).expand(num_steps, -1)
        if self.kl_mode == "return_to_go" and self.kl_weight:
            returns = returns - self.kl_weight * sum_of_later(step_kl(learner, rollouts))
        all_returns = learner.task.processes.gather(returns, dim=1)
        returns = returns - all_returns[:, ~rollouts.rewards.isnan()].mean(1, keepdim=True)
        known = ~rewards.isnan()
        allowed = window_of(num_steps, self.first, self.last)
        keep = (
            random_steps(num_steps, samples, key, Draw.TRAIN_STEPS, allowed, self.train_steps).to(known.device) & known
        )
        table = replace(rollouts.trajectory.transitions(rewards, keep), advantage=returns[keep])
        return Collected(table, table.step, rollouts, learner.policy, len(rollouts.rewards))

    def loss(self, learner: Learner, batch: Transitions) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute surrogate + kl_weight KL + (V - return)^2, each a mean over the rows."""
        kernel, context = learner.policy.transition(batch), batch.context
        dims = log_prob_scale(kernel, self.likelihood)
        log_ratio = (kernel.log_prob(batch.y) - batch.log_prob) / dims
        metrics = {"log_ratio": log_ratio.detach()}
        loss, advantage = log_ratio.new_tensor(0.0), batch.advantage
        if self.critic:
            time = 1 - batch.step.to(batch.x) / learner.policy.sampler.num_steps
            value = learner.modules["critic"](batch.x, time, context)
            loss = (value - batch.advantage).square().mean()
            advantage = batch.advantage - value.detach()
            metrics["value_error"] = (value.detach() - batch.advantage).square()
        if self.clip_mode == "ppo":
            loss = loss + clipped_surrogate(log_ratio, advantage, self.clip)
        else:
            loss = loss - (log_ratio.exp().clamp(1 - self.clip, 1 + self.clip) * advantage).mean()
        if self.kl_weight:
            with torch.no_grad():
                anchor = learner.reference.transition(batch)
            loss = loss + self.kl_weight * (kernel.kl(anchor) / dims).mean()
        metrics["clipped"] = ((log_ratio.detach().exp() - 1).abs() > self.clip).float()
        return loss, metrics


@torch.no_grad()
def step_kl(learner: Learner, rollouts: Rollouts) -> Float[Tensor, "steps b"]:
    """Compute the exact KL to the reference of every reverse step of the rollouts, summed over the dimensions."""
    table = rollouts.trajectory.transitions(torch.zeros_like(rollouts.rewards[rollouts.own]))
    chunks = []
    for rows in torch.arange(len(table)).split(CHUNK_ROWS):
        batch = table[rows]
        chunks.append(learner.policy.transition(batch).kl(learner.reference.transition(batch)))
    return torch.cat(chunks).view_as(rollouts.trajectory.log_prob)


def sum_of_later(cost: Float[Tensor, "steps b"]) -> Float[Tensor, "steps b"]:
    """Compute the sum of the costs over the steps after each."""
    return cost.flip(0).cumsum(0).flip(0) - cost
