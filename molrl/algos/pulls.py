"""Pulls: how far, and which way, the mean of a reverse step is to move for a higher reward.

Both strategies aim at the pay-off distribution q(y) ~ exp(r(y) / tau) on a ball of radius R around the step (Norouzi et
al. 2016, arXiv:1609.00150).
"""

import time
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from molrl.algos.candidates import ball_pairs
from molrl.algos.steps import row_numbers
from molrl.gaussian import Gaussian, sum_per_sample
from molrl.noise import Key
from molrl.reward_queue import RewardQueue, check_rewards, parts
from molrl.samplers import Sampler
from molrl.task import Metrics, Task
from molrl.trajectory import Transitions


@dataclass(frozen=True)
class Pull:
    """The displacement of some steps, and what it cost.

    Attributes:
        displacement: of each step's mean [m, ...].
        known: True for the steps that have one [m].
        queries: reward evaluations, by all processes.
        seconds: time they took.
        metrics: to be logged.
    """

    displacement: Float[Tensor, "m ..."]
    known: Bool[Tensor, " m"]
    queries: int
    seconds: float
    metrics: Metrics


class PullStrategy(Protocol):
    """A way to find the displacement that raises the reward."""

    def pull(
        self, task: Task, steps: Transitions, kernel: Gaussian, scale: float, samples: list[int], key: Key
    ) -> Pull:
        """Return the displacement of steps that were drawn from `kernel`; rewards count in units of `scale`."""
        ...


@dataclass(frozen=True, kw_only=True)
class CandidatePull:
    """The mean of scored candidates, sum_j w_j (y_j - y), for any reward; the attributes are those of `RGDM`."""

    candidates: int
    radius: float
    temperature: float
    lookahead: int

    def pull(
        self, task: Task, steps: Transitions, kernel: Gaussian, scale: float, samples: list[int], key: Key
    ) -> Pull:
        """Draw candidates around each step, score them, and average them by their pay-off weights."""
        offsets = self.offsets(task.policy.sampler, steps, kernel.std, samples, key)
        rewards, seconds = self.score(task, steps, offsets)
        weights, known = payoff_weights(rewards / scale, self.temperature)
        half = self.candidates // 2  # by pairs, so that equal weights pull by exactly nothing
        displacement = torch.einsum("jm,jm...->m...", weights[:half] - weights[half:], offsets[:half])
        all_rewards = task.processes.gather(rewards, dim=1)
        return Pull(displacement, known, all_rewards.numel(), seconds, self.metrics(all_rewards, scale))

    def offsets(
        self, sampler: Sampler, steps: Transitions, std: Float[Tensor, " m"], samples: list[int], key: Key
    ) -> Float[Tensor, "j m ..."]:
        """Draw R u_j and -R u_j, with u_j uniform in the unit ball of the noise space."""
        space, context, rows = sampler.space, steps.context, row_numbers(steps, samples, sampler.num_steps)
        radius = self.radius * std * (space.dof(steps.x, context) + 2).sqrt()
        unit = ball_pairs(steps.x, context, space, rows, key, self.candidates // 2)
        return unit * radius.view(1, -1, *[1] * (steps.x.dim() - 1))

    @torch.no_grad()
    def score(self, task: Task, steps: Transitions, offsets: Float[Tensor, "j m ..."]) -> tuple[Tensor, float]:
        """Return the rewards [j, m] of the clean estimates of all candidates, and the seconds that these took."""
        context, step, queue = steps.context, steps.step + 1, RewardQueue(task.reward)
        for offset in offsets:
            for part in parts(len(steps), steps.x.shape[1:].numel(), steps.x.device):
                part_context = {name: value[part] for name, value in context.items()}
                x0 = task.policy.lookahead_x0(steps.y[part] + offset[part], step[part], self.lookahead, part_context)
                queue.submit(task.decoder.decode(x0, part_context))
        rewards = queue.results().to(steps.x)
        return rewards.view(len(offsets), -1), queue.seconds

    def metrics(self, rewards: Float[Tensor, "j m"], scale: float) -> Metrics:
        """Summarise the rewards of the candidates of all processes."""
        weights, known = payoff_weights(rewards / scale, self.temperature)
        return {
            "payoff_ess": (1 / weights.square().sum(0)).nan_to_num(posinf=0.0).mean().item() / self.candidates,
            "payoff_lost": rewards.isnan().float().mean().item(),
            "payoff_flat": (rewards.amax(0) == rewards.amin(0)).float().mean().item(),
            "payoff_reward": rewards.nanmean().item(),
            "payoff_std": rewards.where(known, 0).std(0, correction=0).nanmean().nan_to_num(0).item(),
        }


@dataclass(frozen=True, kw_only=True)
class GradientPull:
    """R^2 / (tau (d + 2)) times the gradient of the reward at y, no longer than R.

    This is the limit of many candidates, to first order in the spread of their rewards; the reward must be
    differentiable. The attributes are those of `RGDM`.
    """

    radius: float
    temperature: float
    lookahead: int

    def pull(
        self, task: Task, steps: Transitions, kernel: Gaussian, scale: float, samples: list[int], key: Key
    ) -> Pull:
        """Scale the gradient of the reward at each y, and shorten what is longer than the radius."""
        rewards, gradient, seconds = self.reward_gradient(task, steps)
        reach = self.radius * kernel.std  # R / sqrt(d + 2)
        direction = kernel.space.project(gradient / scale, steps.context)
        displacement = direction * kernel.broadcast(reach**2 / self.temperature)
        excess = sum_per_sample(displacement.square()).sqrt() / (reach * (kernel.dof + 2).sqrt())
        known = excess.isfinite() & rewards.isfinite()
        shortened = displacement / kernel.broadcast(excess.clamp(min=1))
        displacement = torch.where(kernel.broadcast(known.float()) > 0, shortened, 0.0)
        lost = task.processes.gather(~known)
        return Pull(displacement, known, len(lost), seconds, {"payoff_lost": lost.float().mean().item()})

    def reward_gradient(
        self, task: Task, steps: Transitions
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, "m ..."], float]:
        """Return the rewards of the clean estimates of y, their gradients in y, and the seconds the reward took."""
        rewards, gradient, seconds = steps.y.new_empty(len(steps)), torch.empty_like(steps.y), 0.0
        for part in parts(len(steps), steps.y.shape[1:].numel(), steps.y.device):
            context = {name: value[part] for name, value in steps.context.items()}
            y = steps.y[part].clone().requires_grad_()
            with torch.enable_grad():
                x0 = task.policy.lookahead_x0(y, steps.step[part] + 1, self.lookahead, context)
                start = time.perf_counter()
                values = task.reward(task.decoder.decode(x0, context))
                seconds += time.perf_counter() - start
                rewards[part] = check_rewards(values, len(y))
                (gradient[part],) = torch.autograd.grad(values.sum(), y)
        return rewards, gradient, seconds


def payoff_weights(
    rewards: Float[Tensor, "j m"], temperature: float
) -> tuple[Float[Tensor, "j m"], Bool[Tensor, " m"]]:
    """Return the weights softmax(r / tau) over the candidates of each state, and which states have a score at all.

    A candidate that could not be scored has no weight, and neither has its mirror image: else the missing half of a
    pair would pull by itself. A state whose candidates all score the same is not pulled; it stays in the table, where
    it holds the policy in place.
    """
    unknown = rewards.isnan()
    unknown = unknown | unknown.roll(len(rewards) // 2, 0)
    weights = torch.softmax((rewards / temperature).masked_fill(unknown, -torch.inf), 0)
    return weights.nan_to_num(0), ~unknown.all(0)
