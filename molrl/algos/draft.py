"""DRaFT-K: the gradient of the reward through the last K reverse steps (Clark et al. 2023, arXiv:2309.17400, Alg. 1).

    maximise  E[r(x_0)] - kl_weight sum_t E KL(p_theta(.|x_t) || p_ref(.|x_t)),  the sum over these K steps

A sample is a function of its noise, x_t' = mu(x_t) + s_t z_t, so that the gradient of its reward passes through the
steps themselves. With all steps and a KL this is the gradient of the whole objective; with K steps the steps before
stay as they are, but for the weights that they share with the last ones.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from molrl.algos import Collected, Learner, RowMetrics, checks
from molrl.algos.differentiable import RewardGradient, Tails, known_rows, linearised_reward
from molrl.gaussian import Context
from molrl.noise import ChainNoise, Key
from molrl.task import Task


@dataclass(frozen=True, kw_only=True)
class DRaFT(RewardGradient):
    """Differentiation through the last K reverse steps and the final clean estimate.

    Attributes:
        steps: K; a number above that of the chain means all of its steps. Memory does not grow with it by more than a
            state, because the activations of each step are computed again.
        kl_weight: reward that one nat of exact KL to the reference, over these K steps, is worth; 0 in the paper. A
            chain without noise (eta 0) has no KL.
    """

    steps: int
    kl_weight: float
    needs_densities = False

    def __post_init__(self) -> None:
        checks.require_positive(steps=self.steps)
        checks.require_non_negative(kl_weight=self.kl_weight)

    def modules(self, task: Task) -> nn.ModuleDict:
        """Return the record of the held-out reward; refuse a KL of steps that have no noise."""
        if self.kl_weight and getattr(task.policy.sampler, "eta", 1.0) == 0:
            raise ValueError(f"kl_weight: got {self.kl_weight}; a chain without noise (eta 0) has no KL, need 0")
        return super().modules(task)

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Tails]:
        """Roll out and score, and keep the state before the last K steps with their noise."""
        task = learner.task
        rollouts = task.rollout(samples, key)
        trajectory, num_steps = rollouts.trajectory, task.policy.sampler.num_steps
        rows, start = known_rows(rollouts), max(num_steps - self.steps, 0)
        table = Tails(
            x=trajectory.states[start][rows],
            noise=chain_noise(trajectory.states, samples[rollouts.own], key, start)[rows],
            step=torch.full_like(rows, start),
            sample=rows,
            contexts=trajectory.context,
        )
        metrics = self.held_out_metrics(task, learner.modules, rollouts)
        queries = len(rollouts.rewards)
        return Collected(table, table.step, rollouts, task.policy, queries, queries_per_row=1, metrics=metrics)

    def loss(self, learner: Learner, batch: Tails) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute -mean(r) + kl_weight mean(KL) of the replayed chains."""
        policy, context, x = learner.policy, batch.context, batch.x
        count = batch.noise.shape[1]
        kl = x.new_zeros(len(x))
        for k in range(count):
            at = policy.at(policy.sampler.num_steps - count + k, x)
            inputs = (learner, x, at, batch.noise[:, k], context)
            if count > 1:
                x, own = checkpoint(self.step, *inputs, use_reentrant=False, preserve_rng_state=False)
            else:
                x, own = self.step(*inputs)
            kl = kl + own
        final = policy.sampler.predict_x0(policy.predict_target, x, policy.at(policy.sampler.num_steps, x), context)
        rewards, known = linearised_reward(learner.task, final, context)
        metrics = {"reward_replayed": rewards.detach(), "gradient_lost": (~known).float()}
        return self.kl_weight * kl.mean() - rewards.mean(), metrics

    def step(
        self, learner: Learner, x: Float[Tensor, "m ..."], at: Tensor, noise: Float[Tensor, "m ..."], context: Context
    ) -> tuple[Float[Tensor, "m ..."], Float[Tensor, " m"]]:
        """Return the next states and the KL of this step to the reference, zero where it has no weight."""
        policy, reference = learner.policy, learner.reference
        kernel = policy.sampler.transition(policy.predict_target, x, at, context)
        kl = x.new_zeros(len(x))
        if self.kl_weight:
            kl = kernel.kl(reference.sampler.transition(reference.predict_target, x, at, context))
        return kernel.sample(noise), kl


def chain_noise(states: Tensor, samples: list[int], key: Key, start: int) -> Float[Tensor, "b steps ..."]:
    """Draw the noise of the reverse steps from `start` on once more, as the rollout of these samples had it."""
    noise = ChainNoise(key, samples, tuple(states.shape[2:]), states.device)
    return torch.stack([noise(k + 1) for k in range(start, len(states) - 1)], 1)
