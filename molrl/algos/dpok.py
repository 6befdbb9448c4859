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

from molrl.algos import Collected, Facts, Learner, checks
from molrl.algos.ddpo import clipped_surrogate, log_prob_scale
from molrl.algos.steps import random_steps, window_of
from molrl.noise import Draw, Key
from molrl.task import Rollouts, Task
from molrl.trajectory import Transitions

CHUNK = 1024  # reverse steps at a time, where no gradient is needed


@dataclass(frozen=True, kw_only=True)
class DPOK:
    """KL-regularised policy gradient.

    Attributes:
        reward_weight: of the reward in its own units.
        kl_weight: nats of KL to the reference that one unit of weighted reward is worth.
        kl_mode: "local" (published) or "return_to_go" (the gradient of the objective; costs an evaluation of policy and
            reference at every step of the rollouts).
        clip: half-width of the band of the joint likelihood ratio of one reverse step, in which it counts.
        clip_mode: "ppo" (pessimistic) or "dpok": a plain clamp of the ratio, whose gradient stops on both sides.
        critic: learn a value function as the baseline, of what states earn beyond the mean of the round; without one,
            the mean alone serves.
        critic_lr: its learning rate.
        train_steps: reverse steps per sample that are trained on, drawn anew for each sample.
        first: share of the chain after which steps are trained on (0 is the prior, 1 the end).
        last: share of the chain up to which they are.
        density: whose ratio is clipped: "joint", that of all numbers of a sample together, or "mean", the geometric
            mean over them, in which image papers have their clip of 1e-4. KLs and log-ratios then are per number, too.
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
        checks.positive(reward_weight=self.reward_weight, clip=self.clip, critic_lr=self.critic_lr)
        checks.positive(train_steps=self.train_steps)
        checks.not_negative(kl_weight=self.kl_weight)
        checks.window(self.first, self.last)

    def modules(self, task: Task) -> nn.ModuleDict:
        """The value network, of the task's own making."""
        if not self.critic:
            return nn.ModuleDict()
        if task.value_network is None:
            raise ValueError(f"critic: task {task.name!r} offers no network for values of its states; set critic=false")
        return nn.ModuleDict({"critic": task.value_network()})

    def learning_rate(self, name: str) -> float:
        """Of the critic."""
        return self.critic_lr

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Transitions]:
        """Roll out and score; a step's advantage is what is earned from there on, less the mean of the round.

        The mean leaves the critic a target around zero, so that it does no harm before it has learned anything.
        """
        rollouts = learner.task.rollout(samples, key)
        steps, rewards, samples = (
            learner.policy.sampler.num_steps,
            rollouts.rewards[rollouts.own],
            samples[rollouts.own],
        )
        earned = (self.reward_weight * rewards).expand(steps, -1)
        if self.kl_mode == "return_to_go" and self.kl_weight:
            earned = earned - self.kl_weight * later(step_kl(learner, rollouts, self.likelihood))
        everyones = learner.task.processes.gather(earned, dim=1)
        earned = earned - everyones[:, ~rollouts.rewards.isnan()].mean(1, keepdim=True)
        known = ~rewards.isnan()
        allowed = window_of(steps, self.first, self.last)
        keep = random_steps(steps, samples, key, Draw.TRAIN_STEPS, allowed, self.train_steps).to(known.device) & known
        table = replace(rollouts.trajectory.transitions(rewards, keep), advantage=earned[keep])
        return Collected(table, table.step, rollouts, learner.policy, len(rollouts.rewards))

    def loss(self, learner: Learner, batch: Transitions) -> tuple[Float[Tensor, ""], Facts]:
        """Surrogate + kl_weight KL + (V - earned)^2, each a mean over the rows."""
        kernel, context = learner.policy.transition(batch), batch.context
        numbers = log_prob_scale(kernel, self.likelihood)
        log_ratio = (kernel.log_prob(batch.y) - batch.log_prob) / numbers
        facts = {"log_ratio": log_ratio.detach()}
        loss, advantage = log_ratio.new_tensor(0.0), batch.advantage
        if self.critic:
            time = 1 - batch.step.to(batch.x) / learner.policy.sampler.num_steps
            value = learner.modules["critic"](batch.x, time, context)
            loss = (value - batch.advantage).square().mean()
            advantage = batch.advantage - value.detach()
            facts["value_error"] = (value.detach() - batch.advantage).square()
        if self.clip_mode == "ppo":
            loss = loss + clipped_surrogate(log_ratio, advantage, self.clip)
        else:
            loss = loss - (log_ratio.exp().clamp(1 - self.clip, 1 + self.clip) * advantage).mean()
        if self.kl_weight:
            with torch.no_grad():
                anchor = learner.reference.transition(batch)
            loss = loss + self.kl_weight * (kernel.kl(anchor) / numbers).mean()
        facts["clipped"] = ((log_ratio.detach().exp() - 1).abs() > self.clip).float()
        return loss, facts


@torch.no_grad()
def step_kl(
    learner: Learner, rollouts: Rollouts, likelihood: Literal["joint", "per_dim"] = "joint"
) -> Float[Tensor, "steps b"]:
    """Exact KL to the reference of every reverse step of the rollouts."""
    table = rollouts.trajectory.transitions(torch.zeros_like(rollouts.rewards[rollouts.own]))
    found = []
    for rows in torch.arange(len(table)).split(CHUNK):
        batch = table[rows]
        kernel = learner.policy.transition(batch)
        found.append(kernel.kl(learner.reference.transition(batch)) / log_prob_scale(kernel, likelihood))
    return torch.cat(found).view_as(rollouts.trajectory.log_prob)


def later(cost: Float[Tensor, "steps b"]) -> Float[Tensor, "steps b"]:
    """The sum over the steps after each."""
    return cost.flip(0).cumsum(0).flip(0) - cost
