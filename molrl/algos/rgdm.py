"""Reward-guided training: our reconstruction after Zhang and Xu 2023 (arXiv:2304.07132).

No code of the paper is public, and reviews of it name no table of settings; this is what its published description
leads to, not a reproduction. A reverse step is pulled toward the pay-off distribution q(y) ~ exp(r(y) / tau) on a ball
around it (reward-augmented maximum likelihood: Norouzi et al. 2016, arXiv:1609.00150). With candidates
y_j = y + R u_j, u_j uniform in the unit ball of the noise space, and weights w = softmax(r / tau), the loss
-sum_j w_j log p(y_j | x) has the gradient of a regression of the mean on m + sum_j w_j (y_j - y), m the mean of the
ordinary step.

`RGDM` composes a source of steps (`molrl.algos.step_sources`) with a pull strategy (`molrl.algos.pulls`).
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from molrl.advantages import MIN_STD
from molrl.algos import Collected, Learner, RowMetrics, checks
from molrl.algos.pulls import CandidatePull, GradientPull, PullStrategy
from molrl.algos.step_sources import Source, step_source
from molrl.algos.steps import random_steps, window_of
from molrl.gaussian import sum_per_sample
from molrl.noise import Draw, Key
from molrl.task import Task
from molrl.trajectory import Transitions


@dataclass(frozen=True, kw_only=True)
class RGDM:
    """Reward-guided training on reverse steps.

    Attributes:
        source: where the steps come from. "policy": reverse steps of fresh rollouts; nothing anchors them but the KL
            term. "replay": steps of the noising process from the rollouts' finished samples. "data": the same from real
            samples, which anchors the policy to the data.
        guidance: "candidates" (any reward) or "gradient" (a differentiable one: the limit of many candidates).
        candidates: J, an even number: they come in pairs y + v, y - v, so that a flat reward moves nothing.
        radius: rho. Candidates lie within R = rho std sqrt(dof + 2) of the step: each coordinate moves with a std of
            rho times the step's own, whatever the number of dimensions. The larger rho, the more noise they have beyond
            what the network expects: where `payoff_reward`, their mean reward, is far from that of the samples, the
            scored states are no longer those that steps lead to.
        temperature: tau, in standard deviations of the reward over the rollouts.
        states: steps of each sample around which candidates are scored.
        first: fraction of the chain after which steps are scored (0 is the prior, 1 the end): earlier, the clean
            estimate that is scored is too blurred.
        last: fraction of the chain up to which steps are scored: later, a candidate cannot change the outcome.
        lookahead: deterministic steps from a candidate toward the data before its clean estimate is scored: the plain
            estimate of an early state is too blurred for most rewards.
        held: other random steps of each sample, from the whole chain, that are learned from with no pull: they keep the
            rest of the chain where it is while the scored part moves.
        kl_weight: weight of the exact per-step KL to the reference: what the pull is held back by.
    """

    source: Source
    guidance: Literal["candidates", "gradient"]
    candidates: int
    radius: float
    temperature: float
    states: int
    first: float
    last: float
    lookahead: int
    held: int
    kl_weight: float

    def __post_init__(self) -> None:
        checks.require_positive(candidates=self.candidates, radius=self.radius)
        checks.require_positive(temperature=self.temperature, states=self.states)
        if self.candidates % 2:
            raise ValueError(f"candidates: got {self.candidates}, need an even number (they come in pairs)")
        checks.require_window(self.first, self.last)
        checks.require_non_negative(kl_weight=self.kl_weight, held=self.held, lookahead=self.lookahead)

    @property
    def strategy(self) -> PullStrategy:
        """Return the strategy that `guidance` names."""
        if self.guidance == "gradient":
            return GradientPull(radius=self.radius, temperature=self.temperature, lookahead=self.lookahead)
        return CandidatePull(
            candidates=self.candidates, radius=self.radius, temperature=self.temperature, lookahead=self.lookahead
        )

    def modules(self, task: Task) -> nn.ModuleDict:
        """Return no modules; refuse a task without the gradient or the data that the settings need."""
        if self.guidance == "gradient" and not getattr(task.reward, "differentiable", False):
            raise ValueError(f"guidance=gradient: the reward of task {task.name!r} has no gradient; use candidates")
        if self.source == "data" and task.data is None:
            raise ValueError(f"source=data: task {task.name!r} has no data set; use policy or replay")
        return nn.ModuleDict()

    def learning_rate(self, name: str) -> float:
        """Return zero, for there is no module."""
        return 0.0

    def collect(self, learner: Learner, samples: list[int], key: Key) -> Collected[Transitions]:
        """Pull some steps toward higher rewards; y of the table is the target of the step's mean."""
        task, world = learner.task, learner.task.processes
        rollouts = task.rollout(samples, key)
        samples, num_steps = samples[rollouts.own], task.policy.sampler.num_steps
        source = step_source(self.source, task, rollouts, samples, key)
        scored, held = self.choose_steps(num_steps, samples, key)
        steps, kernel = source.steps(scored)
        held_steps, held_kernel = source.steps(held)
        pull = self.strategy.pull(task, steps, kernel, reward_scale(rollouts.rewards), samples, key)
        table = replace(steps, y=kernel.mean + pull.displacement)[pull.known.nonzero().squeeze(1)]
        row_order = table.step
        if world.any(len(table) > 0):
            table = table.join(replace(held_steps, y=held_kernel.mean))
            row_order = torch.cat([row_order, held_steps.step + num_steps])
        length = (sum_per_sample(pull.displacement.square()) / kernel.dof).sqrt() / kernel.std
        metrics = {**pull.metrics, "pull": world.gather(length).mean().item()}
        queries = len(rollouts.rewards) + pull.queries
        return Collected(table, row_order, rollouts, task.policy, queries, pull.seconds, metrics)

    def loss(self, learner: Learner, batch: Transitions) -> tuple[Float[Tensor, ""], RowMetrics]:
        """Compute |mu - target|^2 / (2 std^2) + kl_weight KL(p || reference)."""
        kernel = learner.policy.transition(batch)
        missed = kernel.kl(replace(kernel, mean=batch.y))
        with torch.no_grad():
            anchor = learner.reference.transition(batch)
        return missed.mean() + self.kl_weight * kernel.kl(anchor).mean(), {"missed": missed.detach()}

    def choose_steps(
        self, num_steps: int, samples: list[int], key: Key
    ) -> tuple[Bool[Tensor, "steps b"], Bool[Tensor, "steps b"]]:
        """Choose random steps of each sample: `states` in the window to score, and `held` others of the whole chain."""
        window = window_of(num_steps, self.first, self.last)
        scored = random_steps(num_steps, samples, key, Draw.SCORED_STEPS, window, self.states)
        held = random_steps(num_steps, samples, key, Draw.HELD_STEPS, range(num_steps), self.held)
        return scored, held & ~scored


def reward_scale(rewards: Float[Tensor, " n"]) -> float:
    """Return the standard deviation of the rewards that are known; 1 if none is."""
    known = rewards[~rewards.isnan()]
    return max(known.std(correction=0).item(), MIN_STD) if len(known) else 1.0
