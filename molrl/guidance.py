"""Better samples without training, as baselines of the trained policies.

Reward-guided sampling after Zhang and Xu 2023 (arXiv:2304.07132; our reading, as `molrl.algos.rgdm`) chooses each step
among candidates by the reward of their clean estimates. Best of n needs nothing but the finished samples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from molrl.algos import checks
from molrl.algos.candidates import ball_pairs
from molrl.algos.steps import window_of
from molrl.gaussian import Context, Gaussian
from molrl.noise import Draw, Key
from molrl.reward_queue import RewardQueue
from molrl.task import Task, sample_chains


@dataclass(frozen=True)
class GuidedSamples:
    """Finished samples and the number of reward queries that they took."""

    samples: list[Any]
    reward_queries: int


class Guidance(Protocol):
    """A way of drawing samples that queries the reward of the task."""

    def draw(self, task: Task, samples: Sequence[int], key: Key) -> GuidedSamples:
        """Draw one finished sample for each index; it does not depend on the others in the batch."""
        ...


@dataclass(frozen=True, kw_only=True)
class BestOf:
    """Best-of-n sampling: the best of several plain samples.

    Attributes:
        of: n, samples drawn and scored for each that is kept.
    """

    of: int

    def __post_init__(self) -> None:
        checks.require_positive(of=self.of)

    def draw(self, task: Task, samples: Sequence[int], key: Key) -> GuidedSamples:
        """Draw sample i as the best of the plain samples i n to i n + n - 1."""
        rollouts = task.rollout([index * self.of + k for index in samples for k in range(self.of)], key)
        rewards = rollouts.rewards.nan_to_num(-torch.inf).view(-1, self.of)
        best = (rewards.argmax(1) + self.of * torch.arange(len(rewards), device=rewards.device)).tolist()
        return GuidedSamples([rollouts.samples[row] for row in best], len(rollouts.samples))


@dataclass(frozen=True, kw_only=True)
class RewardGuided:
    """Reward-guided sampling: at each step of a window, one of several candidates is kept, by softmax(r / temperature).

    Attributes:
        candidates: J, an even number: they come in pairs around the step.
        radius: rho in (0, 1]: candidates are mean + std (sqrt(1 - rho^2) z + rho v_j) with one z for all and v_j
            uniform in the ball of radius sqrt(dof + 2), so that each coordinate keeps the step's variance.
        temperature: in units of the reward.
        first: share of the chain after which steps are guided (0 is the prior, 1 the end).
        last: share of the chain up to which they are.
        lookahead: deterministic steps toward the data before the clean estimate of a candidate is scored.
    """

    candidates: int
    radius: float
    temperature: float
    first: float
    last: float
    lookahead: int

    def __post_init__(self) -> None:
        checks.require_positive(candidates=self.candidates, radius=self.radius, temperature=self.temperature)
        checks.require_non_negative(lookahead=self.lookahead)
        checks.require_window(self.first, self.last)
        if self.candidates % 2:
            raise ValueError(f"candidates: got {self.candidates}, need an even number (they come in pairs)")
        if self.radius > 1:
            raise ValueError(f"radius: got {self.radius}, allowed above 0 to 1, or the steps would grow too long")

    def draw(self, task: Task, samples: Sequence[int], key: Key) -> GuidedSamples:
        """Run the chain of the policy with a choice among candidates at each step of the window."""
        window = window_of(task.policy.sampler.num_steps, self.first, self.last)

        def choose(kernel: Gaussian, step: int, noise: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
            if step not in window:
                return kernel.sample(noise)
            candidates = self.candidates_around(kernel, step, noise, samples, key)
            rewards = self.score(task, candidates, step + 1, kernel.context)
            return candidates[self.choose(rewards, samples, key, step), torch.arange(len(samples), device=noise.device)]

        trajectory = sample_chains(task.policy, task.decoder, samples, key, task.device, choose)
        finished = list(task.decoder.decode(trajectory.final, trajectory.context))
        return GuidedSamples(finished, self.candidates * len(window) * len(samples))

    def candidates_around(
        self, kernel: Gaussian, step: int, noise: Float[Tensor, "b ..."], samples: Sequence[int], key: Key
    ) -> Float[Tensor, "j b ..."]:
        """Draw the candidates of a step, in pairs centre + v and centre - v."""
        half = self.candidates // 2
        centre = kernel.sample(math.sqrt(1 - self.radius**2) * noise)
        reach = kernel.broadcast(self.radius * kernel.std * (kernel.dof + 2).sqrt())
        offsets = ball_pairs(centre, kernel.context, kernel.space, samples, key, half, first_pair=step * half)
        return centre + reach * offsets

    def score(
        self, task: Task, candidates: Float[Tensor, "j b ..."], step: int, context: Context
    ) -> Float[Tensor, "j b"]:
        """Score the clean estimates of candidates at grid point `step`."""
        queue = RewardQueue(task.reward)
        for candidate in candidates:
            x0 = task.policy.lookahead_x0(candidate, task.policy.at(step, candidate), self.lookahead, context)
            queue.submit(task.decoder.decode(x0, context))
        return queue.results().to(candidates.device).view(len(candidates), -1)

    def choose(self, rewards: Float[Tensor, "j b"], samples: Sequence[int], key: Key, step: int) -> Int[Tensor, " b"]:
        """Choose a candidate of each sample from softmax(r / temperature), by the Gumbel trick; NaN is never chosen."""
        draws = [key.generator(sample, Draw.CHOICE.at(step)).gumbel(size=len(rewards)) for sample in samples]
        gumbel = torch.from_numpy(np.stack(draws, 1))
        return (rewards.cpu().double() / self.temperature).nan_to_num(-1e300).add(gumbel).argmax(0).to(rewards.device)
