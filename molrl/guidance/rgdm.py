"""Reward-guided sampling (after Zhang and Xu 2023, arXiv:2304.07132; our reading, as `molrl.algos.rgdm`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.algos import checks
from molrl.algos.candidates import ball_pairs
from molrl.algos.steps import window_of
from molrl.gaussian import Gaussian
from molrl.guidance.estimates import choose_by_reward, require_noise, score_estimates
from molrl.guidance.protocol import GuidedSamples
from molrl.noise import Key
from molrl.task import Task, sample_chains


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
        require_noise(task.policy)
        window = window_of(task.policy.sampler.num_steps, self.first, self.last)

        def choose(kernel: Gaussian, step: int, noise: Float[Tensor, "b ..."]) -> tuple[Tensor, Tensor | None]:
            if step not in window:
                return kernel.sample(noise), None
            candidates = self.candidates_around(kernel, step, noise, samples, key)
            rewards = score_estimates(task, candidates, step + 1, self.lookahead, kernel.context)
            chosen = choose_by_reward(rewards, self.temperature, samples, key, step)
            return candidates[chosen, torch.arange(len(samples), device=noise.device)], None

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
