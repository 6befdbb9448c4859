"""Better samples without training: what the trained policies are to be compared with.

Reward-guided sampling after Zhang and Xu 2023 (arXiv:2304.07132; our reading, as `molrl.algos.rgdm`): each step is
chosen among candidates by the reward of where they lead. With a radius of 1 the candidates are independent draws of the
step, which is the posterior-mean method of Li et al. 2024 (SVDD, arXiv:2408.08252). Best of n needs nothing but the
finished samples.
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
from molrl.algos.candidates import in_ball
from molrl.algos.steps import window_of
from molrl.gaussian import Context, Gaussian
from molrl.noise import Key
from molrl.reward_queue import RewardQueue
from molrl.task import Task

BALL_STREAM = -1000  # keyed draws below this one are the candidates
CHOICE_STREAM = -7  # and with these step numbers down, the choices between them


@dataclass(frozen=True)
class Drawn:
    """Finished samples and how often the reward was asked for them."""

    samples: list[Any]
    reward_queries: int


class Guidance(Protocol):
    """A way of drawing samples that asks the task's reward."""

    def draw(self, task: Task, samples: Sequence[int], key: Key) -> Drawn:
        """One finished sample for each index; it does not depend on the others in the batch."""
        ...


@dataclass(frozen=True, kw_only=True)
class BestOf:
    """The best of several plain samples.

    Attributes:
        of: n, samples drawn and scored for each that is kept.
    """

    of: int

    def __post_init__(self) -> None:
        checks.require_positive(of=self.of)

    def draw(self, task: Task, samples: Sequence[int], key: Key) -> Drawn:
        """Sample i is the best of those with the indices i n to i n + n - 1."""
        rollouts = task.rollout([index * self.of + k for index in samples for k in range(self.of)], key)
        rewards = rollouts.rewards.nan_to_num(-torch.inf).view(-1, self.of)
        best = (rewards.argmax(1) + self.of * torch.arange(len(rewards), device=rewards.device)).tolist()
        return Drawn([rollouts.samples[row] for row in best], len(rollouts.samples))


@dataclass(frozen=True, kw_only=True)
class RewardGuided:
    """At each step of a window, one of several candidates with probability ~ exp(r / temperature).

    Attributes:
        candidates: J, an even number: they come in pairs around the step.
        radius: rho in (0, 1]: candidates are mean + std (sqrt(1 - rho^2) z + rho v_j) with one z for all and v_j
            uniform in the ball of radius sqrt(dof + 2), so that each coordinate keeps the step's variance.
        temperature: in units of the reward.
        first: share of the chain after which steps are guided (0 is the prior, 1 the end).
        last: share of the chain up to which they are.
        lookahead: deterministic steps toward the data before a candidate's clean estimate is scored.
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

    @torch.no_grad()
    def draw(self, task: Task, samples: Sequence[int], key: Key) -> Drawn:
        """The chain of the policy, with choices on the way."""
        decoder, policy, sampler = task.decoder, task.policy, task.policy.sampler
        context = decoder.draw_context(samples, key)
        shape = decoder.state_shape(context)
        context = {name: value.to(task.device) for name, value in context.items()}
        guided = window_of(sampler.num_steps, self.first, self.last)
        x = sampler.prior(key.normal(samples, 1, shape).to(task.device), context)
        for k in range(sampler.num_steps):
            kernel = sampler.transition(policy.predict_noise, x, policy.at(k, x), context)
            noise = key.normal(samples, k + 2, shape).to(x)
            if k not in guided:
                x = kernel.sample(noise)
                continue
            candidates = self.around(kernel, noise, samples, key, k, shape)
            chosen = self.choose(self.score(task, candidates, k + 1, context), samples, key, k)
            x = candidates[chosen, torch.arange(len(samples), device=x.device)]
        final = sampler.predict_x0(policy.predict_noise, x, policy.at(sampler.num_steps, x), context)
        return Drawn(list(decoder.decode(final, context)), self.candidates * len(guided) * len(samples))

    def around(
        self, kernel: Gaussian, noise: Float[Tensor, "b ..."], samples: Sequence[int], key: Key, k: int, shape: Any
    ) -> Float[Tensor, "j b ..."]:
        """Candidates of step k, in pairs v, -v."""
        half, space, context = self.candidates // 2, kernel.space, kernel.context
        centre = kernel.sample(math.sqrt(1 - self.radius**2) * noise)
        reach = kernel.broadcast(self.radius * kernel.std * (kernel.dof + 2).sqrt())
        found = []
        for j in range(half):
            stream = BALL_STREAM - 2 * (k * half + j)
            gaussian = key.normal(samples, stream, shape).to(centre)
            uniform = torch.special.ndtr(key.normal(samples, stream - 1, (1,))).squeeze(1).to(centre)
            found.append(reach * in_ball(gaussian, uniform, space, context))
        away = torch.stack(found)
        return torch.cat([centre + away, centre - away])

    def score(
        self, task: Task, candidates: Float[Tensor, "j b ..."], step: int, context: Context
    ) -> Float[Tensor, "j b"]:
        """Rewards of where the candidates lead."""
        queue = RewardQueue(task.reward)
        for candidate in candidates:
            clean = task.policy.lookahead_x0(candidate, task.policy.at(step, candidate), self.lookahead, context)
            queue.submit(task.decoder.decode(clean, context))
        return queue.results().to(candidates.device).view(len(candidates), -1)

    def choose(self, rewards: Float[Tensor, "j b"], samples: Sequence[int], key: Key, k: int) -> Int[Tensor, " b"]:
        """argmax of r / temperature plus Gumbel noise, which is a draw from the softmax; NaN is never chosen."""
        draws = [key.generator(sample, CHOICE_STREAM - k).gumbel(size=len(rewards)) for sample in samples]
        gumbel = torch.from_numpy(np.stack(draws, 1))
        return (rewards.cpu().double() / self.temperature).nan_to_num(-1e300).add(gumbel).argmax(0).to(rewards.device)
