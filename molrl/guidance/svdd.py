"""SVDD: soft value-based decoding of a chain, with posterior-mean values (Li et al. 2024, arXiv:2408.08252, Alg. 1).

The soft-optimal policy chooses p(y | x) exp(v(y) / temperature), v(y) being the soft value of y. It is approximated by
a choice among independent draws of p(. | x), with the reward of the clean estimate of y in the place of v(y) (SVDD-PM).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.algos import checks
from molrl.algos.steps import spread_steps
from molrl.gaussian import Gaussian
from molrl.guidance.estimates import choose_by_reward, require_noise, score_estimates
from molrl.guidance.protocol import GuidedSamples
from molrl.noise import ChainNoise, Key
from molrl.task import Task
from molrl.trajectory import move_context


@dataclass(frozen=True, kw_only=True)
class SVDD:
    """Soft value-based decoding: one of several independent candidates is kept at some steps, by softmax(r / T).

    A sample takes `candidates` times `guided` reward queries. The noise of candidate j of sample i is that of the plain
    sample i M + j, so that a sample does not depend on the batch, and one candidate makes plain samples.

    Attributes:
        candidates: M, draws of a guided step.
        temperature: T, the paper's alpha, in units of the reward.
        first: share of the chain after which steps are guided (0 is the prior, 1 the end).
        last: share of the chain up to which they are.
        guided: number of guided steps, spread evenly over that window; the paper guides every step.
        lookahead: deterministic steps toward the data before the clean estimate of a candidate is scored; 0 in the
            paper.
    """

    candidates: int
    temperature: float
    first: float
    last: float
    guided: int
    lookahead: int

    def __post_init__(self) -> None:
        checks.require_positive(candidates=self.candidates, temperature=self.temperature, guided=self.guided)
        checks.require_non_negative(lookahead=self.lookahead)
        checks.require_window(self.first, self.last)

    def draw(self, task: Task, samples: Sequence[int], key: Key) -> GuidedSamples:
        """Run the chain of the policy with a choice among candidates at each guided step."""
        require_noise(task.policy)
        guided = spread_steps(task.policy.sampler.num_steps, self.first, self.last, self.guided)
        context = task.decoder.draw_context(samples, key)
        shape, context = task.decoder.state_shape(context), move_context(context, task.device)
        noises = [
            ChainNoise(key, [sample * self.candidates + j for sample in samples], shape, task.device)
            for j in range(self.candidates)
        ]

        def choose(kernel: Gaussian, step: int, noise: Float[Tensor, "b ..."]) -> tuple[Tensor, Tensor | None]:
            if step not in guided:
                return kernel.sample(noise), None
            others = (kernel.sample(candidate(step + 1)) for candidate in noises[1:])
            candidates = torch.stack([kernel.sample(noise), *others])
            rewards = score_estimates(task, candidates, step + 1, self.lookahead, kernel.context)
            chosen = choose_by_reward(rewards, self.temperature, samples, key, step)
            return candidates[chosen, torch.arange(len(samples), device=noise.device)], None

        trajectory = task.policy.rollout(context, noises[0], choose)
        finished = list(task.decoder.decode(trajectory.final, trajectory.context))
        return GuidedSamples(finished, self.candidates * len(guided) * len(samples))
