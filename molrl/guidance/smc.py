"""Sequential Monte Carlo: Feynman-Kac steering of a chain (Singhal et al. 2025, arXiv:2501.06848, Alg. 1).

Plain chains are weighted on the way by the rewards of their clean estimates, as Wu et al. 2023 do (TDS,
arXiv:2306.17775, there with gradients in the proposal, which this has not), and resampled where the weights have become
unequal. With many particles the samples follow the tilt p(x_0) exp(r(x_0) / temperature) / Z of the chain's own law.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from molrl.algos import checks
from molrl.algos.steps import spread_steps
from molrl.gaussian import Gaussian
from molrl.guidance.estimates import require_noise, score_estimates
from molrl.guidance.particles import ParticleWeights, effective_size, normalised, systematic
from molrl.guidance.protocol import GuidedSamples
from molrl.noise import ChainNoise, Draw, Key
from molrl.reward_queue import RewardQueue
from molrl.task import Task
from molrl.trajectory import move_context


@dataclass(frozen=True)
class Population:
    """The finished particles of s systems.

    Attributes:
        samples: s P finished samples, system by system.
        rewards: [s, p], NaN where a sample has none.
        weights: [s, p], which sum to one in each system.
        log_evidence: [s]; exp of it is an unbiased estimate of E[exp(r / temperature)].
        effective: [s], effective sample size of the weights at the end.
        resamplings: of all systems together.
        reward_queries: samples and clean estimates that were scored.
    """

    samples: Sequence[Any]
    rewards: Float[Tensor, "s p"]
    weights: Float[Tensor, "s p"]
    log_evidence: Float[Tensor, " s"]
    effective: Float[Tensor, " s"]
    resamplings: int
    reward_queries: int


@dataclass(frozen=True, kw_only=True)
class SMC:
    """Sequential Monte Carlo with the rewards of clean estimates: systems of particles, of which some are kept.

    Samples i kept to i kept + kept - 1 come from system i: they share its condition, and their particles compete. A
    system depends on its own index alone. It takes particles times (scored + 1) reward queries.

    Attributes:
        particles: P, chains of a system.
        kept: samples that are drawn from the P particles of a system, by their weights. P keeps a population, which
            may hold the same particle more than once; 1 makes independent samples.
        temperature: in units of the reward.
        threshold: fraction of P below which the effective sample size makes a system resample: 0 never, 1 always.
        first: share of the chain after which clean estimates are scored (0 is the prior, 1 the end).
        last: share of the chain up to which they are.
        scored: number of steps after which they are, spread evenly over that window.
        lookahead: deterministic steps toward the data before a clean estimate is scored.
    """

    particles: int
    kept: int
    temperature: float
    threshold: float
    first: float
    last: float
    scored: int
    lookahead: int

    def __post_init__(self) -> None:
        checks.require_positive(particles=self.particles, kept=self.kept, temperature=self.temperature)
        checks.require_positive(scored=self.scored)
        checks.require_non_negative(lookahead=self.lookahead)
        checks.require_window(self.first, self.last)
        if self.kept > self.particles:
            raise ValueError(f"kept: got {self.kept}, allowed 1 to the number of particles, {self.particles}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold: got {self.threshold}, allowed 0 (never resample) to 1 (always)")

    def draw(self, task: Task, samples: Sequence[int], key: Key) -> GuidedSamples:
        """Run the systems that the samples come from, and draw each system's samples by their weights."""
        systems = list(dict.fromkeys(sample // self.kept for sample in samples))
        population = self.run(task, systems, key)
        uniform = self.uniform(systems, key, task.policy.sampler.num_steps)
        chosen = systematic(population.weights, uniform, self.kept).tolist()
        row = {system: number for number, system in enumerate(systems)}
        places = [(row[sample // self.kept], sample % self.kept) for sample in samples]
        finished = [population.samples[system * self.particles + chosen[system][k]] for system, k in places]
        facts = {
            f"effective particles of {self.particles}": population.effective.mean().item(),
            "resamplings of a system": population.resamplings / len(systems),
        }
        return GuidedSamples(finished, population.reward_queries, facts)

    def run(self, task: Task, systems: Sequence[int], key: Key) -> Population:
        """Run systems to the end of their chains; particle p of system s has the noise of the plain sample s P + p."""
        require_noise(task.policy)
        context = task.decoder.draw_context([system for system in systems for _ in range(self.particles)], key)
        shape, context = task.decoder.state_shape(context), move_context(context, task.device)
        rows = [system * self.particles + p for system in systems for p in range(self.particles)]
        scored = spread_steps(task.policy.sampler.num_steps, self.first, self.last, self.scored)
        weights = ParticleWeights(len(systems), self.particles)

        def choose(kernel: Gaussian, step: int, noise: Float[Tensor, "b ..."]) -> tuple[Tensor, Tensor | None]:
            states = kernel.sample(noise)
            if step not in scored:
                return states, None
            rewards = score_estimates(task, states.unsqueeze(0), step + 1, self.lookahead, kernel.context)
            weights.reweight(self.potentials(rewards))
            ancestors = weights.resample(self.threshold, self.uniform(systems, key, step))
            places = ancestors + self.particles * torch.arange(len(systems)).unsqueeze(1)
            parents = places.flatten().to(states.device)
            return states[parents], parents

        trajectory = task.policy.rollout(context, ChainNoise(key, rows, shape, task.device), choose)
        queue = RewardQueue(task.reward)
        queue.submit(task.decoder.decode(trajectory.final, trajectory.context))
        rewards = queue.results()
        weights.finish(self.potentials(rewards))
        return Population(
            queue.samples,
            rewards.view(len(systems), -1),
            normalised(weights.log_weights),
            weights.evidence(),
            effective_size(weights.log_weights),
            weights.resamplings,
            len(rows) * (len(scored) + 1),
        )

    def potentials(self, rewards: Tensor) -> Float[Tensor, "s p"]:
        """Compute r / temperature, in float64 on the CPU."""
        return rewards.cpu().double().view(-1, self.particles) / self.temperature

    @staticmethod
    def uniform(systems: Sequence[int], key: Key, step: int) -> Float[Tensor, " s"]:
        """Draw the random number of a resampling for each system."""
        draws = [key.generator(system, Draw.CHOICE.at(step)).random() for system in systems]
        return torch.tensor(draws, dtype=torch.float64)
