"""Adjoint Matching with the lean adjoint (Domingo-Enrich et al. 2024, arXiv:2409.08861).

    maximise  E[r(x_0)] - kl_weight sum_t E KL(p_theta(.|x_t) || p_ref(.|x_t))

A regression, without a gradient through the chain. Along a trajectory of the policy the adjoint starts at
a_K = -grad r(x_K) / kl_weight and goes backward by one vector-Jacobian product of the frozen network per step,
a_k = (d mu_ref(x_k) / d x_k)^T a_{k+1}; the mean of step k is then fitted to mu_ref(x_k) - s_k^2 a_{k+1}. With the
adjoint *after* the step, the fixed point is the best chain with these stds (Bellman: (M - mu_ref) / s^2 = E grad V(x')
and grad V = (d mu_ref / d x)^T E grad V(x')). The published code takes the adjoint before the step, which is the same
in continuous time and another point in ten steps.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from molrl.algos import Collected, Learner, RowMetrics, checks
from molrl.algos.differentiable import RewardGradient, reward_gradient
from molrl.algos.steps import random_steps, window_of
from molrl.gaussian import Context, sum_per_sample
from molrl.noise import Draw, Key
from molrl.policy import Policy
from molrl.reward_queue import parts
from molrl.task import Task
from molrl.trajectory import Trajectory, Transitions, select


@dataclass(frozen=True, kw_only=True)
class AdjointMatching(RewardGradient):
    """Regression of reverse steps on the lean adjoint.

    Attributes:
        kl_weight: reward that one nat of KL to the reference is worth; the released settings have 0.01.
        early: steps of each trajectory that are trained on, of those before the fraction `split` of it.
        late: the same of those after it.
        split: fraction of the chain.
    """

    kl_weight: float
    early: int
    late: int
    split: float

    def __post_init__(self) -> None:
        checks.require_positive(kl_weight=self.kl_weight, early=self.early, late=self.late)
        checks.require_window(0.0, self.split)
        checks.require_window(self.split, 1.0)

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Transitions]:
        """Roll out and score, and follow the adjoint back; y of the table is the target of the step's mean."""
        task, world = learner.task, learner.task.processes
        rollouts = task.rollout(samples, key)
        trajectory = rollouts.trajectory
        chosen = self.choose_steps(task.policy.sampler.num_steps, samples[rollouts.own], key)
        targets, known = adjoint_targets(task, learner.reference, trajectory, self.kl_weight)
        known = known & ~rollouts.rewards[rollouts.own].isnan()
        keep = chosen.to(known.device) & known
        table = trajectory.transitions(torch.zeros_like(trajectory.log_prob[0]), keep)
        table = replace(table, y=targets[table.step, table.sample])
        lost = world.gather(~known).float().mean().item()
        metrics = {"gradient_lost": lost, **self.held_out_metrics(task, learner.modules, rollouts)}
        queries = 2 * len(rollouts.rewards)  # once with the gradient
        return Collected(table, table.step, rollouts, task.policy, queries, metrics=metrics)

    def loss(self, learner: Learner, batch: Transitions) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute |mu - target|^2 / (2 s^2), half of the paper's loss."""
        kernel = learner.policy.transition(batch)
        with torch.no_grad():
            anchor = learner.reference.transition(batch)
            pull = (anchor.kl(replace(anchor, mean=batch.y)) / anchor.dof).sqrt()
        missed = kernel.kl(replace(kernel, mean=batch.y))
        return missed.mean(), {"missed": missed.detach(), "pull": pull}

    def choose_steps(self, num_steps: int, samples: list[int], key: Key) -> Bool[Tensor, "steps b"]:
        """Choose the steps of each sample to train on: the last KLs to be paid are early, the gradients late."""
        early, late = window_of(num_steps, 0.0, self.split), window_of(num_steps, self.split, 1.0)
        chosen = random_steps(num_steps, samples, key, Draw.TRAIN_STEPS, early, self.early)
        return chosen | random_steps(num_steps, samples, key, Draw.SCORED_STEPS, late, self.late)


def adjoint_targets(
    task: Task, reference: Policy, trajectory: Trajectory, kl_weight: float
) -> tuple[Float[Tensor, "steps b ..."], Bool[Tensor, " b"]]:
    """Return mu_ref(x_k) - s_k^2 a_{k+1} of every step, and which samples have a finite adjoint.

    The frozen network decodes as well, so that the reward is one function of the last state throughout training.
    """
    states, targets, known = trajectory.states, torch.empty_like(trajectory.states[1:]), list[Tensor]()
    for part in parts(states.shape[1], states[0, 0].numel(), states.device):
        context = select(trajectory.context, part)
        adjoint, good = terminal_adjoint(task, reference, states[-1, part], context, kl_weight)
        for k in reversed(range(len(states) - 1)):
            with torch.enable_grad():
                x = states[k, part].clone().requires_grad_()
                kernel = reference.sampler.transition(reference.predict_target, x, reference.at(k, x), context)
                (before,) = torch.autograd.grad(kernel.mean, x, adjoint)
            targets[k, part] = kernel.mean.detach() - kernel.broadcast(kernel.std.square()) * adjoint
            adjoint = kernel.space.project(before, context)
        known.append(good & sum_per_sample(adjoint).isfinite())
    return targets, torch.cat(known)


def terminal_adjoint(
    task: Task, reference: Policy, x: Float[Tensor, "b ..."], context: Context, kl_weight: float
) -> tuple[Float[Tensor, "b ..."], Bool[Tensor, " b"]]:
    """Return -grad r / kl_weight at the last states, zero for rows without a gradient, and which rows have one."""
    sampler = reference.sampler
    with torch.enable_grad():
        last = x.clone().requires_grad_()
        x0 = sampler.predict_x0(reference.predict_target, last, reference.at(sampler.num_steps, last), context)
        _, gradient, known = reward_gradient(task, x0, context)
        (pulled_back,) = torch.autograd.grad(x0, last, gradient)
    return sampler.space.project(-pulled_back / kl_weight, context), known
