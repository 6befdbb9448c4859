"""ReFL: the gradient of the reward of one clean estimate, at a random late step (Xu et al. 2023, arXiv:2304.05977).

    minimise  -min(r(x_0hat(x_t)), ceiling) + anchor |eps_theta(x_t) - eps_ref(x_t)|^2 / d

Nothing is differentiated but the estimate itself; the steps before it have no gradient. The paper draws t among the
last ten of 40 steps, writes the reward as relu(2 - r), and adds the loss of pretraining on its data (Alg. 1). The
anchor stands in for those data, which a task need not have.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.algos import Collected, Learner, RowMetrics, checks
from molrl.algos.differentiable import RewardGradient, Tails, known_rows, linearised_reward
from molrl.algos.steps import random_steps, window_of
from molrl.gaussian import sum_per_sample
from molrl.noise import Draw, Key


@dataclass(frozen=True, kw_only=True)
class ReFL(RewardGradient):
    """Reward feedback learning on clean estimates of late states.

    Attributes:
        first: fraction of the chain after which the state is drawn (0 is the prior, 1 the end).
        last: fraction of the chain up to which it is drawn.
        ceiling: rewards above this have no gradient; None: all have one.
        anchor: reward that a mean squared distance of one from the reference's predicted noise is worth.
    """

    first: float
    last: float
    ceiling: float | None
    anchor: float
    needs_densities = False

    def __post_init__(self) -> None:
        checks.require_window(self.first, self.last)
        checks.require_non_negative(anchor=self.anchor)

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Tails]:
        """Roll out and score, and keep one random late state of each sample."""
        task = learner.task
        rollouts = task.rollout(samples, key)
        trajectory, sampler = rollouts.trajectory, task.policy.sampler
        points = sampler.num_steps + (getattr(sampler, "finish", "clean") == "clean")  # those with an estimate
        window = window_of(points, self.first, self.last)
        chosen = random_steps(points, samples[rollouts.own], key, Draw.TRAIN_STEPS, window, 1)
        rows = known_rows(rollouts)
        step = chosen.int().argmax(0).to(rows.device)[rows]
        x = trajectory.states[step, rows]
        table = Tails(x, x.new_zeros(len(x), 0, *x.shape[1:]), step, rows, trajectory.context)
        metrics = self.held_out_metrics(task, learner.modules, rollouts)
        order, queries = torch.zeros_like(step), len(rollouts.rewards)
        return Collected(table, order, rollouts, task.policy, queries, queries_per_row=1, metrics=metrics)

    def loss(self, learner: Learner, batch: Tails) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute -mean(min(r, ceiling)) + anchor mean(|eps - eps_ref|^2 / d)."""
        policy, reference, context = learner.policy, learner.reference, batch.context
        sampler = policy.sampler
        eps = sampler.predict_target(policy.predict_target, batch.x, batch.step, context)
        x0 = sampler.predict_x0(lambda *_: eps, batch.x, batch.step, context)
        rewards, known = linearised_reward(learner.task, x0, context)
        metrics = {"reward_estimated": rewards.detach(), "gradient_lost": (~known).float()}
        capped = rewards if self.ceiling is None else rewards.clamp(max=self.ceiling)
        loss = -capped.mean()
        if self.anchor:
            with torch.no_grad():
                anchor = sampler.predict_target(reference.predict_target, batch.x, batch.step, context)
            dof = sampler.space.dof(batch.x, context)
            moved = sum_per_sample(sampler.space.project(eps - anchor, context).square()) / dof
            loss, metrics["moved"] = loss + self.anchor * moved.mean(), moved.detach()
        return loss, metrics
